"""The commands as a user meets them: processes, exit codes, one JSON object."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from conftest import Provider, Sidecar, endpoint

pytestmark = pytest.mark.slow


def run(*arguments: str, environment: dict[str, str] | None = None) -> Any:
    command = [sys.executable, "-m", "router.cli", *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **(environment or {})},
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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


def started(config: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "router.cli", "up", "--config", str(config)]
    up = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            got = httpx.get(f"http://127.0.0.1:{port_of(config)}/readyz", trust_env=False)
            if got.json() == {"ready": True, "degraded": False}:
                return up
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError("it did not come up")


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_up_runs_everything_and_ends_it_again(
    config: Path, state_dir: Path, number: signal.Signals
) -> None:
    up = started(config)
    got = chat(config)
    assert got.status_code == 200

    said = run(
        "feedback", "--config", str(config), "--response-id", got.json()["id"], "--passed", "--json"
    )
    assert json.loads(said.stdout)["accepted"] is True
    deadline = time.monotonic() + 10
    while True:
        rows = json.loads(run("report", "--config", str(config), "--json").stdout)["rows"]
        if rows and rows[0]["labels"] == 1:
            break
        assert time.monotonic() < deadline

    up.send_signal(number)

    assert up.wait(20) == 0
    assert "Traceback" not in (up.stderr.read() if up.stderr else "")
    if up.stderr:
        up.stderr.close()
    assert gone(state_dir, 1)


def test_what_up_started_ends_when_up_is_killed(config: Path, state_dir: Path) -> None:
    up = started(config)

    up.kill()
    up.wait()
    if up.stderr:
        up.stderr.close()

    assert gone(state_dir, 20)


def test_up_starts_a_dead_store_again(config: Path, state_dir: Path) -> None:
    up = started(config)
    os.kill(int((state_dir / "store" / "server.pid").read_text()), signal.SIGKILL)
    try:
        assert chat(config).status_code == 200
        deadline = time.monotonic() + 15
        while not json.loads(run("report", "--config", str(config), "--json").stdout)["rows"]:
            assert time.monotonic() < deadline
    finally:
        up.terminate()
        up.wait(20)
        if up.stderr:
            up.stderr.close()


def test_a_port_that_is_taken_is_said_at_once(config: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port_of(config)))
        taken.listen()

        for verb in ("up", "serve"):
            done = run(verb, "--config", str(config))
            assert done.returncode == 1
            assert "is another pointsman running" in done.stderr
            assert "Traceback" not in done.stderr


def test_check_lists_problems_and_exits_2(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("server: {prot: 1}\nendpoints:\n  - {id: a, model: m, base_url: nowhere}\n")

    plain, as_json = (run("check", "--config", str(path), *more) for more in ([], ["--json"]))

    assert plain.returncode == as_json.returncode == 2
    assert f"{path}:1: server.prot" in plain.stderr
    assert f"{path}:3: endpoints[0].base_url" in plain.stderr
    found = json.loads(as_json.stdout)
    assert [p["line"] for p in found["problems"]] == [1, 3]


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "docs/examples"), (b"\xff\xfe\x00", "UTF-8"), (b"", "empty"), (b"a: [", "yaml")],
)
def test_a_file_that_is_none_is_no_traceback(
    tmp_path: Path, content: bytes | None, says: str
) -> None:
    path = tmp_path / "p.yaml"
    if content is not None:
        path.write_bytes(content)

    done = run("check", "--config", str(path))

    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_report_says_of_a_wrong_address_what_to_write(config: Path) -> None:
    done = run("report", "--config", str(config), environment={"REDIS_URL": "redis+sentinel://h:1"})

    assert done.returncode == 0
    assert "/service[/db]" in done.stdout
    assert "Traceback" not in done.stderr


def test_report_works_with_nothing_at_all(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.yaml")

    plain, as_json = (run("report", "--config", missing, *more) for more in ([], ["--json"]))

    assert plain.returncode == as_json.returncode == 0
    assert "pointsman demo" in plain.stdout
    assert json.loads(as_json.stdout)["rows"] == []


def test_off_needs_neither_keys_nor_a_sound_file(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    state = tmp_path / "state"
    path.write_text(
        f"server: {{prot: 1, state_dir: {state}}}\nendpoints: [{{auth: {{env: NO}}}}]\n"
    )

    assert run("off", "--config", str(path)).returncode == 0
    assert (state / "off").exists()
    assert run("on", "--config", str(path)).returncode == 0
    assert not (state / "off").exists()
    assert run("off", "--config", str(tmp_path / "typo.yaml")).returncode == 2


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

    done = run("feedback", *arguments, *url)

    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr


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
    done = run(*arguments)

    assert done.returncode == 2
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_a_store_that_cannot_be_read_is_named(config: Path) -> None:
    for url in ("http://x", "redis://h:notaport"):
        done = run("up", "--config", str(config), environment={"REDIS_URL": url})
        assert done.returncode == 1
        assert "REDIS_URL" in done.stderr
        assert "Traceback" not in done.stderr
