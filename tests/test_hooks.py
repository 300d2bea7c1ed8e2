"""What the hooks of coding agents report, run as their tools run them, to a server that listens.

The inputs in `data/hooks/` are what Claude Code 2.1.332 and Codex 0.171.0 wrote, folders aside.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
HOOKS = ROOT / "docs" / "hooks"
DATA = Path(__file__).parent / "data" / "hooks"
PASSED, FAILED, COMMITTED = {"passed": True}, {"passed": False}, {"thumb": "up"}
REVERTED = [{"passed": None}, {"thumb": "down"}]
REPORTED = [PASSED, FAILED, COMMITTED, None, FAILED, FAILED, FAILED, PASSED, PASSED, None, REVERTED]
"""Of each input in the files; None: nothing."""


COMPILED = Path(tempfile.gettempdir()) / f"pointsman-hooks-{os.getpid()}"


@pytest.fixture(scope="module", autouse=True)
def _no_traces() -> Iterator[None]:
    """What Python compiles lies in no folder of the project."""
    yield
    shutil.rmtree(COMPILED, ignore_errors=True)


@dataclass
class Listener:
    """A server that keeps what it is sent."""

    port: int = 0
    got: list[tuple[str, str | None, Any]] = field(default_factory=list)
    answer: threading.Event = field(default_factory=threading.Event)

    @property
    def said(self) -> Any:
        """What the last request said, if there was one; it is forgotten then."""
        return self.got.pop()[2] if self.got else None


@contextmanager
def listener() -> Iterator[Listener]:
    found = Listener()
    found.answer.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.got.append((self.path, self.headers["authorization"], json.loads(body)))
            found.answer.wait(20)
            try:
                self.send_response(202)
                self.send_header("content-length", "0")
                self.end_headers()
            except OSError:  # it has gone
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield found
    found.answer.set()
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.fixture
def sidecar_door() -> Iterator[Listener]:
    with listener() as found:
        yield found


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """The script in this process, for what needs no process of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HOOKS))
        patch.setattr(sys, "pycache_prefix", str(COMPILED))
        yield importlib.import_module("pointsman_hook")


def hook(told: object, port: int, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script as a tool does, with what it is told on stdin."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("POINTSMAN_")}
    ours = {"POINTSMAN_URL": f"http://127.0.0.1:{port}", "PYTHONPYCACHEPREFIX": str(COMPILED)}
    return subprocess.run(
        [sys.executable, str(HOOKS / "pointsman_hook.py")],
        input=told if isinstance(told, str) else json.dumps(told),
        env=inherited | ours | environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def inputs(tool: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / f"{tool}.jsonl").read_text().splitlines()]


def claude_code(command: str, exit_code: int = 0, output: str = "") -> dict[str, Any]:
    """What Claude Code tells of a command."""
    whole, failed = inputs("claude-code")[:2]
    found = dict(failed if exit_code else whole)
    found["tool_input"] = {"command": command, "description": "x"}
    if exit_code:
        return found | {"error": f"Exit code {exit_code}\n{output}"}
    return found | {"tool_response": {**found["tool_response"], "stdout": output}}


def test_what_claude_code_tells_becomes_labels_of_its_session(sidecar_door: Listener) -> None:
    for told, reported in zip(inputs("claude-code"), REPORTED, strict=True):
        done = hook(told, sidecar_door.port)

        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        got, sidecar_door.got = sidecar_door.got, []
        path = f"/v1/router/episodes/{told['session_id']}/outcome"
        assert got == ([] if reported is None else [(path, None, reported)]), told


def test_what_codex_tells_becomes_labels_with_exit_codes_of_its_transcript(
    sidecar_door: Listener,
) -> None:
    for told, reported in zip(inputs("codex"), REPORTED, strict=True):
        done = hook(
            told | {"transcript_path": str(DATA / "codex-rollout.jsonl")}, sidecar_door.port
        )

        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        got, sidecar_door.got = sidecar_door.got, []
        path = f"/v1/router/episodes/{told['session_id']}/outcome"
        assert got == ([] if reported is None else [(path, None, reported)]), told


def test_a_transcript_that_is_written_a_moment_later_is_waited_for(
    sidecar_door: Listener, tmp_path: Path
) -> None:
    told = inputs("codex")[2]  # a commit
    transcript = tmp_path / "rollout.jsonl"
    transcript.write_text("")

    def write() -> None:
        time.sleep(0.15)
        transcript.write_text((DATA / "codex-rollout.jsonl").read_text())

    with_it = threading.Thread(target=write)
    with_it.start()
    hook(told | {"transcript_path": str(transcript)}, sidecar_door.port)
    with_it.join()

    assert sidecar_door.said == COMMITTED


def test_without_a_transcript_only_what_programs_say_themselves_counts(
    sidecar_door: Listener,
) -> None:
    silent = {"tool_input": {"command": "npm test"}, "tool_response": "", "transcript_path": None}
    for told in inputs("codex")[1:4]:
        hook(told | {"transcript_path": None}, sidecar_door.port)
    hook(inputs("codex")[0] | silent, sidecar_door.port)

    # Of the commit that was refused nothing, and nothing of tests that said nothing.
    assert [body for _, _, body in sidecar_door.got] == [FAILED, COMMITTED]


def test_a_command_in_words_is_read_as_one_in_a_line(sidecar_door: Listener) -> None:
    told = inputs("codex")[0] | {"transcript_path": str(DATA / "codex-rollout.jsonl")}
    told["tool_input"] = {"command": ["bash", "-lc", "cd src && python -m pytest -q"]}

    hook(told, sidecar_door.port)

    assert sidecar_door.said == PASSED


SUMMARY = "===== 1 failed, 2 passed in 0.12s ====="
MESSAGE = "\"$(cat <<'EOF'\nDon't; (it's \"said\") && done | x\n\nEOF\n)\""


@pytest.mark.parametrize(
    ("command", "exit_code", "output", "reported"),
    [
        # One after the other: a good end is the end of all, a bad one is of nobody known.
        ("cd x && pytest -q && git commit -m 'a && b'", 0, "", [PASSED, COMMITTED]),
        ("pytest -q && git commit -m x", 1, "", None),
        ("pytest -q && git commit -m x", 1, SUMMARY, FAILED),
        ("pytest -q && git commit -m x", 1, "4 passed in 0.10s", PASSED),
        ("cd x && . venv/bin/activate && pytest", 1, "", FAILED),
        ("cd x && pytest", 1, "bash: line 1: cd: x: No such file or directory", None),
        ("pytest && echo good || echo bad", 0, "", None),
        ("pytest || exit 1", 1, "", FAILED),
        ("! pytest", 0, "", FAILED),
        ("pytest -q; git push", 1, "", None),
        ("git commit -m x; git push", 1, "[main 1a2b3c4] x", COMMITTED),
        ("set -e\npytest\ngit commit -qm x\n", 0, "", [PASSED, COMMITTED]),
        ("pytest -q 2>&1 | tail -3", 0, SUMMARY, FAILED),
        ("pytest -q 2>&1 | tail -3", 0, "3 passed, 1 skipped in 1.20s", PASSED),
        ("cargo test | grep result", 0, "test result: FAILED. 1 passed; 1 failed", FAILED),
        ("npx vitest run | cat", 0, "      Tests  2 passed (2)", PASSED),
        ("pytest | wc -l", 0, "12", None),
        ("pytest &", 0, "", None),
        # As a shell reads it.
        (f"git add -A && git commit -m {MESSAGE} && git push", 0, "", COMMITTED),
        ("# don't stop\npytest -q  # it's quick", 0, "", PASSED),
        ("find . -name x -exec rm {} \\; && pytest", 0, "", PASSED),
        ("cat > a.py <<'EOF'\nit's\nEOF\npytest a.py", 1, "", FAILED),
        ("bash -lc 'cd x && pytest'", 1, "", FAILED),
        ("(cd x && npm test)", 0, "", PASSED),
        ("echo 'pytest && git commit -m x'", 0, "", None),
        ("for f in a b; do pytest $f; done", 0, "", None),
        ("pytest 'unfinished", 2, "", None),
        # Runs of tests, and what is none.
        ("CI=1 timeout 60 uv run --with x pytest -n 4", 0, "", PASSED),
        ("python3.12 -W error -m unittest discover", 1, "", FAILED),
        ("npm run test:unit", 1, "", FAILED),
        ("pnpm -r test", 0, "", PASSED),
        ("yarn jest", 0, "", PASSED),
        ("npx --yes jest", 0, "", PASSED),
        ("bun test", 0, "", PASSED),
        ("deno task test", 0, "", PASSED),
        ("cargo +nightly nextest run", 101, "", FAILED),
        ("go test ./...", 1, "", FAILED),
        ("make -C x -j4 check", 2, "", FAILED),
        ("./gradlew :app:test", 0, "", PASSED),
        ("mvn -q test", 1, "", FAILED),
        ("ctest -V", 0, "", PASSED),
        ("bundle exec rspec", 0, "", PASSED),
        ("vendor/bin/phpunit", 0, "", PASSED),
        ("dotnet test", 0, "", PASSED),
        ("swift test", 0, "", PASSED),
        ("tox -e py312,lint", 0, "", PASSED),
        ("tox -e lint", 0, "", None),
        ("pytest --collect-only", 0, "", None),
        ("pytest --version", 0, "", None),
        ("go test -list . ./...", 0, "", None),
        ("cargo test --no-run", 0, "", None),
        ("./gradlew build -x test", 0, "", None),
        ("npm install pytest", 0, "", None),
        ("pytest", 5, "no tests ran in 0.01s", None),
        ("pytest", 143, "Command timed out after 2m", None),
        ("pytest", 127, "bash: pytest: command not found", None),
        ("make test", 2, "make: *** No rule to make target 'test'.  Stop.", None),
        # Commits, and what takes them back.
        ("git -C x -c user.name=n commit -qam x", 0, "", COMMITTED),
        ("git commit --amend --no-edit", 0, "", COMMITTED),
        ("git commit --dry-run", 0, "", None),
        ("git commit -m x", 1, "nothing to commit, working tree clean", None),
        ("git reset --hard", 0, "HEAD is now at 1a2b3c4 x", REVERTED),
        ("git reset HEAD~1", 0, "", REVERTED),
        ("git reset --soft HEAD^", 0, "", None),  # to squash: the work stays
        ("git checkout -- .", 0, "", REVERTED),
        ("git restore .", 0, "", REVERTED),
        ("git restore --staged .", 0, "", None),
        ("git restore a.py", 0, "", None),
        ("git reset a.py", 0, "", None),
        ("git checkout main", 0, "", None),
        ("git revert --abort", 0, "", None),
        ("git revert HEAD", 1, "error: could not revert", None),
        ("git reset --hard && pytest", 0, "", [PASSED, {"thumb": "down"}]),
        ("", 0, "", None),
    ],
)
def test_of_a_command_only_what_is_sure_is_reported(
    script: ModuleType,
    sidecar_door: Listener,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    exit_code: int,
    output: str,
    reported: object,
) -> None:
    monkeypatch.setenv("POINTSMAN_URL", f"http://127.0.0.1:{sidecar_door.port}")

    script.work(json.dumps(claude_code(command, exit_code, output)).encode(), [])

    assert sidecar_door.said == reported


def test_a_command_that_has_not_ended_by_itself_says_nothing(sidecar_door: Listener) -> None:
    whole, failed = claude_code("pytest"), claude_code("pytest", 1)
    response = whole["tool_response"]
    for told in (
        whole | {"tool_response": response | {"interrupted": True}},
        whole | {"tool_response": response | {"backgroundTaskId": "b1"}},
        whole | {"tool_input": {"command": "pytest", "run_in_background": True}},
        failed | {"is_interrupt": True},
        failed | {"error": "The user doesn't want to proceed with this tool use."},
    ):
        hook(told, sidecar_door.port)

    assert sidecar_door.got == []


def test_more_commands_may_be_named_that_run_tests(sidecar_door: Listener) -> None:
    named = {"POINTSMAN_TEST_COMMANDS": "./scripts/verify, python manage.py test,"}
    for command in ("bash -c 'scripts/verify --quick'", "python3 manage.py test app"):
        hook(claude_code(command), sidecar_door.port, **named)
        assert sidecar_door.said == PASSED

    hook(claude_code("python manage.py migrate"), sidecar_door.port, **named)
    assert sidecar_door.said is None


def test_the_environment_says_where_who_and_what_episode(sidecar_door: Listener) -> None:
    url = f"http://127.0.0.1:{sidecar_door.port}/at/v1/"
    said = {"POINTSMAN_URL": url, "POINTSMAN_KEY": "pm-key", "POINTSMAN_EPISODE_ID": "a/b c"}

    hook(claude_code("pytest"), sidecar_door.port, **said)

    path = "/at/v1/router/episodes/a%2Fb%20c/outcome"
    assert sidecar_door.got == [(path, "Bearer pm-key", PASSED)]


@pytest.mark.parametrize(
    "told",
    [
        "",
        "{",
        "[]",
        "7",
        "null",
        "{}",
        '{"session_id": 7, "tool_input": {"command": "pytest"}}',
        '{"session_id": "s", "tool_input": "pytest"}',
        '{"session_id": "s", "tool_input": {"command": {"a": 1}}, "tool_response": {}}',
        '{"session_id": "s", "tool_input": {"command": "' + "$(" * 9000 + '"}}',
        '{"session_id": "s", "tool_input": {"command": "pytest"}, "tool_response": 1,'
        ' "transcript_path": "/nowhere/at/all", "tool_use_id": "c"}',
    ],
)
def test_damaged_input_does_nothing(sidecar_door: Listener, told: str) -> None:
    done = hook(told, sidecar_door.port)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sidecar_door.got == []


def test_with_the_sidecar_away_the_agent_goes_on() -> None:
    with listener() as gone:
        port = gone.port

    done = hook(claude_code("pytest"), port)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_slow_sidecar_holds_the_agent_up_for_two_seconds_at_most(sidecar_door: Listener) -> None:
    sidecar_door.answer.clear()
    began = time.monotonic()

    done = hook(claude_code("pytest"), sidecar_door.port, POINTSMAN_HOOK_DEBUG="1")

    assert time.monotonic() - began < 4  # with the start of a Python
    assert (done.returncode, done.stdout) == (0, "")
    told = 'pointsman: [{"passed": true}], '
    # Whichever of its two time limits is first.
    assert done.stderr in (f"{told}given up\n", f"{told}TimeoutError, not reported\n")


def test_what_it_did_is_said_where_that_was_asked_for(sidecar_door: Listener) -> None:
    for command, said in (
        ("pytest", '[{"passed": true}], answer 202'),
        ("ls secret", "nothing to report"),
        ("echo 'secret", "ValueError, not reported"),
    ):
        done = hook(claude_code(command), sidecar_door.port, POINTSMAN_HOOK_DEBUG="1")
        assert (done.stdout, done.stderr) == ("", f"pointsman: {said}\n")


def test_settings_to_paste_run_the_script_where_the_docs_put_it() -> None:
    text = (ROOT / "docs" / "hooks.md").read_text()
    events = {
        "claude-code.settings.json": ["PostToolUse", "PostToolUseFailure"],
        "codex.hooks.json": ["PostToolUse"],
    }
    for name, expected in events.items():
        hooks = json.loads((HOOKS / name).read_text())["hooks"]
        assert list(hooks) == expected
        for [group] in hooks.values():
            assert group["matcher"] == "Bash"
            [handler] = group["hooks"]
            assert handler["command"] == 'python3 "$HOME/.pointsman/hooks/pointsman_hook.py"'
            assert handler["timeout"] > 2
        assert f"hooks/{name}" in text
    assert "cp docs/hooks/*.py ~/.pointsman/hooks/" in text


def test_files_of_the_hooks_stay_short() -> None:
    for path in HOOKS.glob("*.py"):
        assert len(path.read_text().splitlines()) <= 300, path
