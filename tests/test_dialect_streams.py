"""Streams of every dialect, cut at every byte: none passes for whole, no half event passes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from conftest import Provider, Reply, chunks, endpoint, serving
from dialects import (
    OVERLOADED,
    SAID,
    completion,
    completion_events,
    message,
    message_events,
    named,
    response,
    response_events,
    response_failed,
    response_incomplete,
)

from router.dialects import chat, completions, messages, responses
from router.dialects.errors import error_event
from router.dialects.request import CallRequest
from telemetry.store import Address
from telemetry.wire.sse import EventSplitter, data_of

ASK = [{"role": "user", "content": "hi"}]
TOOLS = [{"name": "weather", "type": "function", "input_schema": {"type": "object"}}]
ASKED: dict[str, dict[str, Any]] = {
    "chat/completions": {"messages": ASK, "stream_options": {"include_usage": True}},
    "messages": {
        "messages": ASK,
        "max_tokens": 99,
        "tools": TOOLS,
        "thinking": {"type": "adaptive"},
    },
    "responses": {"input": ASK, "tools": TOOLS, "reasoning": {"effort": "low"}},
    "completions": {"prompt": ["a", "b"], "stream_options": {"include_usage": True}},
}
PARSERS: dict[str, Callable[[bytes], CallRequest]] = {
    "chat/completions": chat.parse,
    "messages": messages.parse,
    "responses": responses.parse,
    "completions": completions.parse,
}
ALL = ["chat", "messages", "responses", "completions"]


def body_of(path: str, model: str = "a") -> dict[str, Any]:
    return {"model": model, "stream": True, **ASKED[path]}


def request_of(path: str) -> CallRequest:
    return PARSERS[path](json.dumps(body_of(path)).encode())


def whole_of(path: str) -> dict[str, Any]:
    """The whole answer that the sample says in pieces."""
    if path == "completions":
        return completion(body_of(path))
    return (message if path == "messages" else response)(body_of(path))


def sample(path: str) -> list[bytes]:
    """The events of a stream."""
    if path == "chat/completions":
        return chunks("hel", "lo", usage=True)
    if path == "completions":
        return completion_events(body_of(path))
    events = message_events if path == "messages" else response_events
    return [named(event) for event in events(whole_of(path))]


@dataclass(frozen=True)
class Read:
    """What a client makes of the events that reached it."""

    content: str  # all deltas, in order
    ended: bool  # by an event that says that it is all
    failed: bool  # an event says that it is no answer


def read(stream: bytes) -> Read:
    """Read events as a client does that mends nothing.

    Raises:
        ValueError: an event's data is no JSON.
    """
    said, ended, failed = [], False, False
    splitter = EventSplitter()
    for event in splitter.feed(stream):
        data = data_of(event)
        if data == b"[DONE]":
            ended = True
        elif data:
            value = json.loads(data)
            kind = value.get("type", "")
            failed |= kind in ("error", "response.failed") or bool(value.get("error"))
            ended |= kind in ("message_stop", "response.completed", "response.incomplete")
            said.append(_content(value))
    assert not splitter.take_rest().strip(), "half an event reached the client"
    return Read("".join(said), ended, failed)


def _content(value: dict[str, Any]) -> str:
    delta = value.get("delta")
    if isinstance(delta, str):
        return delta
    if isinstance(delta, dict):
        found = [delta.get(k) for k in ("text", "thinking", "signature", "partial_json")]
        return "".join(each for each in found if each)
    choices = value.get("choices") or ()
    said = (c.get("text") or c.get("delta", {}).get("content") for c in choices)
    return "".join(each for each in said if each)


PATHS = pytest.mark.parametrize("path", list(ASKED))


@PATHS
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("ended_well", [True, False])
def test_no_cut_of_a_stream_passes_for_whole(ended_well: bool, line_end: bytes, path: str) -> None:
    """Cut at every byte; where the connection ended properly, and where it broke."""
    request = request_of(path)
    stream = b"".join(sample(path)).replace(b"\n", line_end)
    all_of_it = read(stream)

    taken = []
    for at in range(len(stream) + 1):
        state = request.open_stream(hide_usage=False)
        passed = state.feed(stream[:at])
        if ended_well:
            passed += state.flush()
        seen = read(passed)
        if state.is_whole(ended_well=ended_well):
            taken.append(at)
            assert seen.content == all_of_it.content
        else:
            assert not seen.ended
        assert not seen.failed

    assert taken
    assert len(stream) in taken


@PATHS
@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_a_stream_is_read_the_same_in_pieces_of_any_size(n: int, path: str) -> None:
    stream = b"".join(sample(path))
    at_once, piecewise = (request_of(path).open_stream(hide_usage=False) for _ in range(2))
    at_once.feed(stream)

    passed = b"".join(piecewise.feed(stream[i : i + n]) for i in range(0, len(stream), n))

    assert passed == stream
    assert piecewise.done
    assert (piecewise.usage, piecewise.id) == (at_once.usage, at_once.id)
    assert piecewise.usage is not None


ERRORS = {
    "messages": [
        named(OVERLOADED),
        b'event: error\ndata: {"message":"odd"}\n\n',
        b'data: {"error":{"message":"said as OpenAI says it"}}\n\n',
    ],
    "responses": [
        named({"type": "error", "code": "server_error", "message": "m", "param": None}),
        named({"type": "error", "error": {"code": "server_error", "message": "m"}}),
        named(response_failed(response(body_of("responses")))),
        b'event: error\ndata: {"message":"odd"}\n\n',
    ],
    "chat/completions": [b'data: {"error":{"message":"m"}}\n\n'],
    "completions": [b'data: {"error":{"message":"m"}}\n\n'],
}


@pytest.mark.parametrize(
    ("path", "error"), [(path, error) for path, errors in ERRORS.items() for error in errors]
)
def test_an_error_inside_a_stream_is_one_wherever_it_comes(path: str, error: bytes) -> None:
    events = sample(path)
    for place in range(len(events) - 1):
        state = request_of(path).open_stream(hide_usage=False)

        passed = state.feed(b"".join([*events[:place], error]))

        assert passed.endswith(error)
        assert state.failed
        assert state.told
        assert not state.is_whole(ended_well=True)


def test_a_response_that_ran_into_its_limit_is_whole() -> None:
    short = response_incomplete(response(body_of("responses")))
    state = request_of("responses").open_stream(hide_usage=False)

    state.feed(b"".join(named(event) for event in response_events(short)))

    assert state.is_whole(ended_well=True)
    assert state.usage is not None


@PATHS
def test_an_error_of_ours_ends_a_stream_in_its_dialect(path: str) -> None:
    state = request_of(path).open_stream(hide_usage=False)
    state.feed(error_event(f"/v1/{path}", "stream_cut", "cut"))

    assert state.failed
    assert read(error_event(f"/v1/{path}", "stream_cut", "cut")).failed


def test_an_error_of_ours_has_the_number_that_comes_next_in_a_response() -> None:
    state = request_of("responses").open_stream(hide_usage=False)
    passed = state.feed(b"".join(sample("responses")[:4]))

    error = error_event("/v1/responses", "stream_cut", "cut", number=state.n_events)

    events = [json.loads(data_of(each)) for each in EventSplitter().feed(passed + error)]
    assert [each["sequence_number"] for each in events] == list(range(5))


# -- through a sidecar ---------------------------------------------------------------------------

EVERY = 23
"""Bytes between two cuts that go over the wire; `scripts/prove streams` leaves none out."""


def _cuts(path: str) -> Iterator[tuple[int, bool]]:
    for at in range(0, len(b"".join(sample(path))), EVERY):
        yield from ((at, False), (at, True))


@PATHS
@pytest.mark.parametrize("mode", ["live", "buffered"])
def test_no_cut_reaches_the_client_as_an_answer(
    mode: str, path: str, provider: Provider, state_dir: Path, address: Address
) -> None:
    whole = b"".join(sample(path))
    app = {"mode": "observe", "signals": False, "stream": mode if mode == "buffered" else "live"}
    value = {
        "endpoints": [endpoint(provider, "a", dialects=ALL)],
        "apps": {"default": app},
    }
    with serving(value, state_dir, address) as sidecar:
        for at, breaks in _cuts(path):
            provider.on("a", Reply(chunks=[whole[:at]], cut=breaks))
            got = sidecar.http.post(f"/v1/{path}", json=body_of(path))
            if "event-stream" not in got.headers["content-type"]:
                assert got.status_code >= 500, (at, breaks)
                continue
            seen = read(got.content)
            assert seen.failed or seen.content == read(whole).content, (at, breaks)


@PATHS
def test_a_stream_that_is_wanted_whole_is_begun_again_elsewhere(
    path: str, provider: Provider, state_dir: Path, address: Address
) -> None:
    events = sample(path)
    value = {
        "endpoints": [
            endpoint(provider, "a", dialects=ALL),
            endpoint(provider, "b", dialects=ALL),
        ],
        "apps": {"default": {"mode": "observe", "stream": "buffered"}},
    }
    provider.on("a", Reply(chunks=events[: len(events) // 2], cut=True))
    provider.on("b", Reply(chunks=events))
    with serving(value, state_dir, address) as sidecar:
        body = body_of(path, "auto") | {"store": False}  # what may be stored goes out once
        got = sidecar.http.post(f"/v1/{path}", json=body)

    assert got.content == b"".join(events)
    assert got.headers["x-router-endpoint"] == "b"


# -- a whole answer where a stream was asked for ---------------------------------------------------


def _transport(stream: bytes) -> httpx2.Client:
    headers = {"content-type": "text/event-stream"}
    answer = httpx2.Response(200, headers=headers, content=stream)
    return httpx2.Client(transport=httpx2.MockTransport(lambda _: answer))


def _said(blocks: list[Any]) -> list[dict[str, Any]]:
    return [_without_nulls(b.to_dict()) for b in blocks]


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return [_without_nulls(v) for v in value] if isinstance(value, list) else value


def test_a_whole_message_is_read_the_same_as_a_stream() -> None:
    whole = whole_of("messages")
    whole["content"] += [
        {"type": "redacted_thinking", "data": "abc"},
        {"type": "tool_use", "id": "toolu_2", "name": "none", "input": {}},
        {"type": "text", "text": "", "citations": None},
        {
            "type": "text",
            "text": "cited",
            "citations": [{"type": "char_location", "cited_text": "c", "document_index": 0}],
        },
    ]
    stream = request_of("messages").as_stream(json.dumps(whole).encode())
    with _transport(stream) as http:
        client = anthropic.Anthropic(base_url="http://h", api_key="k", http_client=http)
        with client.messages.stream(model="a", max_tokens=9, messages=ASK) as events:
            got = events.get_final_message()

    assert _said(got.content) == _without_nulls(whole["content"])
    assert (got.id, got.stop_reason, got.model) == ("msg_1", "tool_use", "a")
    assert got.usage.to_dict() == whole["usage"]


def test_a_whole_response_is_read_the_same_as_a_stream() -> None:
    whole = whole_of("responses")
    whole["output"][1]["content"].append({"type": "refusal", "refusal": "no"})
    whole["output"].append({"type": "web_search_call", "id": "ws_1", "status": "completed"})
    stream = request_of("responses").as_stream(json.dumps(whole).encode())
    with _transport(stream) as http:
        client = openai.OpenAI(base_url="http://h", api_key="k", http_client=http)
        with client.responses.stream(model="a", input="hi") as events:
            kinds = [event.type for event in events]
            got = events.get_final_response()

    assert _said(got.output) == whole["output"]
    assert got.usage.to_dict() == whole["usage"]
    assert got.output_text == SAID
    assert kinds[0] == "response.created"
    assert "response.function_call_arguments.done" in kinds


@pytest.mark.parametrize("path", ["messages", "responses", "completions"])
def test_a_whole_answer_as_a_stream_is_whole_to_our_own_reader(path: str) -> None:
    request = request_of(path)
    state = request.open_stream(hide_usage=False)
    body = json.dumps(whole_of(path)).encode()
    answer = request.read_answer(body)
    assert answer is not None

    state.feed(request.as_stream(body))

    assert state.is_whole(ended_well=True)
    assert (state.id, state.usage, state.model) == (answer.id, answer.usage, answer.model)


@pytest.mark.parametrize("path", ["messages", "responses", "completions"])
def test_a_whole_answer_reaches_a_client_whose_stream_has_begun_as_one(
    path: str, provider: Provider, state_dir: Path, address: Address
) -> None:
    """Its app wants streams whole, so it hears comments meanwhile; its provider streams nothing."""
    value = {
        "endpoints": [endpoint(provider, "a", dialects=ALL)],
        "apps": {"default": {"mode": "observe", "stream": "buffered"}},
    }
    body = json.dumps(whole_of(path)).encode()
    provider.on("a", Reply(body=body, delay_s=1.5))
    with serving(value, state_dir, address) as sidecar:
        headers = {"x-stainless-timeout": "3"}
        got = sidecar.http.post(f"/v1/{path}", json=body_of(path), headers=headers)

    assert got.content.startswith(b":")
    seen = read(got.content)
    assert (seen.ended, seen.failed) == (True, False)
    assert SAID in seen.content
