"""`pointsman up --processes 2`: routers that share a port, a state directory and a store."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from conftest import Provider, Reply, Seen, default_reply, endpoint, free_port, pointsman, until
from test_cli import descendants, gone, has_come_up, program

from router.net.address import SharedPort, passed_on
from telemetry.metrics import labelled


@pytest.fixture
def config(provider: Provider, state_dir: Path) -> Path:
    value = {
        "server": {"port": free_port(), "state_dir": str(state_dir), "drain_s": 5},
        "store": {"shards": 2},
        "endpoints": [endpoint(provider, "a")],
    }
    path = state_dir / "pointsman.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


@pytest.fixture
def url(config: Path) -> str:
    return f"http://127.0.0.1:{yaml.safe_load(config.read_text())['server']['port']}"


@contextmanager
def two_routers(config: Path, url: str) -> Iterator[subprocess.Popen[str]]:
    command = program("up", "--config", str(config), "--processes", "2")
    up = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    with up:
        try:
            until(lambda: has_come_up(config), within_s=40)
            until(lambda: set(each(lambda: process_of(url))) == {"1", "2"}, within_s=40)
            yield up
        finally:
            up.kill()
            gone(config.parent, 20)


def each(ask: Callable[[], Any], n: int = 24) -> list[Any]:
    """Ask so often, at once and by a new connection each: both routers are asked."""
    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(lambda _: ask(), range(n)))


def get(url: str) -> httpx.Response:
    return httpx.get(url, trust_env=False, timeout=10)


def process_of(url: str) -> str:
    found = re.search(r'process="(\d)"', get(f"{url}/metrics").text)
    return found[1] if found else ""


def chat(url: str) -> httpx.Response:
    body = {"model": "auto", "messages": [{"role": "user", "content": "x"}]}
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=15, trust_env=False)


def routers(state_dir: Path) -> dict[str, int]:
    """Return the process id of each router, by its number."""
    found = {}
    for pid in descendants(state_dir):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        if "serve" in words:
            found[words[words.index("--shared") + 1].partition(":")[0]] = pid
    return found


def parts_told_of(url: str) -> set[str]:
    """Return the parts of the stack whose CPU a router tells."""
    return set(
        re.findall(
            r'^router_part_cpu_seconds_total\{.*part="(\w+)"', get(f"{url}/metrics").text, re.M
        )
    )


def calls_by_process(url: str) -> dict[str, float]:
    """Return how many attempts each process counts."""
    found: dict[str, float] = {}
    for text in each(lambda: get(f"{url}/metrics").text):
        process = re.search(r'process="(\d)"', text)
        assert process is not None
        attempts = re.findall(r"^router_attempts_total\{.*\} (\S+)$", text, re.M)
        found[process[1]] = sum(map(float, attempts))
    return found


@pytest.mark.slow
def test_two_routers_share_calls_and_one_explains_what_the_other_decided(
    config: Path, url: str
) -> None:
    with two_routers(config, url) as up:
        answers = each(lambda: chat(url), 40)

        assert {got.status_code for got in answers} == {200}
        by_process = calls_by_process(url)
        assert sum(by_process.values()) == 40
        assert min(by_process.values()) > 0
        parts = {"observer", "worker", "jobs", "store", "supervisor"}
        until(lambda: all(told == parts for told in each(lambda: parts_told_of(url))), 20)
        decision = answers[0].headers["x-router-decision-id"]
        explained = f"{url}/v1/router/decisions/{decision}"
        until(lambda: {got.status_code for got in each(lambda: get(explained))} == {200}, 20)
        up.terminate()
        assert up.wait(30) == 0
        assert up.stderr is not None
        said = up.stderr.read()
        assert "Traceback" not in said
        assert said.count("pointsman: listening at") == 1


@pytest.mark.slow
def test_a_switch_and_a_reload_reach_both(config: Path, url: str) -> None:
    def told() -> list[dict[str, Any]]:
        return each(lambda: get(f"{url}/readyz?verbose").json())

    def versions() -> set[str]:
        return {one["configuration"]["version"] for one in told()}

    with two_routers(config, url) as up:
        (before,) = versions()
        config.write_text(config.read_text() + "tasks: {code: null}\n")
        up.send_signal(signal.SIGHUP)

        until(lambda: len(found := versions()) == 1 and before not in found, 20)
        assert pointsman("off", "--config", config).exit_code == 0
        until(lambda: all(one["off"] for one in told()), 10)


@pytest.mark.slow
def test_a_router_that_is_killed_is_started_again_and_the_other_serves_meanwhile(
    config: Path, url: str, state_dir: Path
) -> None:
    def n_known() -> int:
        said = pointsman("report", "--config", config, "--json")
        return sum(row["calls"] for row in json.loads(said.stdout)["rows"])

    with two_routers(config, url):
        assert {got.status_code for got in each(lambda: chat(url), 20)} == {200}
        killed = routers(state_dir)["1"]
        os.kill(killed, signal.SIGKILL)

        assert {got.status_code for got in each(lambda: chat(url), 20)} == {200}

        until(lambda: routers(state_dir).get("1") not in (None, killed), 20)
        until(lambda: set(each(lambda: process_of(url))) == {"1", "2"}, 40)
        until(lambda: n_known() == 40, 30)  # its journal was taken on


@pytest.mark.slow
def test_at_the_end_both_finish_the_answers_that_are_under_way(
    config: Path, url: str, provider: Provider
) -> None:
    def slowly(call: Seen) -> Reply:
        reply = default_reply(call)
        reply.delay_s = 2.0
        return reply

    with two_routers(config, url) as up:
        provider.on("a", slowly)
        n_before = len(provider.calls)
        with ThreadPoolExecutor(16) as threads:
            calls = [threads.submit(chat, url) for _ in range(16)]
            until(lambda: len(provider.calls) - n_before == 16)
            up.terminate()
            assert Counter(call.result().status_code for call in calls) == {200: 16}
        assert up.wait(30) == 0
        with pytest.raises(httpx.ConnectError):
            get(f"{url}/livez")


def test_a_port_that_is_taken_is_refused(config: Path) -> None:
    with socket.socket() as taken:
        port = yaml.safe_load(config.read_text())["server"]["port"]
        taken.bind(("127.0.0.1", port))
        taken.listen()
        command = program("up", "--config", str(config), "--processes", "2")
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 1
    assert "is another pointsman running?" in done.stderr


def test_who_shares_a_port_is_told_number_and_sockets() -> None:
    with socket.socket() as one:
        told = SharedPort("2", [one.fileno(), 9])
        assert SharedPort.parse(told.text()) == told
        (same,) = passed_on([os.dup(one.fileno())])
        with same:
            assert not same.get_inheritable()


def test_each_sample_names_its_process() -> None:
    text = b'# HELP a_total What {is} counted.\n# TYPE a_total counter\na_total{x="1"} 2.0\nb 1.0\n'

    found = labelled(text, "2").splitlines()

    assert found[:2] == text.splitlines()[:2]
    assert found[2:] == [b'a_total{process="2",x="1"} 2.0', b'b{process="2"} 1.0']
