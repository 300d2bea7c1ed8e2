"""Streams said in another dialect: equal to the whole answer, and never whole where they broke."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anthropic
import httpx
import httpx2
import msgspec
import openai
import pytest
from fuzzing import SEED, WORDS, mutated, times
from hypothesis import given, settings
from hypothesis import strategies as st
from translated import (
    CREATED,
    HIDING,
    IN_CHAT,
    SAMPLES,
    SHOWING,
    answers,
    chat_parts,
    message_parts,
)

from router.dialects.errors import error_event
from router.dialects.stream import MAX_EVENT_BYTES
from router.dispatch.attempt import Reply
from router.dispatch.held import HeldStream, Hold, StreamFailed
from router.dispatch.stream import StreamedAnswer
from router.endpoints.entries import Dialect
from router.translation import chat_answer, counts, messages_answer, responses_answer
from router.translation.answers import translated_answer, translated_stream
from router.translation.completion import Completion, Declined, Stop
from router.translation.fitting import Fitting
from router.translation.prompt import Prompt, Text, Thought, ToolUse
from router.translation.stream import TranslatedStream
from telemetry.wire.sse import DONE, EventSplitter, data_of

PAIRS = [("chat", "messages"), ("chat", "responses"), ("messages", "chat")]
PAIRS += [("messages", "responses")]
CASES = [(path, to) for path in SAMPLES for to in json.loads(path.read_text())["streamed"]]
"""Samples, and who hears them."""
EVERY_CASE = pytest.mark.parametrize(
    ("path", "to"), CASES, ids=[f"{path.stem}-{to}" for path, to in CASES]
)
EVERY_PAIR = pytest.mark.parametrize(("speaks", "to"), PAIRS)


def opened(
    speaks: str, to: str, asked: Prompt = SHOWING, *, shows_usage: bool = True
) -> TranslatedStream:
    return translated_stream(
        speaks=Dialect(speaks),
        to=Dialect(to),
        asked=asked,
        echo={},
        created=CREATED,
        shows_usage=shows_usage,
    )


def sent(event: Any) -> bytes:
    """An event as an endpoint sends it."""
    if isinstance(event, str):
        return (event if event.startswith(":") else f"data: {event}").encode() + b"\n\n"
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {json.dumps(event)}\n\n".encode()


def stream_of(path: Path) -> tuple[str, list[bytes]]:
    """The dialect of a sample, and its events."""
    return path.stem.split("_")[0], [sent(e) for e in json.loads(path.read_text())["stream"]]


@dataclass
class Read:
    """What a client makes of the events that reached it."""

    events: list[Any] = field(default_factory=list)  # data, or a comment
    content: str = ""  # of all pieces, in order
    ended: bool = False  # something says that this is all, or why
    failed: bool = False


def read(said: bytes) -> Read:
    """Read events as a client does that mends nothing."""
    found, splitter = Read(), EventSplitter()
    for event in splitter.feed(said):
        data = data_of(event)
        if data == DONE:
            found.ended = True
        if not data or data == DONE:
            found.events.append((data or event.strip()).decode())
            continue
        value = json.loads(data)
        found.events.append(value)
        kind = value.get("type", "")
        assert not kind or event.startswith(f"event: {kind}\n".encode())
        found.failed |= kind == "error" or bool(value.get("error"))
        found.ended |= _ends(value)
        found.content += _content(value)
    assert not splitter.take_rest(), "half an event reached the client"
    return found


def _ends(value: dict[str, Any]) -> bool:
    if value.get("type") in ("message_stop", "response.completed", "response.incomplete"):
        return True
    delta = value.get("delta")
    if isinstance(delta, dict) and delta.get("stop_reason"):
        return True
    status = (value.get("response") or {}).get("status", "in_progress")
    finishes = any(choice.get("finish_reason") for choice in value.get("choices") or ())
    return finishes or status != "in_progress"


def _content(value: dict[str, Any]) -> str:
    delta = value.get("delta")
    if isinstance(delta, str):
        return delta
    if isinstance(delta, dict):
        return "".join(delta.get(k) or "" for k in ("text", "thinking", "partial_json"))
    said = [choice["delta"] for choice in value.get("choices") or ()]
    texts = [
        each.get(k) or "" for each in said for k in ("reasoning_content", "content", "refusal")
    ]
    for call in itertools.chain.from_iterable(each.get("tool_calls") or () for each in said):
        texts.append(call.get("function", {}).get("arguments", ""))
    return "".join(texts)


@EVERY_CASE
def test_a_stream_is_said_as_the_other_dialect_has_it(path: Path, to: str) -> None:
    speaks, events = stream_of(path)
    stream = opened(speaks, to)

    said = stream.feed(b"".join(events)) + stream.flush()

    assert read(said).events == json.loads(path.read_text())["streamed"][to]
    assert stream.is_whole(ended_well=True)


def cuts_of(events: list[bytes]) -> list[int]:
    """Where a stream is cut; with every byte of it most of the time goes into one long text."""
    ends = list(itertools.accumulate(map(len, events), initial=0))
    whole = ends[-1]
    near = {end + by for end in ends for by in (-2, -1, 0, 1, 2)}
    cuts = {*near, *range(whole - 200, whole + 1), *range(0, whole, 5)}
    return sorted(at for at in cuts if 0 <= at <= whole)


@EVERY_CASE
@pytest.mark.parametrize("ended_well", [True, False])
def test_no_cut_of_a_stream_passes_for_whole(path: Path, to: str, ended_well: bool) -> None:
    """Cut around every event, in the last ones at every byte, and in all at every fifth."""
    speaks, events = stream_of(path)
    whole = b"".join(events)
    everything = opened(speaks, to)
    all_of_it = read(everything.feed(whole) + everything.flush()).content

    taken = []
    for at in cuts_of(events):
        stream = opened(speaks, to)
        said = stream.feed(whole[:at])
        said += stream.flush() if ended_well else stream.close()
        seen = read(said)
        is_whole = stream.is_whole(ended_well=ended_well)
        assert seen.ended == is_whole
        assert not seen.failed
        if is_whole:
            taken.append(at)
            assert seen.content == all_of_it
            assert stream.flush() == stream.close() == b""

    assert len(whole) in taken


@EVERY_CASE
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("n", [1, 7])
def test_a_stream_is_said_the_same_in_pieces_of_any_size(
    path: Path, to: str, n: int, line_end: bytes
) -> None:
    speaks, events = stream_of(path)
    whole = b"".join(events).replace(b"\n", line_end)
    at_once, piecewise = opened(speaks, to), opened(speaks, to)
    expected = at_once.feed(whole) + at_once.flush()

    said = b"".join(piecewise.feed(whole[i : i + n]) for i in range(0, len(whole), n))
    said += piecewise.flush()

    assert said == expected
    assert (piecewise.id, piecewise.model, piecewise.usage) == (
        at_once.id,
        at_once.model,
        at_once.usage,
    )


# -- real clients --------------------------------------------------------------------------------


def answering(said: bytes) -> httpx2.Client:
    """A client's connection that brings this."""
    headers = {"content-type": "text/event-stream"}
    return httpx2.Client(
        transport=httpx2.MockTransport(
            lambda _: httpx2.Response(200, content=said, headers=headers)
        )
    )


def as_anthropic(said: bytes) -> dict[str, Any]:
    client = anthropic.Anthropic(api_key="k", http_client=answering(said), max_retries=0)
    ask: Any = [{"role": "user", "content": "hi"}]
    with client.messages.stream(model="auto", max_tokens=9, messages=ask) as stream:
        return stream.get_final_message().to_dict()


def as_openai(said: bytes) -> dict[str, Any]:
    """What its plain stream brings, put together by index, as its users do."""
    client = openai.OpenAI(api_key="k", http_client=answering(said), max_retries=0)
    ask: Any = [{"role": "user", "content": "hi"}]
    message: dict[str, Any] = {}
    calls: dict[int, dict[str, Any]] = {}
    whole: dict[str, Any] = {}
    for chunk in client.chat.completions.create(model="auto", messages=ask, stream=True):
        value = chunk.to_dict()
        whole |= {k: value[k] for k in ("id", "model", "created")}
        whole |= {"usage": value["usage"]} if value.get("usage") else {}
        for choice in value["choices"]:
            for name in ("content", "refusal", "reasoning_content"):
                if text := choice["delta"].get(name):
                    message[name] = message.get(name, "") + text
            for piece in choice["delta"].get("tool_calls") or ():
                call = calls.setdefault(piece["index"], {"function": {"arguments": ""}})
                call["function"]["arguments"] += piece["function"]["arguments"]
                if piece.get("id"):
                    call |= {"id": piece["id"], "type": piece["type"]}
                    call["function"]["name"] = piece["function"]["name"]
            whole |= {"finish_reason": choice["finish_reason"]}
    if calls:
        message["tool_calls"] = list(calls.values())
    return whole | {"message": message}


def as_openai_responses(said: bytes) -> dict[str, Any]:
    client = openai.OpenAI(api_key="k", http_client=answering(said), max_retries=0)
    shown: dict[int, str] = {}
    with client.responses.stream(model="auto", input="hi") as stream:
        for event in stream:
            if event.type.endswith(".delta"):
                at = event.output_index
                shown[at] = shown.get(at, "") + event.delta
            if event.type in ("response.completed", "response.incomplete"):
                whole = event.response.to_dict()
    for at, item in enumerate(whole["output"]):
        assert shown[at] == _text_of(item)
    return whole


def _text_of(item: dict[str, Any]) -> str:
    match item["type"]:
        case "message":
            (part,) = item["content"]
            return part.get("text") or part.get("refusal")
        case "reasoning":
            return item["summary"][0]["text"]
        case "custom_tool_call":
            return item["input"]
        case _:
            return item["arguments"]


def without(value: Any, *names: str) -> Any:
    """What a client adds of its own is taken out."""
    if isinstance(value, dict):
        return {k: without(v, *names) for k, v in value.items() if k not in names}
    return [without(v, *names) for v in value] if isinstance(value, list) else value


CLIENTS: dict[str, Callable[[bytes], dict[str, Any]]] = {
    "messages": as_anthropic,
    "chat": as_openai,
    "responses": as_openai_responses,
}
OF_CLIENTS = ("parsed", "parsed_output", "parsed_arguments", "stop_details")


def agree(heard: dict[str, Any], whole: dict[str, Any], to: str) -> None:
    """A client that heard the stream has what the whole answer says."""
    if to == "chat":
        (choice,) = whole["choices"]
        message = {k: v for k, v in choice["message"].items() if v is not None and k != "role"}
        head = {k: whole[k] for k in ("id", "model", "created", "usage") if k in whole}
        whole = head | {"finish_reason": choice["finish_reason"], "message": message}
    assert without(heard, *OF_CLIENTS) == whole


@EVERY_CASE
def test_a_client_that_hears_the_stream_has_the_whole_answer(path: Path, to: str) -> None:
    speaks, events = stream_of(path)
    stream = opened(speaks, to)
    said = stream.feed(b"".join(events)) + stream.flush()

    heard = CLIENTS[to](said)

    whole = json.loads(path.read_text())["whole"][to]
    agree(heard, whole, to)


CUT_SHORT = ("messages_context", "messages_length", "messages_pause", "messages_refusal")
"""Of these the helper raises why they end."""


@pytest.mark.parametrize(
    "path", [p for p, to in CASES if to == "chat" and p.stem not in CUT_SHORT], ids=lambda p: p.stem
)
def test_the_stream_helper_of_openai_has_the_whole_answer(path: Path) -> None:
    speaks, events = stream_of(path)
    client = openai.OpenAI(
        api_key="k", http_client=answering(opened(speaks, "chat").feed(b"".join(events)))
    )
    ask: Any = [{"role": "user", "content": "hi"}]

    with client.chat.completions.stream(model="auto", messages=ask) as stream:
        heard = stream.get_final_completion().to_dict()

    whole = json.loads(path.read_text())["whole"]["chat"]
    (choice,) = whole["choices"]
    choice["message"]["content"] = choice["message"]["content"] or ""
    assert _filled(without(heard, "index", "object", *OF_CLIENTS)) == _filled(
        without(whole, "index", "object")
    )


def _filled(value: Any) -> Any:
    """What says nothing is left out."""
    if isinstance(value, dict):
        return {k: _filled(v) for k, v in value.items() if v is not None}
    return [_filled(v) for v in value] if isinstance(value, list) else value


# -- generated answers ---------------------------------------------------------------------------


def as_chunks(answer: Completion, rng: random.Random) -> Iterator[dict[str, Any]]:
    """A streamed chat, its words cut and its calls mixed at random."""
    head = {"id": answer.id, "model": answer.model, "object": "chat.completion.chunk"}
    fields = {Thought: "reasoning_content", Text: "content", Declined: "refusal"}

    def chunk(delta: Any, finish: str | None = None) -> dict[str, Any]:
        return head | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    yield chunk({"role": "assistant"})
    lines = []
    for part in answer.parts:
        if isinstance(part, ToolUse):
            at = len(lines)
            tool = {"name": part.name, "arguments": ""}
            begin = {"index": at, "id": part.id, "type": "function", "function": tool}
            pieces = ({"index": at, "function": {"arguments": p}} for p in cut(part.arguments, rng))
            lines.append(iter([begin, *pieces]))
        else:
            for piece in cut(part.text, rng):
                yield chunk({fields[type(part)]: piece})
    begun = 0  # calls begin in their order, and are mixed from there
    while lines[:begun] or begun < len(lines):
        if begun < len(lines) and (not any(lines[:begun]) or rng.random() < 0.3):
            yield chunk({"tool_calls": [next(lines[begun])]})
            begun += 1
        line = rng.randrange(begun)
        piece = next(lines[line], None)
        if piece is not None:
            yield chunk({"tool_calls": [piece]})
        elif begun == len(lines):
            left = [p for line in lines for p in line]
            yield from (chunk({"tool_calls": [p]}) for p in left)
            break
    finishes = {Stop.LENGTH: "length", Stop.TOOLS: "tool_calls", Stop.REFUSAL: "content_filter"}
    yield chunk({}, finishes.get(answer.stop, "stop"))
    if answer.count is not None:
        count = answer.count
        details = {"cached_tokens": count.cached, "cache_write_tokens": count.cache_written}
        usage = {"prompt_tokens": count.input, "completion_tokens": count.output}
        usage |= {"prompt_tokens_details": details}
        usage |= {"completion_tokens_details": {"reasoning_tokens": count.reasoning}}
        yield head | {"choices": [], "usage": usage}


def cut(text: str, rng: random.Random) -> list[str]:
    """A text in pieces."""
    places = sorted(rng.randint(0, len(text)) for _ in range(rng.randint(0, 3)))
    return [text[a:b] for a, b in itertools.pairwise([0, *places, len(text)])]


generated = answers(IN_CHAT, kinds=chat_parts)


@settings(max_examples=150, deadline=None)
@given(generated, st.integers(0, 1 << 30), st.sampled_from(["messages", "responses"]))
def test_any_stream_of_chat_says_what_the_whole_answer_says(
    answer: Completion, seed: int, to: str
) -> None:
    chunks = [sent(chunk) for chunk in as_chunks(answer, random.Random(seed))]
    stream = opened("chat", to)

    said = b"".join(stream.feed(chunk) for chunk in [*chunks, b"data: [DONE]\n\n"])

    body = chat_answer.write(answer, created=CREATED)
    how = {"speaks": Dialect.CHAT, "to": Dialect(to), "asked": SHOWING, "created": CREATED}
    whole = translated_answer(body, echo={}, **how)
    assert whole is not None
    agree(CLIENTS[to](said), json.loads(whole), to)


def as_events(answer: Completion, rng: random.Random) -> Iterator[dict[str, Any]]:
    """A streamed message, its blocks cut at random."""
    told = {"id": answer.id, "model": answer.model, "content": [], "usage": {"output_tokens": 0}}
    yield {"type": "message_start", "message": told}
    for index, part in enumerate(answer.parts):
        block: dict[str, Any] = {"type": "text", "text": ""}
        kind, name, text = "text_delta", "text", getattr(part, "text", "")
        if isinstance(part, ToolUse):
            block = {"type": "tool_use", "id": part.id, "name": part.name, "input": {}}
            kind, name, text = "input_json_delta", "partial_json", part.arguments
        elif isinstance(part, Thought):
            block = {"type": "thinking", "thinking": "", "signature": ""}
            kind, name = "thinking_delta", "thinking"
        yield {"type": "content_block_start", "index": index, "content_block": block}
        for piece in cut(text, rng):
            delta = {"type": kind, name: piece}
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    reason = messages_answer.REASONS[answer.stop]
    usage = counts.as_messages(answer.count) if answer.count else None
    yield {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}
    yield {"type": "message_stop"}


@settings(max_examples=150, deadline=None)
@given(
    answers(list(Stop), kinds=message_parts),
    st.integers(0, 1 << 30),
    st.sampled_from(["chat", "responses"]),
    st.booleans(),
)
def test_any_stream_of_messages_says_what_the_whole_answer_says(
    answer: Completion, seed: int, to: str, shows: bool
) -> None:
    asked = Prompt(shows_thinking=shows)
    stream = opened("messages", to, asked)

    said = b"".join(stream.feed(sent(event)) for event in as_events(answer, random.Random(seed)))

    fitted = Fitting(asked).answer(answer)
    if to == "chat":
        whole = chat_answer.write(fitted, created=CREATED)
    else:
        whole = responses_answer.write(fitted, asked, {}, created=CREATED)
    agree(CLIENTS[to](said), json.loads(whole), to)


# -- signs of life, thoughts, usage --------------------------------------------------------------

PINGS = {"messages": {"type": "ping"}, "chat": ": ping", "responses": ": ping"}


@EVERY_PAIR
def test_a_sign_of_life_is_one_in_every_dialect(speaks: str, to: str) -> None:
    for life in (b": still here\n\n", b'event: ping\ndata: {"type":"ping"}\n\n'):
        if speaks == "messages" or life.startswith(b":"):
            assert read(opened(speaks, to).feed(life)).events == [PINGS[to]]


@pytest.mark.parametrize("to", ["messages", "responses"])
def test_who_does_not_see_the_thoughts_sees_that_there_are_some(to: str) -> None:
    speaks, events = stream_of(next(p for p in SAMPLES if p.stem == "chat_thoughts"))
    stream = opened(speaks, to, HIDING)
    begun = stream.feed(events[0])

    said = [read(stream.feed(event)) for event in events[1:3]]

    assert read(begun).events
    assert [each.events for each in said] == [[PINGS[to]], [PINGS[to]]]
    assert "They" not in json.dumps(read(stream.feed(b"".join(events[3:]))).events)


def test_calls_that_have_one_id_have_two_in_a_stream() -> None:
    tool = {"name": "f", "arguments": '{"a":1}'}
    calls = [{"index": at, "id": "same", "type": "function", "function": tool} for at in (0, 1)]
    chunks = [{"id": "x", "choices": [{"index": 0, "delta": {"tool_calls": [c]}}]} for c in calls]
    said = opened("chat", "responses").feed(b"".join(map(sent, chunks)) + b"data: [DONE]\n\n")

    heard = CLIENTS["responses"](said)

    assert [item["call_id"] for item in heard["output"]] == ["same", "call_x_1"]


X = '{"x":1}'
PIECES: list[tuple[list[tuple[int | None, str | None, str | None, str]], list[str]]] = [
    ([(0, "a", "f", '{"x":'), (0, "b", "f", "1}")], [X]),  # an id of its own for every piece
    ([(0, "a", "f", X), (0, "b", "f", X)], [X, X]),  # one number for all calls
    ([(None, "a", "f", X), (None, "b", "f", X)], [X, X]),  # no number at all
    ([(None, "a", "f", '{"x":'), (None, None, None, "1}"), (None, "b", "f", X)], [X, X]),
    ([(0, "a", "f", '{"x":'), (0, "a", "f", "1}"), (0, "a", "f", "")], [X]),  # said again
    ([(0, "a", "f", ""), (0, None, None, '{"x":'), (0, "", "", "1}")], [X]),
    ([(0, "a", None, ""), (0, None, "f", ""), (0, None, None, X)], [X]),  # the name comes late
    ([(3, "a", "f", X), (1, "b", "f", X)], [X, X]),  # numbers that begin anywhere
]


@pytest.mark.parametrize(("pieces", "expected"), PIECES)
@pytest.mark.parametrize("to", ["messages", "responses"])
def test_pieces_of_a_call_find_it_however_servers_number_them(
    to: str, pieces: list[tuple[int | None, str | None, str | None, str]], expected: list[str]
) -> None:
    stream, said = opened("chat", to), b""
    for index, its_id, name, arguments in pieces:
        call = {"index": index, "id": its_id, "function": {"name": name, "arguments": arguments}}
        said += stream.feed(sent({"choices": [{"delta": {"tool_calls": [call]}}]}))

    heard = CLIENTS[to](said + stream.feed(b"data: [DONE]\n\n"))

    calls = heard["output"] if to == "responses" else heard["content"]
    found = [call["arguments"] if to == "responses" else call["input"] for call in calls]
    assert found == (expected if to == "responses" else [json.loads(each) for each in expected])
    assert {call["name"] for call in calls} == {"f"}


def test_usage_is_told_to_who_asked_for_it() -> None:
    speaks, events = stream_of(next(p for p in SAMPLES if p.stem == "messages_text"))

    told = opened(speaks, "chat").feed(b"".join(events))
    untold = opened(speaks, "chat", shows_usage=False).feed(b"".join(events))

    assert read(told).events[-2]["usage"]["prompt_tokens"] == 45
    assert b"usage" not in untold


def test_every_chunk_has_one_id_and_one_time() -> None:
    speaks, events = stream_of(next(p for p in SAMPLES if p.stem == "messages_thoughts_and_tools"))

    said = [e for e in read(opened(speaks, "chat").feed(b"".join(events))).events if "id" in e]

    assert {(each["id"], each["created"], each["model"]) for each in said} == {
        ("msg_1", CREATED, "c-2026")
    }


def test_events_of_a_response_are_numbered_from_zero() -> None:
    for path, to in CASES:
        if to == "responses":
            speaks, events = stream_of(path)
            stream = opened(speaks, to)
            said = read(stream.feed(b"".join(events)) + stream.flush())
            numbers = [e["sequence_number"] for e in said.events if isinstance(e, dict)]
            assert numbers == list(range(len(numbers)))


ONE_AFTER_ANOTHER = next(p for p in SAMPLES if p.stem == "chat_tools_one_after_another")


def test_a_call_is_said_as_it_comes_once_those_before_it_are_complete() -> None:
    speaks, events = stream_of(ONE_AFTER_ANOTHER)
    stream = opened(speaks, "responses")
    stream.feed(b"".join(events[:4]))

    said = read(stream.feed(events[4]) + stream.feed(events[5])).events

    kinds = [each["type"].removeprefix("response.") for each in said if each != PINGS["responses"]]
    assert kinds == [
        "function_call_arguments.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
    ]


def test_a_call_is_said_in_messages_once_it_is_known_to_be_one() -> None:
    speaks, events = stream_of(ONE_AFTER_ANOTHER)
    stream = opened(speaks, "messages")

    said = [e["type"] for e in read(stream.feed(b"".join(events[:6]))).events]

    assert [kind for kind in said if kind.startswith("content_block")] == [
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "content_block_start",
    ]


def call_in_pieces(*pieces: tuple[str, str]) -> bytes:
    """Pieces of one call: of its name, and of what it takes."""
    calls = [
        {"index": 0, "function": {"name": name, "arguments": arguments}}
        for name, arguments in pieces
    ]
    calls[0]["id"] = "a"
    said = [{"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]} for call in calls]
    return b"".join(map(sent, said)) + b"data: [DONE]\n\n"


@pytest.mark.parametrize("to", ["messages", "responses"])
@pytest.mark.parametrize(
    "pieces",
    [
        [("get_", ""), ("weather", ""), ("", "{}")],
        [("get_", ""), ("weather", "{}")],
        [("get_", ""), ("weather", "")],
        [("", ""), ("get_weather", ""), ("", "{"), ("", "}")],
        [("get_weather", "{"), ("get_weather", "}")],
    ],
)
def test_a_name_is_all_that_comes_of_it_before_the_arguments(
    to: str, pieces: list[tuple[str, str]]
) -> None:
    heard = CLIENTS[to](opened("chat", to).feed(call_in_pieces(*pieces)))

    (call,) = heard["content"] if to == "messages" else heard["output"]
    assert call["name"] == "get_weather"


def test_a_name_is_over_where_words_or_another_call_begin() -> None:
    said = [
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f"}}]},
        {"tool_calls": [{"index": 1, "id": "b", "function": {"name": "g"}}]},
        {"content": "so"},
        {"tool_calls": [{"index": 1, "function": {"name": "h"}}]},
    ]
    chunks = [sent({"choices": [{"index": 0, "delta": delta}]}) for delta in said]

    heard = as_anthropic(opened("chat", "messages").feed(b"".join(chunks) + b"data: [DONE]\n\n"))

    assert [block.get("name") for block in heard["content"]] == ["f", "g", None]


@pytest.mark.parametrize(
    "arguments", ["{x:1}", '{"x":', '{"x":NaN}', '{"x":1}}', '{"x":1} and', "[1]", "nonsense"]
)
def test_arguments_that_are_no_object_are_the_same_in_a_stream(arguments: str) -> None:
    """Never a call that looks good: the real client gets what the model said, under one name."""
    halves = [("f", arguments[:3]), ("", arguments[3:])]

    heard = as_anthropic(opened("chat", "messages").feed(call_in_pieces(*halves)))

    (call,) = heard["content"]
    assert call["input"] == {"INVALID_JSON": arguments}


def test_a_call_without_arguments_keeps_none_waiting() -> None:
    begin = {"type": "content_block_start", "content_block": {"type": "tool_use", "name": "f"}}
    nothing = {"type": "input_json_delta", "partial_json": ""}
    events = [
        {"type": "message_start", "message": {"id": "x", "model": "m"}},
        begin | {"index": 0},
        {"type": "content_block_delta", "index": 0, "delta": nothing},
        {"type": "content_block_stop", "index": 0},
        begin | {"index": 1},
    ]

    said = read(opened("messages", "responses").feed(b"".join(map(sent, events)))).events

    kinds = [each["type"] for each in said if each != PINGS["responses"]]
    assert kinds.count("response.output_item.added") == 2
    assert kinds.count("response.output_item.done") == 1
    assert said[-1]["item"]["call_id"] == "call_x_1"


@pytest.mark.parametrize("to", ["messages", "chat", "responses"])
@pytest.mark.parametrize(
    ("named", "asked", "expected"),
    [("END", ("END",), "END"), ("stop", ("END",), None), (7, ("END",), None), ("END", (), None)],
)
def test_a_stop_sequence_that_a_server_names_is_told(
    to: str, named: Any, asked: tuple[str, ...], expected: str | None
) -> None:
    choice = {"index": 0, "finish_reason": "stop", "stop_reason": named}
    whole = json.dumps({"id": "x", "choices": [choice | {"message": {"content": "hi"}}]}).encode()
    how = {"speaks": Dialect.CHAT, "to": Dialect(to), "asked": Prompt(stop=asked), "echo": {}}
    stream = opened("chat", to, Prompt(stop=asked))

    said = translated_answer(whole, created=CREATED, **how)
    heard = CLIENTS[to](
        stream.feed(sent({"id": "x", "choices": [choice | {"delta": {"content": "hi"}}]}))
        + stream.feed(b"data: [DONE]\n\n")
    )

    assert said is not None
    agree(heard, json.loads(said), to)
    if to == "messages":
        assert heard.get("stop_sequence") == expected
        assert heard["stop_reason"] == ("stop_sequence" if expected else "end_turn")


# -- errors, and ends that are none --------------------------------------------------------------

ERRORS = {
    "chat": [
        (b'data: {"error":{"message":"it broke","code":502}}\n\n', "api_error"),
        (
            b'data: {"error":{"message":"it broke","type":"rate_limit_error"}}\n\n',
            "rate_limit_error",
        ),
        (b'data: {"error":"it broke","choices":[]}\n\n', "api_error"),
    ],
    "messages": [
        (
            b'event: error\ndata: {"type":"error","error":'
            b'{"type":"overloaded_error","message":"it broke"}}\n\n',
            "overloaded_error",
        ),
        (b'event: error\ndata: {"message":"it broke"}\n\n', "api_error"),
        (b'data: {"error":{"message":"it broke"}}\n\n', "api_error"),
    ],
}
RAISES: dict[str, type[Exception]] = {
    "messages": anthropic.APIStatusError,
    "chat": openai.APIError,
    "responses": openai.APIError,
}


@EVERY_PAIR
def test_an_error_inside_a_stream_is_one_to_every_client(speaks: str, to: str) -> None:
    name = {"chat": "chat_tools_mixed", "messages": "messages_thoughts_and_tools"}[speaks]
    _, events = stream_of(next(p for p in SAMPLES if p.stem == name))
    for place, (error, _) in itertools.product(range(len(events) - 1), ERRORS[speaks]):
        stream = opened(speaks, to)

        said = stream.feed(b"".join([*events[:place], error, *events[place:]]))
        said += stream.flush() + stream.close()

        seen = read(said)
        assert seen.failed
        assert not seen.ended
        assert "it broke" in json.dumps(seen.events[-1])
        assert stream.failed
        assert stream.told
        assert not stream.is_whole(ended_well=True)
        with pytest.raises(RAISES[to], match="it broke"):
            CLIENTS[to](said)


@pytest.mark.parametrize("speaks", ["chat", "messages"])
@pytest.mark.parametrize("is_told", [True, False])
def test_an_error_inside_a_response_has_the_number_that_comes_next(
    speaks: str, is_told: bool
) -> None:
    name = {"chat": "chat_text", "messages": "messages_text"}[speaks]
    _, events = stream_of(next(p for p in SAMPLES if p.stem == name))
    stream = opened(speaks, "responses")
    error = ERRORS[speaks][0][0] if is_told else b""

    said = stream.feed(b"".join([*events[:3], error]))
    if not is_told:
        said += error_event("/v1/responses", "stream_cut", "cut", number=stream.n_events)

    numbers = [e["sequence_number"] for e in read(said).events if isinstance(e, dict)]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 1


@pytest.mark.parametrize(
    ("speaks", "error", "kind"), [(s, e, k) for s in ERRORS for e, k in ERRORS[s]]
)
def test_an_error_inside_a_stream_keeps_its_kind(speaks: str, error: bytes, kind: str) -> None:
    if speaks == "chat":
        assert read(opened("chat", "messages").feed(error)).events[0]["error"]["type"] == kind
    else:
        code = read(opened("messages", "chat").feed(error)).events[0]["error"]["code"]
        assert code in (kind, "provider_error")


@pytest.mark.parametrize("to", ["messages", "responses"])
@pytest.mark.parametrize(
    "failure",
    [
        {"choices": [{"delta": {}, "finish_reason": "error"}]},
        {"object": "error", "message": "odd"},
    ],
)
def test_what_only_some_clients_take_for_an_error_ends_nothing(to: str, failure: Any) -> None:
    _, events = stream_of(next(p for p in SAMPLES if p.stem == "chat_text"))
    stream = opened("chat", to)

    said = stream.feed(b"".join([*events[:3], sent(failure), *events[3:]])) + stream.flush()

    seen = read(said)
    assert not seen.ended
    assert not seen.failed
    assert stream.failed
    assert not stream.told
    assert stream.done


def test_an_error_is_told_also_where_a_choice_failed_before() -> None:
    _, events = stream_of(next(p for p in SAMPLES if p.stem == "chat_text"))
    failure = sent({"choices": [{"delta": {}, "finish_reason": "error"}]})
    stream = opened("chat", "messages")

    said = stream.feed(b"".join([*events[:3], failure, ERRORS["chat"][0][0], *events[3:]]))

    assert stream.told
    assert read(said).failed
    assert not read(said).ended


@EVERY_PAIR
def test_an_end_without_an_answer_is_an_error(speaks: str, to: str) -> None:
    end = sent("[DONE]") if speaks == "chat" else sent({"type": "message_stop"})
    stream = opened(speaks, to)

    said = stream.feed(end) + stream.flush()

    assert stream.is_empty
    assert stream.told
    assert not stream.is_whole(ended_well=True)
    assert not read(said).ended
    with pytest.raises(RAISES[to], match="without one"):
        CLIENTS[to](said)


@EVERY_PAIR
@pytest.mark.parametrize("bad", [b"data: {\n\n", b"data: hello\n\n", b'data: "\xff"\n\n'])
def test_nothing_passes_from_an_event_on_that_cannot_be_read(
    speaks: str, to: str, bad: bytes
) -> None:
    name = {"chat": "chat_text", "messages": "messages_text"}[speaks]
    _, events = stream_of(next(p for p in SAMPLES if p.stem == name))
    stream, whole = opened(speaks, to), opened(speaks, to)

    said = stream.feed(b"".join([*events[:3], bad, *events[3:]]))

    assert said == whole.feed(b"".join(events[:3]))
    assert stream.unreadable
    assert not stream.is_whole(ended_well=True)
    assert stream.feed(b"".join(events)) + stream.flush() + stream.close() == b""


@pytest.mark.parametrize("odd", [b'{"choices":{"0":1}}', b'{"choices":[{"delta":"hello"}]}'])
def test_words_of_a_shape_that_nobody_knows_are_not_left_out_in_silence(odd: bytes) -> None:
    _, events = stream_of(next(p for p in SAMPLES if p.stem == "chat_text"))
    stream = opened("chat", "messages")

    said = stream.feed(b"".join([*events[:3], b"data: " + odd + b"\n\n", *events[3:]]))

    assert stream.unreadable
    assert not read(said).ended
    assert not stream.is_whole(ended_well=True)


def test_an_event_without_end_is_given_up() -> None:
    stream = opened("chat", "messages")

    assert stream.feed(b"data: " + b"x" * MAX_EVENT_BYTES) == b""

    assert stream.unreadable


# -- where it is used ----------------------------------------------------------------------------


async def coming(*parts: bytes, breaks: bool) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    if breaks:
        raise httpx.RemoteProtocolError("broke")


def held(stream: TranslatedStream, *parts: bytes, breaks: bool) -> HeldStream:
    chunks = coming(*parts, breaks=breaks)
    return HeldStream(stream, chunks, b"", content_by=float("inf"), silence_s=9.0)


class Client:
    """The other side of an exchange, as far as a stream needs one."""

    started = False
    tell = None
    path = "/v1/messages"

    def __init__(self) -> None:
        self.said = b""

    async def start(self, status: int, headers: Any, first: bytes = b"") -> None:
        self.started = True
        self.said += first

    async def part(self, data: bytes) -> None:
        self.said += data

    end = part

    def part_now(self, data: bytes) -> bool:
        self.said += data
        return True

    def finish(self) -> None:
        pass


def passed_on(stream: TranslatedStream, *parts: bytes, breaks: bool, hold: Hold) -> Any:
    """What a client gets of these parts, and whether it was booked as whole."""
    booked: list[bool] = []
    source = held(stream, *parts, breaks=breaks)

    async def send(client: Any) -> None:
        await source.hold(hold)
        attempt: Any = type("Attempt", (), {"began_at": 0.0})()
        reply = Reply(attempt, 200, (), None, source)
        book = lambda _, whole: booked.append(whole)  # noqa: E731
        await StreamedAnswer(
            reply, client, client, keep=False, book=book, on_ids=lambda *_: None
        ).send([])

    client = Client()
    asyncio.run(send(client))
    (whole,) = booked
    return read(client.said), whole


@pytest.mark.parametrize("hold", list(Hold))
@pytest.mark.parametrize("breaks", [True, False])
@pytest.mark.parametrize("n", [3, 5, 6])
def test_a_client_hears_an_end_exactly_where_the_answer_is_booked_as_whole(
    hold: Hold, breaks: bool, n: int
) -> None:
    """Without words' end; with its reason, after which the connection breaks; with its end."""
    _, events = stream_of(next(p for p in SAMPLES if p.stem == "chat_text"))
    parts = events[:n]
    if hold is Hold.END and n == 3:
        with pytest.raises(StreamFailed):
            passed_on(opened("chat", "messages"), *parts, breaks=breaks, hold=hold)
        return

    seen, whole = passed_on(opened("chat", "messages"), *parts, breaks=breaks, hold=hold)

    assert seen.content == "hello there"
    assert (seen.ended, seen.failed) == (whole, not whole)
    assert whole == (n > 3)


# -- garbage -------------------------------------------------------------------------------------


def test_whatever_comes_as_an_event_raises_nothing() -> None:
    rng = random.Random(7 + SEED)
    samples = [stream_of(path) for path in SAMPLES]
    for _ in range(times(3000)):
        speaks, events = rng.choice(samples)
        to = rng.choice([to for s, to in PAIRS if s == speaks])
        stream = opened(speaks, to)
        tokens = WORDS.findall(b"".join(events))
        said = b""
        for event in events:
            if rng.random() < 0.3:
                event = (
                    b"data: " + mutated(rng, data_of(event), tokens).replace(b"\n", b" ") + b"\n\n"
                )
            said += stream.feed(event)
        said += stream.flush() + stream.close()
        seen = read(said)
        assert seen.ended == (stream.is_whole(ended_well=True) and not seen.failed)


def test_whatever_comes_as_an_answer_raises_nothing() -> None:
    rng = random.Random(8 + SEED)
    for _ in range(times(3000)):
        path = rng.choice(SAMPLES)
        body = json.dumps(json.loads(path.read_text())["answer"]).encode()
        said = mutated(rng, body, WORDS.findall(body))
        speaks = path.stem.split("_")[0]
        for to in ("chat", "messages", "responses"):
            how = {"speaks": Dialect(speaks), "to": Dialect(to), "asked": SHOWING, "echo": {}}
            found = translated_answer(said, created=CREATED, **how)
            assert found is None or msgspec.json.decode(found)
