"""The commands as a user meets them: what they say, exit codes, one JSON object.

What runs for ever is run as a process, as a shell would; of the rest only as much as shows that the
module is a program. Everything else is called in this process.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from conftest import Provider, Sidecar, endpoint, free_port, pointsman, until


def program(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "router.cli", *arguments]


@pytest.fixture
def config(provider: Provider, state_dir: Path) -> Path:
    value = {
        "server": {"port": free_port(), "state_dir": str(state_dir), "drain_s": 2},
        "store": {"shards": 2},
        "endpoints": [endpoint(provider, "a")],
    }
    path = state_dir / "pointsman.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


def port_of(config: Path) -> int:
    return int(yaml.safe_load(config.read_text())["server"]["port"])


def has_come_up(config: Path) -> bool:
    with suppress(httpx.TransportError):
        got = httpx.get(f"http://127.0.0.1:{port_of(config)}/readyz", trust_env=False)
        return bool(got.json() == {"ready": True, "degraded": False})
    return False


@contextmanager
def running(config: Path) -> Iterator[subprocess.Popen[str]]:
    """Run `pointsman up`."""
    up = subprocess.Popen(program("up", "--config", str(config)), stderr=subprocess.PIPE, text=True)
    with up:
        try:
            until(lambda: has_come_up(config), within_s=30)
            yield up
        finally:
            up.kill()
            gone(config.parent, 20)  # before the directory is


def ends_well(up: subprocess.Popen[str], state_dir: Path) -> None:
    """See it end by itself, without a complaint and with all that it started."""
    assert up.wait(20) == 0
    assert up.stderr is not None
    assert "Traceback" not in up.stderr.read()
    assert gone(state_dir, 1)


def descendants(state_dir: Path) -> list[int]:
    """Processes whose command line names the state directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(state_dir) in line:
                found.append(int(entry.name))
    return found


def store_of(state_dir: Path) -> int:
    return int((state_dir / "store" / "server.pid").read_text() or 0)


def children_of(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def n_with(state_dir: Path, lock: str) -> int:
    """How many processes have a lock of the store open."""
    path = str(state_dir / "store" / lock)
    return sum(
        any(os.path.realpath(file) == path for file in Path(f"/proc/{pid}/fd").iterdir())
        for pid in descendants(state_dir)
    )


def gone(state_dir: Path, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while descendants(state_dir):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def chat(config: Path) -> httpx.Response:
    body = {"model": "auto", "messages": [{"role": "user", "content": "x"}]}
    url = f"http://127.0.0.1:{port_of(config)}/v1/chat/completions"
    return httpx.post(url, json=body, timeout=10, trust_env=False)


def rows(config: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        pointsman("report", "--config", config, "--json").stdout
    )["rows"]
    return found


@pytest.mark.slow
def test_up_runs_everything_and_ends_it_again(config: Path, state_dir: Path) -> None:
    """At an interrupt; a termination ends it as well, after its store was started again: below."""
    with running(config) as up:
        got = chat(config)
        assert got.status_code == 200
        named = ("--response-id", got.json()["id"])
        said = pointsman("feedback", "--config", config, *named, "--passed", "--json")
        assert json.loads(said.stdout)["accepted"] is True
        until(lambda: [row["labels"] for row in rows(config)][:1] == [1])

        up.send_signal(signal.SIGINT)

        ends_well(up, state_dir)


@pytest.mark.slow
def test_a_hang_up_signal_has_the_router_take_the_configuration_anew(
    config: Path, state_dir: Path
) -> None:
    def state() -> dict[str, Any]:
        url = f"http://127.0.0.1:{port_of(config)}/readyz?verbose"
        found: dict[str, Any] = httpx.get(url, trust_env=False).json()["configuration"]
        return found

    with running(config) as up:
        until(lambda: len(children_of(up.pid)) == 3)  # store, router and worker
        before, children = state(), children_of(up.pid)
        up.send_signal(signal.SIGHUP)  # the file is the same, keys may not be
        until(lambda: state()["since_ms"] > before["since_ms"])
        config.write_text(config.read_text() + "tasks: {code: null}\narchive: {keep_days: 1}\n")
        until(lambda: state()["version"] != before["version"])

        assert state()["needs_restart"] == ["archive.keep_days"]
        assert state()["file"] == str(config)
        assert chat(config).status_code == 200
        assert children_of(up.pid) == children
        up.terminate()
        assert up.wait(20) == 0
        assert up.stderr is not None
        said = up.stderr.read()
        assert '"others": ["worker"]' in said
        assert "archive.keep_days" in said


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["up", "serve"])
def test_what_runs_in_a_terminal_ends_when_that_is_closed(
    verb: str, config: Path, state_dir: Path
) -> None:
    terminal, theirs = pty.openpty()
    up = subprocess.Popen(
        program(verb, "--config", str(config)),
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    with up:
        try:
            os.close(theirs)
            until(lambda: has_come_up(config), within_s=30)
            os.close(terminal)

            ends_well(up, state_dir)
        finally:
            up.kill()
            gone(state_dir, 20)


@pytest.mark.slow
def test_what_up_started_ends_when_up_is_killed(config: Path, state_dir: Path) -> None:
    with running(config) as up:
        up.kill()
        up.wait()

        assert gone(state_dir, 20)


@pytest.mark.slow
def test_up_starts_a_dead_store_again(config: Path, state_dir: Path) -> None:
    with running(config) as up:
        killed = store_of(state_dir)
        # Whoever begins to use it starts it too: up, router, observer, worker and first jobs.
        until(lambda: n_with(state_dir, "users.lock") == 5)
        until(lambda: n_with(state_dir, "users.lock") == 4)
        os.kill(killed, signal.SIGKILL)
        assert chat(config).status_code == 200
        until(lambda: store_of(state_dir) != killed)
        assert store_of(state_dir) in children_of(up.pid)
        until(lambda: rows(config), within_s=15)

        up.terminate()

        ends_well(up, state_dir)


def ended(*commands: list[str], environment: dict[str, str] | None = None) -> list[Any]:
    """Run programs at the same time; return what each said and how it ended."""
    started = [
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        for command in commands
    ]
    found = []
    for process in started:
        with process:
            try:
                out, err = process.communicate(timeout=60)
            finally:
                process.kill()
        found.append(subprocess.CompletedProcess(process.args, process.returncode, out, err))
    return found


@pytest.mark.slow
def test_the_module_is_a_program_with_verbs_codes_and_one_json_object(tmp_path: Path) -> None:
    """What its verbs say is checked in this process: see `pointsman`, and test_docs for help."""
    path = tmp_path / "bad.yaml"
    path.write_text("server: {prot: 1}\n")

    helped, every, wrong, off = ended(
        program("--help"),
        program("help", "all"),
        program("check", "--config", str(path), "--json"),
        program("off", "--config", str(tmp_path / "typo.yaml")),
        environment={"XDG_STATE_HOME": str(tmp_path)},
    )

    assert (helped.returncode, every.returncode) == (0, 0)
    assert re.search(r"\bfeedback\b", helped.stdout)
    assert re.search(r"\breplay\b", every.stdout)
    assert json.loads(wrong.stdout)["ok"] is False
    assert (wrong.returncode, off.returncode) == (2, 1)
    assert "cannot be read" in off.stderr
    assert [each.stderr for each in (helped, every, wrong)] == ["", "", ""]


@pytest.mark.slow
def test_a_port_that_is_taken_is_said_at_once(config: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port_of(config)))
        taken.listen()

        for done in ended(*(program(verb, "--config", str(config)) for verb in ("up", "serve"))):
            assert done.returncode == 1
            assert "is another pointsman running" in done.stderr
            assert "Traceback" not in done.stderr


@pytest.mark.parametrize("url", ["http://x", "redis://h:notaport"])
def test_a_store_that_cannot_be_read_is_named(config: Path, url: str) -> None:
    done = pointsman("up", "--config", config, environment={"REDIS_URL": url})

    assert done.exit_code == 1
    assert "REDIS_URL" in done.stderr


def test_check_lists_problems_and_exits_2(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("server: {prot: 1}\nendpoints:\n  - {id: a, model: m, base_url: nowhere}\n")

    plain, as_json = (pointsman("check", "--config", path, *more) for more in ([], ["--json"]))

    assert plain.exit_code == as_json.exit_code == 2
    assert f"{path}:1: server.prot" in plain.stderr
    assert f"{path}:3: endpoints[0].base_url" in plain.stderr
    found = json.loads(as_json.stdout)
    assert [p["line"] for p in found["problems"]] == [1, 3]


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "`pointsman init`"), (b"\xff\xfe\x00", "UTF-8"), (b"", "empty"), (b"a: [", "yaml")],
)
def test_a_file_that_is_none_is_no_traceback(
    tmp_path: Path, content: bytes | None, says: str
) -> None:
    path = tmp_path / "p.yaml"
    if content is not None:
        path.write_bytes(content)

    done = pointsman("check", "--config", path)

    assert done.exit_code == 2
    assert says in done.stderr


def test_report_says_of_a_wrong_address_what_to_write(config: Path) -> None:
    wrong = {"REDIS_URL": "redis+sentinel://h:1"}

    done = pointsman("report", "--config", config, environment=wrong)

    assert done.exit_code == 1
    assert "/service[/db]" in done.stdout


def test_report_says_what_to_begin_with_where_there_is_nothing(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.yaml")

    plain, as_json = (pointsman("report", "--config", missing, *more) for more in ([], ["--json"]))

    assert plain.exit_code == as_json.exit_code == 1
    assert "pointsman demo" in " ".join(plain.stdout.split())  # lines break where a path is long
    assert json.loads(as_json.stdout)["rows"] == []


def test_off_needs_neither_keys_nor_a_sound_file(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    state = tmp_path / "state"
    path.write_text(
        f"server: {{prot: 1, state_dir: {state}}}\nendpoints: [{{auth: {{env: NO}}}}]\n"
    )

    assert pointsman("off", "--config", path).exit_code == 0
    assert (state / "off").exists()
    assert pointsman("on", "--config", path).exit_code == 0
    assert not (state / "off").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--ref", "x"], 2, "score, passed"),
        (["--ref", "x", "--score", "nan"], 2, "numbers from 0 to 1"),
        (["--ref", "x", "--score", "7"], 2, "score is 7"),
        (["--decision-id", "forged", "--passed"], 2, "no decision id"),
        (["--ref", "x", "--passed", "--key", "schlüssel"], 2, "--key"),
        (["--ref", "x", "--passed", "--url", "nowhere"], 2, "write a whole URL"),
        (["--ref", "x", "--passed", "--url", "http://127.0.0.1:9"], 1, "pointsman up"),
    ],
)
def test_bad_feedback_says_what_is_wrong(
    sidecar: Sidecar, arguments: list[str], code: int, says: str
) -> None:
    url = [] if "--url" in arguments else ["--url", sidecar.url]

    done = pointsman("feedback", *arguments, *url)

    assert done.exit_code == code
    assert says in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo", "--outcomes", "/nowhere.parquet"],
        ["demo", "--where", "a=b"],
        ["demo", "--endpoints", ",,"],
        ["frobnicate"],
    ],
)
def test_bad_input_exits_2(arguments: list[str]) -> None:
    done = pointsman(*arguments)

    assert done.exit_code == 2
    assert done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("text", ["endpoints: 3\n", None])
def test_a_router_that_waits_is_gone_where_the_configuration_is_refused(
    text: str | None, tmp_path: Path
) -> None:
    config = tmp_path / "pointsman.yaml"
    if text is not None:
        config.write_text(text)

    done = subprocess.run(
        program("up", "--config", str(config)), capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert done.stderr.count("pointsman.yaml") == 1, "said once"
    assert descendants(tmp_path) == []
