"""How long a call is waited for, what is started beside it, and when an answer is let go."""

from __future__ import annotations

import json
import math
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from conftest import (
    Provider,
    Reply,
    Sidecar,
    answer,
    chunks,
    endpoint,
    event,
    folded,
    learning,
    serving,
)

from router.dispatch import heartbeat
from router.dispatch.time_limits import TimeLimits, TimeLimitTable, deadline_s, tightest
from router.endpoints.entries import TimeoutsEntry
from router.net.pool import Target
from telemetry.store import Address
from telemetry.wire.sse import may_be_events

PING = b": keep-alive\n\n"
SAID = "hello"


def configuration(provider: Provider, *hosts: str, **more: Any) -> dict[str, Any]:
    """Endpoints in this order, the first the incumbent; `auto` may fall back to the others."""
    app = {"mode": "observe", **more.pop("app", {})}
    endpoints = [endpoint(provider, host) for host in hosts]
    return {"endpoints": endpoints, "apps": {"default": app}, **more}


def attempts(sidecar: Sidecar) -> dict[tuple[str, str], int]:
    found = sidecar.app.routes._services.metrics.attempts
    return {(name, result): n for (name, _, result), n in found.items()}


def said(got: Any) -> str:
    """What a stream says to a client that reads on over everything."""
    words = []
    for line in got.text.splitlines():
        if line.startswith("data: {"):
            for choice in json.loads(line[6:]).get("choices") or ():
                words.append((choice.get("delta") or {}).get("content") or "")
    return "".join(words)


# -- which limit holds --------------------------------------------------------------------------


def test_the_tightest_of_what_endpoint_strategy_and_app_say_holds() -> None:
    entries = [
        TimeoutsEntry(first_token_s=8, connect_s=3),
        TimeoutsEntry(first_token_s=120, stall_s=10),
        TimeoutsEntry(beside_s={"answer": 30}),  # type: ignore[arg-type]
    ]

    found = tightest(Target.of(httpx.URL("http://h/v1")), entries)

    assert (found.first_token_s, found.stall_s, found.answer_s) == (8, 10, math.inf)
    assert (found.beside_first_token_s, found.beside_answer_s) == (None, 30)
    assert found.target.connect_s == 3


@pytest.mark.parametrize(
    ("configured", "headers", "seconds"),
    [
        (None, {}, 600),
        (None, {b"x-stainless-read-timeout": b"20"}, 20),
        (None, {b"x-stainless-read-timeout": b"20.5"}, 20.5),
        (None, {b"x-stainless-timeout": b"60"}, 60),
        (None, {b"x-stainless-timeout": b"NOT_GIVEN"}, 600),
        (None, {b"x-stainless-read-timeout": b"None", b"x-stainless-timeout": b"7"}, 7),
        (None, {b"x-stainless-timeout": b"-1"}, 600),
        (None, {b"x-stainless-timeout": b"inf"}, 600),
        (None, {b"x-stainless-timeout": b"nan"}, 600),
        (5.0, {b"x-stainless-timeout": b"60"}, 5),
    ],
)
def test_a_deadline_is_the_configured_one_else_the_clients_own_else_ten_minutes(
    configured: float | None, headers: dict[bytes, bytes], seconds: float
) -> None:
    assert deadline_s(configured, headers) == seconds


def learnt(*, answer_s: float, ttft_s: float, n_calls: int) -> Any:
    """Beliefs of one category and endpoint."""
    posterior = SimpleNamespace(timed=np.array([[n_calls]]))
    return SimpleNamespace(
        place=lambda category: (posterior, 0),
        latency_q99_s=np.array([[answer_s]]),
        ttft_q99_s=np.array([[ttft_s]]),
    )


def test_a_second_start_goes_by_what_is_known_now_and_by_what_is_configured_before_that() -> None:
    table = TimeLimitTable(None)  # type: ignore[arg-type]
    free = tightest(Target.of(httpx.URL("http://h/v1")), [])
    said = tightest(free.target, [TimeoutsEntry(beside_s={"answer": 3})])  # type: ignore[arg-type]

    def waits(beliefs: Any, limits: TimeLimits = free, *, streamed: bool = False) -> float:
        return table.beside_s(limits, beliefs, 0, 0, streamed=streamed)

    before, after = (
        learnt(answer_s=40, ttft_s=4, n_calls=99),
        learnt(answer_s=60, ttft_s=1, n_calls=9),
    )
    for _ in range(2):  # the second time it is remembered
        assert waits(before) == 80
        assert waits(before, streamed=True) == 8
        assert waits(before, said) == 3
        assert waits(after) == 30  # of few calls little is known
        assert waits(after, streamed=True) == 10


@pytest.mark.slow
@pytest.mark.parametrize("streamed", [True, False])
def test_an_endpoint_known_to_be_quick_may_be_slow_where_no_limit_is_set(
    streamed: bool, provider: Provider, state_dir: Path, address: Address, client: Any
) -> None:
    value = configuration(provider, "a")
    with serving(value, state_dir, address) as sidecar, learning(state_dir, address):
        for _ in range(40):
            assert sidecar.chat("a", stream=streamed).status_code == 200
        sidecar.until(lambda: sidecar.calls_known() >= 40 and folded(client) >= 40)
        body = chunks(SAID) if streamed else None
        provider.on("a", Reply(body=answer(SAID), chunks=body, delay_s=5.5))

        got = sidecar.chat("a", stream=streamed)

        assert got.status_code == 200
        assert SAID in got.text


@pytest.mark.slow
def test_a_configured_limit_is_the_limit(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(body=answer(), delay_s=30))
    value = configuration(provider, "a")
    value["endpoints"][0]["timeouts"] = {"answer_s": 0.3}
    with serving(value, state_dir, address) as sidecar:
        began = time.monotonic()
        got = sidecar.chat("a")

        assert got.status_code == 503
        assert time.monotonic() - began < 3
        assert attempts(sidecar) == {("a", "timeout"): 1}


@pytest.mark.slow
def test_a_deadline_ends_no_answer_that_flows(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    words = [f"w{i} " for i in range(20)]
    provider.on("a", Reply(chunks=chunks(*words), chunk_delay_s=0.1))
    value = configuration(provider, "a", "b", server={"deadline_s": 0.8})
    with serving(value, state_dir, address) as sidecar:
        got = sidecar.chat("a", stream=True)
        mapped = sidecar.chat("auto", stream=True)

        assert said(got) == said(mapped) == "".join(words)
        assert got.text.endswith("data: [DONE]\n\n")


@pytest.mark.slow
def test_silence_inside_a_stream_ends_it_after_its_limit_and_is_told(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(chunks=chunks("x ", "y ", finish=False), chunk_delay_s=1.5))
    value = configuration(provider, "a", app={"timeouts": {"stall_s": 0.4}})
    with serving(value, state_dir, address) as sidecar:
        got = sidecar.chat("a", stream=True)

        assert '"stream_cut"' in got.text
        assert attempts(sidecar) == {("a", "timeout"): 1}


# -- a second start beside a slow one -----------------------------------------------------------

BESIDE = {"timeouts": {"beside_s": {"first_token": 0.3, "answer": 0.3}}}


@pytest.mark.slow
@pytest.mark.parametrize("streamed", [True, False])
def test_the_next_endpoint_is_started_beside_a_slow_one_and_both_are_booked(
    streamed: bool, provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(body=answer(), delay_s=30))
    with serving(configuration(provider, "a", "b", app=BESIDE), state_dir, address) as sidecar:
        began = time.monotonic()
        got = sidecar.chat(stream=streamed)

        assert got.headers["x-router-endpoint"] == "b"
        assert time.monotonic() - began < 2
        assert attempts(sidecar) == {("a", "overtaken"): 1, ("b", "ok"): 1}
        sidecar.until(lambda: provider.closed_early == 1)
        assert "router_second_starts_total" in sidecar.http.get("/metrics").text


@pytest.mark.slow
@pytest.mark.parametrize("streamed", [True, False])
def test_the_slow_one_wins_where_it_speaks_first(
    streamed: bool, provider: Provider, state_dir: Path, address: Address
) -> None:
    mine = {"body": answer(), "chunks": chunks("hi") if streamed else None}
    provider.on("a", Reply(**mine, delay_s=0.8))
    provider.on("b", Reply(**mine, delay_s=30))
    with serving(configuration(provider, "a", "b", app=BESIDE), state_dir, address) as sidecar:
        got = sidecar.chat(stream=streamed)

        assert got.headers["x-router-endpoint"] == "a"
        assert attempts(sidecar) == {("a", "ok"): 1, ("b", "overtaken"): 1}
        sidecar.until(lambda: provider.closed_early == 1)


@pytest.mark.slow
def test_a_second_start_that_fails_ends_nothing(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(body=answer(), delay_s=0.9))
    provider.on("b", Reply(401, b"{}"))
    with serving(configuration(provider, "a", "b", app=BESIDE), state_dir, address) as sidecar:
        assert sidecar.chat().headers["x-router-endpoint"] == "a"


@pytest.mark.slow
def test_a_slow_one_that_fails_leaves_the_call_to_the_second(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(503, b"{}", delay_s=0.6))
    provider.on("b", Reply(body=answer(), delay_s=0.8))
    with serving(configuration(provider, "a", "b", app=BESIDE), state_dir, address) as sidecar:
        got = sidecar.chat()

        assert got.headers["x-router-endpoint"] == "b"
        assert provider.hosts() == ["a", "b"]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["a", "auto"])
def test_nothing_is_started_beside_where_nobody_else_may_serve(
    model: str, provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(body=answer(), delay_s=0.8))
    app = BESIDE if model == "a" else {**BESIDE, "fallback": "none"}
    with serving(configuration(provider, "a", "b", app=app), state_dir, address) as sidecar:
        assert sidecar.chat(model).status_code == 200
        assert provider.hosts() == ["a"]


@pytest.mark.slow
def test_second_starts_draw_on_the_retry_budget(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(body=answer(), delay_s=0.8))
    provider.on("b", Reply(body=answer(), delay_s=0.1))
    with serving(configuration(provider, "a", "b", app=BESIDE), state_dir, address) as sidecar:
        served = [sidecar.chat().headers["x-router-endpoint"] for _ in range(6)]

        assert served[:3] == ["b", "b", "b"]
        assert "a" in served[3:]


@pytest.mark.slow
def test_a_client_that_leaves_ends_both(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    for host in "ab":
        provider.on(host, Reply(body=answer(), delay_s=30))
    with serving(configuration(provider, "a", "b", app=BESIDE), state_dir, address) as sidecar:
        with pytest.raises(openai.APITimeoutError):
            ask(sidecar, timeout=0.8)

        sidecar.until(lambda: provider.closed_early == 2)
        assert attempts(sidecar) == {("a", "client_gone"): 1, ("b", "client_gone"): 1}


def ask(sidecar: Sidecar, *, timeout: float = 30.0, **more: Any) -> Any:
    sdk = openai.OpenAI(
        base_url=f"{sidecar.url}/v1", api_key="none", max_retries=0, timeout=timeout
    )
    with sdk:
        got = sdk.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": "hi"}], **more
        )
        return list(got) if more.get("stream") else got


# -- when an answer is let go -------------------------------------------------------------------


@contextmanager
def raw_stream(sidecar: Sidecar, model: str = "a") -> Iterator[socket.socket]:
    """A client that reads at its own pace."""
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "x"}]}
    text = json.dumps(body).encode()
    with socket.create_connection(("127.0.0.1", sidecar.port)) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        line.settimeout(10)
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
        head += b"content-length: %d\r\n\r\n" % len(text)
        line.sendall(head + text)
        yield line


def read_until(line: socket.socket, what: bytes, got: bytes = b"") -> bytes:
    while what not in got:
        more = line.recv(65536)
        assert more, got[-200:]
        got += more
    return got


@pytest.mark.slow
def test_signs_of_life_pass_at_once_where_nobody_else_may_serve(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    replies = [PING] * 8 + chunks(SAID)
    provider.on(
        "a", Reply(chunks=replies, chunk_delay_s=0.2, headers={"openai-processing-ms": "7"})
    )
    app = {"timeouts": {"stall_s": 0.6}}
    with serving(configuration(provider, "a", app=app), state_dir, address) as sidecar:
        with raw_stream(sidecar) as line:
            began = time.monotonic()
            got = read_until(line, PING)
            first_s = time.monotonic() - began
            got = read_until(line, b"[DONE]", got)

        assert first_s < 0.8
        assert b"openai-processing-ms: 7" in got
        assert got.count(PING) == 8


@pytest.mark.slow
@pytest.mark.parametrize("hosts", ["a", "ab"])
def test_signs_of_life_never_extend_a_configured_limit_of_the_first_token(
    hosts: str, provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(chunks=[PING] * 40, chunk_delay_s=0.2))
    value = configuration(provider, *hosts, app={"timeouts": {"first_token_s": 0.7}})
    with serving(value, state_dir, address) as sidecar:
        began = time.monotonic()
        got = sidecar.chat("auto", stream=True)

        assert time.monotonic() - began < 3
        if hosts == "a":
            assert '"stream_cut"' in got.text
        else:
            assert got.headers["x-router-endpoint"] == "b"
            assert PING.decode() not in got.text
        assert attempts(sidecar)["a", "timeout"] == 1


@pytest.mark.slow
def test_signs_of_life_are_held_while_another_may_serve_and_pass_with_the_answer(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(chunks=[PING] * 4 + chunks(SAID), chunk_delay_s=0.1))
    app = {"timeouts": {"stall_s": 0.5}}
    with serving(configuration(provider, "a", "b", app=app), state_dir, address) as sidecar:
        got = sidecar.chat("auto", stream=True)

        assert got.headers["x-router-endpoint"] == "a"
        assert got.text.count(PING.decode()) == 4


@pytest.mark.slow
@pytest.mark.parametrize("after_content", [False, True])
def test_a_slow_reader_is_no_failure_of_the_endpoint(
    after_content: bool, provider: Provider, state_dir: Path, address: Address
) -> None:
    words = ["w" * 8192] * 400
    provider.on("a", Reply(chunks=chunks("first", *words) if after_content else chunks(*words)))
    app = {"timeouts": {"stall_s": 0.5, "first_token_s": 0.5}}
    with serving(configuration(provider, "a", app=app), state_dir, address) as sidecar:
        with raw_stream(sidecar) as line:
            got = line.recv(1024)
            time.sleep(1.5)
            got = read_until(line, b"[DONE]", got)

        assert b"stream_cut" not in got
        assert attempts(sidecar) == {("a", "ok"): 1}


@pytest.mark.slow
def test_comments_after_the_finish_reason_do_not_keep_a_stream_open_for_ever(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    said_all = chunks(SAID)[:-1]
    provider.on("a", Reply(chunks=said_all + [PING] * 100, chunk_delay_s=0.3))
    with serving(configuration(provider, "a"), state_dir, address) as sidecar:
        began = time.monotonic()
        got = sidecar.chat("a", stream=True)

        assert time.monotonic() - began < 8
        assert said(got) == SAID
        assert attempts(sidecar) == {("a", "ok"): 1}


# -- an answer is known by its bytes ------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "may_be"),
    [
        (b"data: {", True),
        (b"data:{", True),
        (b": hi", True),
        (b"\r\n\r\ndata: x", True),
        (b"\xef\xbb\xbfdata: x", True),
        (b"event: message\ndata: {}", True),
        (b"id: 7", True),
        (b"retry: 10", True),
        (b"d", True),
        (b"{", False),
        (b"[", False),
        (b"<html>", False),
        (b"error: no", False),
        (b"database is down", False),
    ],
)
def test_what_begins_like_an_event_may_be_a_stream(head: bytes, may_be: bool) -> None:
    assert may_be_events(head) is may_be


@pytest.mark.slow
@pytest.mark.parametrize("hosts", ["a", "ab"])
@pytest.mark.parametrize(
    "media_type",
    ["", "text/plain", "application/json", "Text/Event-Stream", "application/x-ndjson"],
)
def test_a_sound_stream_is_served_whatever_it_is_called(
    media_type: str, hosts: str, provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(chunks=chunks(SAID), headers={"content-type": media_type}))
    with serving(configuration(provider, *hosts), state_dir, address) as sidecar:
        got = sidecar.chat("auto", stream=True)

        assert said(got) == SAID
        assert attempts(sidecar) == {("a", "ok"): 1}


@pytest.mark.slow
@pytest.mark.parametrize("media_type", ["", "text/plain", "Application/JSON; charset=utf-8"])
@pytest.mark.parametrize("status", [200, 201, 203])
def test_a_sound_answer_is_served_whatever_it_is_called(
    status: int, media_type: str, provider: Provider, state_dir: Path, address: Address
) -> None:
    headers = {"content-type": media_type}
    provider.on("a", Reply(status, answer(SAID), headers=headers))
    with serving(configuration(provider, "a", "b"), state_dir, address) as sidecar:
        got = sidecar.chat()

        assert (got.status_code, got.content) == (status, answer(SAID))
        assert attempts(sidecar) == {("a", "ok"): 1}


# -- streams that an app wants whole ------------------------------------------------------------

BUFFERED = {"stream": "buffered"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "broken",
    [
        Reply(chunks=chunks("half ", finish=False), cut=True),
        Reply(chunks=chunks("half ", finish=False)),
        Reply(chunks=[*chunks("half ", finish=False), b"data: {no\n\n", b"data: [DONE]\n\n"]),
        Reply(chunks=[*chunks("half ", finish=False), event({"error": {"message": "no"}})]),
        Reply(chunks=chunks(*["half "] * 20, finish=False), chunk_delay_s=1.0),
    ],
    ids=["cut", "ended early", "unreadable", "an error", "stalled"],
)
def test_a_buffered_stream_that_breaks_is_begun_again_elsewhere_and_comes_whole(
    broken: Reply, provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", broken)
    provider.on("b", Reply(chunks=chunks("all ", "of it")))
    app = {**BUFFERED, "timeouts": {"stall_s": 0.4}}
    with serving(configuration(provider, "a", "b", app=app), state_dir, address) as sidecar:
        got = sidecar.chat("auto", stream=True)

        assert said(got) == "all of it"
        assert got.text.endswith("data: [DONE]\n\n")
        assert got.headers["x-router-endpoint"] == "b"
        assert attempts(sidecar)["b", "ok"] == 1


@pytest.mark.slow
def test_a_buffered_stream_without_a_terminator_is_whole_by_its_finish_reason(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(chunks=chunks(SAID)[:-1] + [b""] * 100, chunk_delay_s=0.2))
    with serving(configuration(provider, "a", app=BUFFERED), state_dir, address) as sidecar:
        assert said(sidecar.chat("auto", stream=True)) == SAID
        assert attempts(sidecar) == {("a", "ok"): 1}


@pytest.mark.slow
def test_a_client_that_waits_for_a_whole_stream_hears_of_it_and_its_feedback_counts(
    provider: Provider,
    state_dir: Path,
    address: Address,
    client: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heartbeat, "EVERY_S", 0.2)
    provider.on("a", Reply(chunks=chunks("half ", finish=False), chunk_delay_s=0.5, cut=True))
    provider.on("b", Reply(chunks=chunks("all ", "of it")))
    app = {**BUFFERED}
    value = configuration(provider, "a", "b", app=app)
    with serving(value, state_dir, address) as sidecar, learning(state_dir, address):
        got = sidecar.chat("auto", stream=True)

        assert got.text.startswith(": ")
        assert said(got) == "all of it"
        assert "x-router-endpoint" not in got.headers
        feedback = sidecar.feedback(decision_id=got.headers["x-router-decision-id"], passed=True)
        assert feedback.status_code == 202
        sidecar.until(lambda: sidecar.labels_known() == 1)
        again = sidecar.feedback(decision_id=got.headers["x-router-decision-id"], passed=False)
        assert again.json()["results"][0]["status"] == "accepted"
        labels = sidecar.app.keeper.current.posterior.labels
        assert labels.sum(axis=0).tolist() == [0.0, 1.0], "it counts for who answered"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["refused", "whole", "nothing"])
def test_what_is_no_stream_is_told_inside_one_that_has_begun(
    kind: str,
    provider: Provider,
    state_dir: Path,
    address: Address,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heartbeat, "EVERY_S", 0.2)
    refusal = b'{\n "error": {"message": "too hot", "code": "x"}\n}'
    reply = {
        "refused": Reply(400, refusal, delay_s=0.6),
        "whole": Reply(200, answer(SAID), delay_s=0.6),
        "nothing": Reply(reset=True, delay_s=0.6),
    }[kind]
    provider.on("a", reply)
    with serving(configuration(provider, "a", app=BUFFERED), state_dir, address) as sidecar:
        if kind == "whole":
            words = [c.choices[0].delta.content for c in ask(sidecar, stream=True)]
            assert "".join(w or "" for w in words) == SAID
            return
        with pytest.raises(openai.APIError, match="too hot" if kind == "refused" else "turned"):
            ask(sidecar, stream=True)


# -- unstreamed answers that take their time ----------------------------------------------------


def dribbled(*parts: bytes, **more: Any) -> Reply:
    """An unstreamed answer in pieces."""
    headers = {"content-type": "application/json"}
    return Reply(chunks=list(parts), chunk_delay_s=0.4, headers=headers, **more)


@pytest.mark.slow
def test_white_space_before_an_answer_passes_where_nobody_else_may_serve(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", dribbled(*[b"\n"] * 6, answer(SAID)))
    with serving(configuration(provider, "a"), state_dir, address) as sidecar:
        began = time.monotonic()
        body = {"model": "a", "messages": [{"role": "user", "content": "x"}]}
        with sidecar.http.stream("POST", "/v1/chat/completions", json=body) as got:
            begun_s = time.monotonic() - began
            whole = b"".join(got.iter_bytes())

        assert begun_s < 2.0
        assert whole == b"\n" * 6 + answer(SAID)
        assert attempts(sidecar) == {("a", "ok"): 1}
        assert "router_cost_usd_total" in sidecar.http.get("/metrics").text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("last", "cut", "result"),
    [(b"", True, "cut"), (b'{"choices": null}', False, "bad_reply"), (b"oops", False, "bad_reply")],
)
def test_an_answer_that_was_let_go_and_comes_to_nothing_is_booked_as_that(
    last: bytes, cut: bool, result: str, provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", dribbled(*[b"\n"] * 5, last, cut=cut))
    with serving(configuration(provider, "a"), state_dir, address) as sidecar:
        if cut:
            with pytest.raises(httpx.RemoteProtocolError):
                sidecar.chat("a")
        else:
            assert sidecar.chat("a").content == b"\n" * 5 + last
        sidecar.until(lambda: attempts(sidecar) == {("a", result): 1})


@pytest.mark.slow
def test_such_an_answer_is_held_where_another_may_serve(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", dribbled(*[b"\n"] * 5, cut=True))
    with serving(configuration(provider, "a", "b"), state_dir, address) as sidecar:
        got = sidecar.chat("auto")

        assert (got.status_code, got.headers["x-router-endpoint"]) == (200, "b")
