"""Too many calls, and the end: who is let in, who is turned away, and what those under way get."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
import yaml
from conftest import (
    SHARDS,
    Provider,
    Reply,
    Sidecar,
    answer,
    chunks,
    endpoint,
    free_port,
    serving,
    until,
)

from router import server
from router.config.compiled import compile_text
from router.errors import ConfigError, SidecarFull
from router.net.address import CannotListen, bound
from router.net.admission import Admission
from router.net.bodies import ClientGone
from router.net.listener import Listener, allow_descriptors
from router.net.turns import LONGEST_S, Turns
from router.serving import listener as listener_of
from scripts.proofs.overload import Phases, TimedCall, judge, passed
from telemetry.crashes import place_of
from telemetry.store import Address

# -- who is let in ------------------------------------------------------------------------------


class ClientLine:
    """A client that may leave."""

    gone: Callable[[], None] | None = None


class Clock:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_more_than_fit_are_turned_away_at_once_and_a_place_given_back_is_taken() -> None:
    async def run() -> None:
        admission = Admission(2, max_queued=0)
        first, second, third = (ClientLine() for _ in range(3))
        await admission.enter(first)
        await admission.enter(second)
        with pytest.raises(SidecarFull):
            admission.check()
        with pytest.raises(SidecarFull):
            await admission.enter(third)
        admission.leave(first)
        await admission.enter(third)
        assert (admission.n_under_way, admission.n_shed) == (2, 2)

    asyncio.run(run())


def test_a_call_waits_only_where_a_place_is_about_to_come_free() -> None:
    async def run() -> None:
        clock = Clock()
        admission = Admission(2, max_queued=2, clock=clock)
        early, late, third, fourth = (ClientLine() for _ in range(4))
        admission.typical_s = 1.0
        await admission.enter(early)
        clock.now = 0.4
        await admission.enter(late)
        with pytest.raises(SidecarFull):  # the oldest has run for less than half of what calls take
            await admission.enter(third)
        clock.now = 0.6
        waiting = asyncio.ensure_future(admission.enter(third))
        await asyncio.sleep(0)
        assert admission.n_waiting == 1
        with pytest.raises(SidecarFull):  # its place would be that of the younger one
            await admission.enter(fourth)
        admission.leave(early)
        await waiting
        assert (admission.n_under_way, admission.n_waiting) == (2, 0)

    asyncio.run(run())


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.net.admission.LONGEST_WAIT_S", 0.05)

    async def run() -> None:
        admission = Admission(1, max_queued=2)
        places = [ClientLine() for _ in range(2)]
        await admission.enter(places[0])
        with pytest.raises(SidecarFull):
            await admission.enter(places[1])
        assert (admission.n_under_way, admission.n_waiting, admission.n_shed) == (1, 0, 1)

    asyncio.run(run())


@pytest.mark.parametrize("how", ["client", "sidecar", "both"])
def test_who_leaves_while_it_waits_takes_no_place(how: str) -> None:
    async def run() -> None:
        admission = Admission(1, max_queued=1)
        inside, line = ClientLine(), ClientLine()
        await admission.enter(inside)
        waiting = asyncio.ensure_future(admission.enter(line))
        await asyncio.sleep(0)
        if how in ("client", "both"):
            assert line.gone is not None
            line.gone()
        if how in ("sidecar", "both"):
            admission.leave(inside)  # its turn has come, and then it is cancelled
            waiting.cancel()
        with pytest.raises(ClientGone if how == "client" else asyncio.CancelledError):
            await waiting
        assert admission.n_waiting == 0
        assert admission.n_under_way == (1 if how == "client" else 0)

    asyncio.run(run())


def test_one_long_call_does_not_change_what_calls_take() -> None:
    async def run() -> None:
        clock = Clock()
        admission = Admission(1, clock=clock)
        for took_s in [0.2] * 50 + [600.0]:
            place = ClientLine()
            await admission.enter(place)
            clock.now += took_s
            admission.leave(place)
        assert 0.15 < admission.typical_s < 0.25

    asyncio.run(run())


def test_calls_that_come_at_once_leave_turns_of_the_loop_to_others() -> None:
    async def run() -> list[int]:
        turns, begun, order = Turns(), 0, []

        async def call(number: int) -> None:
            nonlocal begun
            if turns.is_spent():
                await turns.wait()
            begun += 1
            order.append(number)
            time.sleep(0.002)

        calls = [asyncio.ensure_future(call(number)) for number in range(30)]
        seen = []
        while begun < len(calls):
            await asyncio.sleep(0)
            seen.append(begun)
        assert order == sorted(order)
        return [after - before for before, after in zip([0, *seen], seen, strict=False)]

    in_a_turn = asyncio.run(run())
    assert max(in_a_turn) <= LONGEST_S / 0.002 + 1
    assert len(in_a_turn) >= 4


def _small(provider: Provider, **settings: Any) -> dict[str, Any]:
    return {
        "server": {"max_in_flight": 2, "max_queued": 0, **settings},
        "endpoints": [endpoint(provider, "a")],
        "providers": {"prov": {"base_url": provider.url("p"), "passthrough": True}},
    }


def test_a_full_sidecar_sheds_calls_fast_and_nothing_else(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    for host in "ap":
        provider.on(host, Reply(body=answer(), delay_s=2.0))
    with serving(_small(provider), state_dir, address) as sidecar, ThreadPoolExecutor() as pool:
        held = [pool.submit(sidecar.chat), pool.submit(sidecar.chat, model="else")]
        sidecar.until(lambda: len(provider.calls) == 2)
        sidecar.http.get("/livez")
        for path in ("/v1/chat/completions", "/v1/embeddings"):
            began = time.monotonic()
            got = sidecar.http.post(path, json={"model": "a", "messages": [], "input": "x"})
            took_s = time.monotonic() - began
            assert (got.status_code, got.json()["error"]["code"]) == (503, "overloaded")
            assert float(got.headers["retry-after"]) > 0
            assert "x-should-retry" not in got.headers
            assert took_s < 0.1  # on a busy machine; the proof measures
        assert sidecar.http.get("/livez").status_code == 200
        assert sidecar.http.get("/readyz").status_code == 200
        assert sidecar.feedback(ref="r", passed=True).status_code == 202
        assert [f.result().status_code for f in held] == [200, 200]
        assert sidecar.chat(model="a").status_code == 200
        text = sidecar.http.get("/metrics").text
        assert "router_calls_shed 2.0" in text


def test_a_stream_holds_its_place_to_its_end(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(chunks=chunks(*["w"] * 8), chunk_delay_s=0.1))
    with serving(_small(provider, max_in_flight=1), state_dir, address) as sidecar:
        body = {"model": "a", "messages": [{"role": "user", "content": "x"}], "stream": True}
        with sidecar.http.stream("POST", "/v1/chat/completions", json=body) as stream:
            lines = stream.iter_lines()
            next(lines)
            assert sidecar.chat(model="a").status_code == 503
            assert "data: [DONE]" in list(lines)
        sidecar.until(lambda: sidecar.app.admission.n_under_way == 0)
        provider.on("a", Reply(body=answer()))
        assert sidecar.chat(model="a").status_code == 200


@pytest.mark.parametrize("wrong", [b"{", b'{"model": 1}', b""])
def test_a_request_that_is_refused_takes_no_place(
    provider: Provider, state_dir: Path, address: Address, wrong: bytes
) -> None:
    with serving(_small(provider, max_in_flight=1), state_dir, address) as sidecar:
        for _ in range(3):
            assert sidecar.http.post("/v1/chat/completions", content=wrong).status_code == 400
        assert sidecar.app.admission.n_under_way == 0
        assert sidecar.chat(model="a").status_code == 200


@pytest.mark.parametrize("full", [False, True])
def test_a_body_that_trickles_is_ended_in_time_and_answered_once(
    provider: Provider,
    state_dir: Path,
    address: Address,
    full: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("router.net.inbound.BODY_S", 0.3)
    provider.on("a", Reply(body=answer(), delay_s=2.0))
    with (
        serving(_small(provider, max_in_flight=1), state_dir, address) as sidecar,
        ThreadPoolExecutor() as pool,
    ):
        held = [pool.submit(sidecar.chat)] if full else []
        sidecar.until(lambda: len(provider.calls) == len(held))
        with socket.create_connection(("127.0.0.1", sidecar.port), timeout=5) as line:
            line.sendall(_written()[:-5])
            got = b"".join(iter(lambda: line.recv(4096), b""))
        assert got.count(b"HTTP/1.1 ") == 1
        assert got.startswith(b"HTTP/1.1 503" if full else b"HTTP/1.1 408")
        assert sidecar.app.admission.n_under_way == len(held)
        assert [f.result().status_code for f in held] == [200] * len(held)


def test_the_proof_of_overload_notices_what_it_is_for() -> None:
    def calls(begin: float, end: float, every: float, took_s: float, status: int) -> None:
        n = int((end - begin) / every)
        phases.calls += [TimedCall(begin + i * every, took_s, status) for i in range(n)]

    phases = Phases(2.0, 2.0, 4.0)
    calls(0, 2, 0.02, 0.2, 200)
    calls(2, 4, 0.01, 0.3, 200)
    calls(2, 4, 0.001, 0.002, 503)
    calls(4, 8, 0.02, 0.2, 200)
    found = judge(phases)
    assert passed(found)
    assert found["admitted_p99_ratio"] == pytest.approx(1.5)
    calls(2, 4, 0.01, 0.5, 200)
    assert not passed(judge(phases))  # let in, and slower than twice
    phases.calls = [call for call in phases.calls if call.took_s < 0.25]
    assert not passed(judge(phases))  # next to nothing was served meanwhile


# -- the listener and its end -------------------------------------------------------------------


@dataclass
class Served:
    """A sidecar behind the listener that `serve` runs, on a thread."""

    port: int
    app: server.Sidecar
    listener: Listener
    thread: threading.Thread

    def ask(self) -> None:
        """As a signal would."""
        self.listener.handle_exit(signal.SIGTERM, None)

    def stream(self, model: str = "a", path: str = "/v1/chat/completions") -> list[str]:
        """Make a streamed call; return the lines up to its end, `cut` where there was none."""
        body = {"model": model, "messages": [{"role": "user", "content": "x"}], "stream": True}
        out: list[str] = []
        url = f"http://127.0.0.1:{self.port}{path}"
        try:
            with httpx.stream("POST", url, json=body, timeout=30, trust_env=False) as got:
                out += [line for line in got.iter_lines() if line]
        except httpx.RemoteProtocolError:
            out.append("cut")
        return out


@contextmanager
def listening(value: dict[str, Any], state_dir: Path, address: Address) -> Iterator[Served]:
    whole = {**value, "store": {"shards": SHARDS}}
    whole["server"] = {"port": 0, "state_dir": str(state_dir), **value.get("server", {})}
    configuration = compile_text(yaml.safe_dump(whole, sort_keys=False), file="test.yaml")
    app = server.Sidecar(configuration, address)
    ports: list[int] = []
    listener = listener_of(app, configuration.server, on_listen=ports.append)
    sockets = bound("127.0.0.1", 0)
    thread = threading.Thread(target=listener.run, args=(sockets,))
    thread.start()
    until(lambda: ports)
    try:
        yield Served(ports[0], app, listener, thread)
    finally:
        listener.handle_exit(signal.SIGTERM, None)
        listener.handle_exit(signal.SIGTERM, None)
        thread.join(15)
        assert not thread.is_alive()


def _ending(provider: Provider, **settings: Any) -> dict[str, Any]:
    return {
        "server": {"drain_s": 0.4, **settings},
        "endpoints": [endpoint(provider, "a")],
        "providers": {"prov": {"base_url": provider.url("p"), "passthrough": True}},
    }


def _written(**more: Any) -> bytes:
    """A call as it stands on the wire."""
    message = {"role": "user", "content": "x"}
    body = json.dumps({"model": "a", "messages": [message], **more}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def _sent(served: Served) -> int:
    return sum(served.app.metrics.attempts.values())


@pytest.mark.parametrize("model", ["a", "unlisted"])
def test_a_stream_that_flows_is_waited_for(
    provider: Provider, state_dir: Path, address: Address, model: str
) -> None:
    for host in "ap":
        provider.on(host, Reply(chunks=chunks(*["w"] * 12), chunk_delay_s=0.1))
    with listening(_ending(provider), state_dir, address) as served, ThreadPoolExecutor() as pool:
        got = pool.submit(served.stream, model)
        until(lambda: provider.calls)
        served.ask()
        assert got.result()[-1] == "data: [DONE]"
        served.thread.join(5)
        assert not served.thread.is_alive()


@pytest.mark.parametrize(
    ("path", "model", "told"),
    [
        ("/v1/chat/completions", "a", 'data: {"error":{'),
        ("/v1/chat/completions", "unlisted", 'data: {"error":{'),
        ("/v1/messages", "claude", 'data: {"type":"error","error":{'),
        ("/v1/responses", "o", 'data: {"type":"error","code":"draining",'),
    ],
)
@pytest.mark.parametrize("why", ["silent", "endless", "asked again"])
def test_a_stream_that_is_not_waited_for_is_told_in_its_own_dialect(
    provider: Provider,
    state_dir: Path,
    address: Address,
    path: str,
    model: str,
    told: str,
    why: str,
) -> None:
    pause_s = {"silent": 20, "endless": 0.05, "asked again": 0.05}[why]
    role, first, *rest = chunks(*["w"] * 999)
    for host in "ap":
        provider.on(host, Reply(chunks=[role + first, *rest], chunk_delay_s=pause_s))
    value = _ending(provider, drain_most_s=0.5 if why == "endless" else 60)
    with listening(value, state_dir, address) as served, ThreadPoolExecutor() as pool:
        got = pool.submit(served.stream, model, path)
        until(lambda: provider.calls)
        time.sleep(0.2)
        served.ask()
        if why == "asked again":
            served.ask()
        began = time.monotonic()
        served.thread.join(5)
        assert not served.thread.is_alive()
        assert time.monotonic() - began < 2
        lines = got.result()
        assert lines[-1].startswith(told)
        assert "the sidecar is stopping" in lines[-1]
        if model == "a":
            assert served.app.metrics.attempts[("a", "general", "client_gone")] == 1
            assert {b.in_flight for b in served.app.health.breakers.values()} == {0}


def test_an_event_that_came_in_part_never_leaves_and_the_end_is_told(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("p", Reply(chunks=[b'data: {"choices": [', b"]}\n\n"], chunk_delay_s=20))
    with listening(_ending(provider), state_dir, address) as served, ThreadPoolExecutor() as pool:
        got = pool.submit(served.stream, "unlisted")
        until(lambda: provider.calls)
        time.sleep(0.1)
        served.ask()
        assert json.loads(got.result()[-1][6:])["error"]["code"] == "draining"


def test_a_whole_call_gets_a_503_at_the_end_and_nobody_new_is_let_in(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(body=answer(), delay_s=20))
    with listening(_ending(provider), state_dir, address) as served, ThreadPoolExecutor() as pool:
        url = f"http://127.0.0.1:{served.port}"
        body = {"model": "a", "messages": [{"role": "user", "content": "x"}]}
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as http:
            http.get("/livez")
            got = pool.submit(httpx.post, f"{url}/v1/chat/completions", json=body, timeout=30)
            until(lambda: provider.calls)
            served.app.drain()  # as the first signal does, before the socket is closed
            late = http.post("/v1/chat/completions", json=body)
            assert http.get("/livez").status_code == 200
            served.ask()
        for answered in (late, got.result()):
            assert (answered.status_code, answered.json()["error"]["code"]) == (503, "draining")
            assert float(answered.headers["retry-after"]) > 0
            assert answered.headers["connection"] == "close"
        served.thread.join(5)
        assert not served.thread.is_alive()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/livez")


def test_a_client_that_does_not_read_does_not_hold_up_the_end(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(chunks=chunks(*["w" * 10_000] * 5000)))
    with listening(_ending(provider), state_dir, address) as served:
        with socket.create_connection(("127.0.0.1", served.port)) as raw:
            raw.sendall(_written(stream=True))
            until(lambda: provider.calls)
            time.sleep(0.3)
            served.ask()
            served.thread.join(8)
            assert not served.thread.is_alive()
        assert _sent(served) == 1


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["serve", "up"])
@pytest.mark.parametrize("n_signals", [1, 2])
def test_a_process_that_is_asked_to_stop_ends_in_order(
    provider: Provider, state_dir: Path, store: Any, verb: str, n_signals: int, tmp_path: Path
) -> None:
    provider.on("a", Reply(chunks=chunks(*["w"] * 12), chunk_delay_s=0.25))
    port, file = free_port(), tmp_path / "pointsman.yaml"
    settings = {"port": port, "state_dir": str(state_dir), "drain_s": 1}
    file.write_text(yaml.safe_dump({"server": settings, "endpoints": [endpoint(provider, "a")]}))
    process = subprocess.Popen(
        [sys.executable, "-m", "router.cli", verb, "--config", str(file)],
        stderr=subprocess.PIPE,
        text=True,
    )
    served = Served(port, None, None, None)  # type: ignore[arg-type]
    until(lambda: _answers(port), within_s=20)
    with ThreadPoolExecutor() as pool:
        got = pool.submit(served.stream)
        until(lambda: provider.calls)
        for _ in range(n_signals):
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=20)[1]
        last = got.result()[-1]
    assert process.returncode == 0
    assert "Traceback" not in said
    assert last == "data: [DONE]" if n_signals == 1 else "the sidecar is stopping" in last


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/livez", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.slow
def test_health_is_answered_while_hundreds_connect_and_call(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    """The smallest of the kind that one loop can play client, provider and sidecar of."""
    provider.on("a", Reply(body=answer(), delay_s=0.2))
    value = {"server": {"max_in_flight": 8}, "endpoints": [endpoint(provider, "a")]}
    with listening(value, state_dir, address) as served, ExitStack() as open_:
        lines = []
        for _ in range(400):
            line = socket.create_connection(("127.0.0.1", served.port))
            lines.append(open_.enter_context(line))
            line.sendall(_written())
        began = time.monotonic()
        assert _answers(served.port)
        assert time.monotonic() - began < 0.5
        statuses = [line.recv(12)[9:] for line in lines]
        assert set(statuses) == {b"200", b"503"}


@pytest.mark.parametrize(
    ("host", "port", "says"),
    [
        ("127.0.0.1", 0, "server.port"),
        ("no-such-host.invalid", 8787, "server.host"),
        ("203.0.113.7", 8787, "server.host"),
    ],
)
def test_an_address_that_cannot_be_had_is_named_with_the_fix(
    host: str, port: int, says: str
) -> None:
    with socket.socket() as taken:
        if not port:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
        with pytest.raises(CannotListen) as error:
            bound(host, port)
    assert f"{host}:{port}" in str(error.value)
    assert says in str(error.value)


def test_descriptors_are_raised_as_far_as_they_may() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        assert allow_descriptors(10) == 10
        fits = allow_descriptors(10_000_000)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert fits == 10_000_000 or (soft == hard and fits < hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# -- what should not happen ---------------------------------------------------------------------


@pytest.fixture
def said() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


def _break(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("the prompt: my secret plan")

    monkeypatch.setattr(what, fail)


def test_an_unexpected_error_is_one_line_with_the_id_that_the_answer_carries(
    sidecar: Sidecar, said: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _break(monkeypatch, "router.dispatch.asking.is_at_hand")
    got = sidecar.chat(text="my secret plan")
    assert (got.status_code, got.json()["error"]["code"]) == (500, "internal_error")
    lines = [line for line in said if line["event"] == "a request failed"]
    assert len(lines) == 1
    assert got.headers["x-request-id"] == lines[0]["id"]
    assert lines[0]["id"] in got.json()["error"]["message"]
    assert lines[0]["error"] == "ZeroDivisionError"
    assert lines[0]["place"].startswith("router/dispatch/asking.py:")
    assert "secret" not in str(said) + got.text
    assert sidecar.app.admission.n_under_way == 0


def test_an_unexpected_error_inside_a_stream_is_told_in_band(
    sidecar: Sidecar,
    provider: Provider,
    said: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    provider.on("a", Reply(chunks=chunks(*["w"] * 5), chunk_delay_s=0.05))
    _break(monkeypatch, "router.dispatch.stream.StreamedAnswer._take")
    got = sidecar.chat(model="a", stream=True)
    assert got.text.endswith("\n\n")
    last = got.text.strip().split("\n\n")[-1]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "internal_error"
    assert len([line for line in said if line["event"] == "a request failed"]) == 1
    assert sidecar.app.health.breakers[sidecar.digest("a")].in_flight == 0
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("kind", ["text/event-stream", "application/json"])
def test_a_provider_that_breaks_off_a_passed_answer_leaves_no_traceback(
    provider: Provider,
    state_dir: Path,
    address: Address,
    kind: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    provider.on("p", Reply(chunks=[b"data: {}\n\n"] * 3, headers={"content-type": kind}, cut=True))
    with listening(_ending(provider), state_dir, address) as served:
        last = served.stream("unlisted")[-1]
        assert "stream_cut" in last if kind == "text/event-stream" else last == "cut"
    assert not [r for r in caplog.records if r.exc_info and "Broken" not in str(r.exc_info[0])]


def test_the_place_of_an_error_is_the_innermost_line_of_ours() -> None:
    with pytest.raises(ConfigError) as error:
        compile_text("endpoints: [", file="x")
    assert place_of(error.value).startswith("router/config/nodes.py:")
