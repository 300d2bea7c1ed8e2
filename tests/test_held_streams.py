"""What a client sees of a stream while it is held for its first content, and that it is no less."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, cast

import anthropic
import httpx
import httpx2
import pytest
from conftest import Provider, Reply, Sidecar, chunks, endpoint, event, serving
from dialects import OVERLOADED, SAID, message, message_events, named, response, response_events

from router.dialects.parsers import PARSERS
from router.dispatch import heartbeat
from router.net.served import ServedExchange
from telemetry.store import Address

ALL = ["chat", "messages", "responses", "completions"]
ASK = [{"role": "user", "content": "hi"}]
ASKED: dict[str, dict[str, Any]] = {
    "chat/completions": {"messages": ASK},
    "messages": {"messages": ASK, "max_tokens": 9},
    "responses": {"input": "hi", "store": False},
}


def sample(path: str) -> list[bytes]:
    """The events of a stream."""
    if path == "chat/completions":
        return chunks(SAID)
    asked = {"model": "a", **ASKED[path]}
    if path == "messages":
        return [named(one) for one in message_events(message(asked))]
    return [named(one) for one in response_events(response(asked))]


N_BEGINS = {"chat/completions": 1, "messages": 2, "responses": 2}
BEGINS = {path: sample(path)[:n] for path, n in N_BEGINS.items()}
"""What says nothing yet: a role; a begin and a ping; two notices."""
REST = {path: sample(path)[n:] for path, n in N_BEGINS.items()}
ERRORS = {
    "chat/completions": event({"error": {"message": "busy", "code": "overloaded"}}),
    "messages": named(OVERLOADED),
    "responses": named({"type": "error", "code": "server_error", "message": "busy"}),
}
PATHS = pytest.mark.parametrize("path", list(ASKED))


def slowly(path: str, *ends: bytes, wait_s: float = 0.8) -> Reply:
    """A begin at once, comments while nothing is said, and then what ends it."""
    waits = [b": thinking\n\n"] * 4
    return Reply(chunks=[*BEGINS[path], *waits, *ends], chunk_delay_s=wait_s / 4)


def two(provider: Provider) -> dict[str, Any]:
    return {
        "endpoints": [endpoint(provider, name, dialects=ALL) for name in "ab"],
        "apps": {"default": {"mode": "observe", "fallback": "any"}},
    }


def ask(sidecar: Sidecar, path: str, model: str = "auto") -> tuple[float, httpx.Response]:
    """The seconds until the first byte, and the answer."""
    body = {"model": model, "stream": True, **ASKED[path]}
    began = time.monotonic()
    with sidecar.http.stream("POST", f"/v1/{path}", json=body) as got:
        pieces = got.iter_bytes()
        first = next(pieces)
        waited_s = time.monotonic() - began
        got._content = first + b"".join(pieces)
    return waited_s, got


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "EVERY_S", 0.2)


@PATHS
def test_a_client_hears_of_a_stream_that_has_begun_and_says_nothing_yet(
    path: str, provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", slowly(path, *REST[path]))
    with serving(two(provider), state_dir, address) as sidecar:
        waited_s, got = ask(sidecar, path)

    assert waited_s < 0.7
    assert got.content.startswith(heartbeat.COMMENT)
    events = got.content.replace(heartbeat.COMMENT, b"")
    assert events == b"".join([*BEGINS[path], *[b": thinking\n\n"] * 4, *REST[path]])
    assert "x-router-endpoint" not in got.headers
    assert got.headers["x-router-decision-id"]


@PATHS
def test_an_error_before_any_content_is_answered_by_another_all_the_same(
    path: str, provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", slowly(path, ERRORS[path]))
    provider.on("b", Reply(chunks=[*BEGINS[path], *REST[path]]))
    with serving(two(provider), state_dir, address) as sidecar:
        waited_s, got = ask(sidecar, path)
        said = sidecar.feedback(decision_id=got.headers["x-router-decision-id"], passed=True)

    assert waited_s < 0.7
    events = got.content.replace(heartbeat.COMMENT, b"")
    assert events == b"".join([*BEGINS[path], *REST[path]])
    assert said.status_code == 202


def test_where_no_provider_has_begun_a_status_is_still_one(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    for host in "ab":
        refusal = json.dumps(OVERLOADED).encode()
        provider.on(host, Reply(529, refusal, headers={"retry-after": "9"}, delay_s=0.6))
    with serving(two(provider), state_dir, address) as sidecar:
        body = {"model": "auto", "stream": True, **ASKED["messages"]}
        got = sidecar.http.post("/v1/messages", json=body)

    assert got.status_code == 529
    assert got.headers["retry-after"] == "9"


@PATHS
def test_what_nobody_else_may_serve_passes_as_it_comes(
    path: str, provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", slowly(path, *REST[path]))
    with serving(
        two(provider) | {"apps": {"default": {"mode": "observe"}}}, state_dir, address
    ) as sidecar:
        waited_s, got = ask(sidecar, path, "a")

    assert waited_s < 0.5
    assert got.content.startswith(BEGINS[path][0])
    assert got.headers["x-router-endpoint"] == "a"


def test_a_client_that_waits_a_second_for_a_byte_is_served_as_it_is_directly(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", slowly("messages", *REST["messages"], wait_s=2.0))
    with (
        serving(two(provider), state_dir, address) as sidecar,
        httpx2.Client(trust_env=False, verify=False, timeout=1.0) as http,
    ):
        client = anthropic.Anthropic(
            base_url=sidecar.url, api_key="k", http_client=http, max_retries=0, timeout=1.0
        )
        with client.messages.stream(model="auto", max_tokens=9, messages=ASK) as stream:  # type: ignore[arg-type]
            assert stream.get_final_text() == SAID


# -- what counts as content ----------------------------------------------------------------------


def delta(**said: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": said, "finish_reason": None}]})


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("chat/completions", delta(reasoning_content="hm")),
        ("chat/completions", delta(reasoning="hm")),
        ("chat/completions", delta(reasoning_details=[{"type": "reasoning.text", "text": "hm"}])),
        ("chat/completions", delta(tool_calls=[{"index": 0, "function": {"name": "f"}}])),
        *(
            ("messages", named({"type": "content_block_delta", "index": 0, "delta": one}))
            for one in (
                {"type": "thinking_delta", "thinking": "hm"},
                {"type": "signature_delta", "signature": "s"},
                {"type": "input_json_delta", "partial_json": "{"},
            )
        ),
        *(
            ("responses", named({"type": f"response.{kind}.delta", "delta": "hm"}))
            for kind in ("reasoning_summary_text", "reasoning_text", "refusal", "output_text")
        ),
    ],
)
def test_thinking_is_content_as_text_is(path: str, said: bytes) -> None:
    body = json.dumps({"model": "a", "stream": True, **ASKED[path]}).encode()
    stream = PARSERS[f"/v1/{path}"](body).open_stream(hide_usage=False)
    stream.feed(b"".join(BEGINS[path]))
    before = stream.spoke
    stream.feed(said)

    assert (before, stream.spoke) == (False, True)


class Line:
    """A client's connection, as far as an answer needs one."""

    writable = None
    is_gone = False

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.write = self.written.append


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("framing", "written"),
    [
        ((b"transfer-encoding", b"chunked"), [b"3\r\nabc\r\n"]),
        ((b"content-length", b"5"), [b"", b"abc"]),
    ],
)
async def test_a_first_piece_leaves_with_the_head(
    framing: tuple[bytes, bytes], written: list[bytes]
) -> None:
    """In chunks in one write; where the length is counted, after the head as ever."""
    line = Line()
    exchange = ServedExchange(cast(Any, line), "GET", b"/", b"", [], None)
    headers = [] if framing[1] == b"chunked" else [framing]
    await exchange.start(200, headers, b"abc")
    head = b"HTTP/1.1 200 OK\r\n%b: %b\r\n\r\n" % framing
    assert line.written == [head + written[0], *written[1:]]
    assert exchange.n_parts == 1


@pytest.mark.anyio
async def test_a_first_piece_that_is_longer_than_was_said_does_not_leave() -> None:
    line = Line()
    exchange = ServedExchange(cast(Any, line), "GET", b"/", b"", [], None)
    with pytest.raises(ConnectionAbortedError):
        await exchange.start(200, [(b"content-length", b"2")], b"abc")
    assert line.written == [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"]


@pytest.mark.anyio
async def test_no_first_piece_answers_head() -> None:
    line = Line()
    exchange = ServedExchange(cast(Any, line), "HEAD", b"/", b"", [], None)
    await exchange.start(200, [], b"abc")
    assert line.written == [b"HTTP/1.1 200 OK\r\n\r\n"]
