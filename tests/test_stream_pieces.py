"""Pieces of streams that are read in a hurry: what they show is what reading in full shows."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from test_dialect_streams import PATHS, sample

from router.dialects.chat_stream import ChatStream
from router.dialects.messages_stream import MessagesStream
from router.dialects.responses_stream import ResponsesStream
from router.dialects.stream import EventStream

SHOWN = (
    *("begun", "container", "done", "failed", "fingerprint", "id", "item_ids", "model"),
    *("n_events", "n_pieces", "said_bytes", "spoke", "thoughts", "told", "unreadable"),
    *("usage", "finished", "trusted", "is_empty"),
)


class FullChat(ChatStream):
    def _goes_on(self, event: bytes) -> bool:
        return False


class FullMessages(MessagesStream):
    def _goes_on(self, event: bytes) -> bool:
        return False


class FullResponses(ResponsesStream):
    def _goes_on(self, event: bytes) -> bool:
        return False


def readers(path: str) -> tuple[EventStream, EventStream]:
    """Return what reads a stream, and what reads it in full."""
    if path == "messages":
        return MessagesStream(), FullMessages()
    if path == "responses":
        return ResponsesStream(), FullResponses()
    n_choices = 2 if path == "completions" else 1
    return (
        ChatStream(hide_usage=True, n_choices=n_choices),
        FullChat(hide_usage=True, n_choices=n_choices),
    )


def assert_same(path: str, events: list[bytes]) -> None:
    hurried, full = readers(path)
    for event in events:
        assert hurried.feed(event) == full.feed(event), event
        for name in SHOWN:
            assert getattr(hurried, name) == getattr(full, name), (name, event)
        for ended_well in (True, False):
            assert hurried.is_whole(ended_well=ended_well) == full.is_whole(ended_well=ended_well)


@PATHS
def test_whole_streams_show_the_same(path: str) -> None:
    assert_same(path, sample(path))
    assert_same(path, [b"".join(sample(path))])


def chunk(delta: Any, **choice: Any) -> dict[str, Any]:
    return {"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, **choice}]}


CALL = {"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": '{"'}}
GOOGLE = {"google": {"thought_signature": "s"}}
DELTAS: list[Any] = [
    *({}, None, [], "text", {"role": "assistant"}, {"role": "assistant", "content": ""}),
    *({"content": "word"}, {"content": None}, {"content": "ünï 🙂"}, {"content": ["a"]}),
    *({"content": 'quo"te\n', "role": 3}, {"reasoning": "r"}, {"reasoning_content": "längst"}),
    *({"content": "a", "reasoning_content": "bc", "refusal": "d"}, {"refusal": "no"}),
    *({"tool_calls": [CALL]}, {"tool_calls": []}, {"tool_calls": [CALL, CALL], "content": "x"}),
    *({"tool_calls": [{"index": 0, "function": {"arguments": "more"}}]}, {"tool_calls": [{}]}),
    {"tool_calls": [{**CALL, "extra_content": GOOGLE}]},
    *({"function_call": {"name": "f", "arguments": "{}"}}, {"audio": {"data": "xx"}}),
    *({"content": "a", "extra_content": GOOGLE}, {"annotations": [{"url": "u"}]}, {"odd": 1}),
    {"reasoning_details": [{"type": "reasoning.text", "text": "t", "signature": "s"}]},
]
CHOICE: list[dict[str, Any]] = [
    *({}, {"finish_reason": "stop"}, {"finish_reason": None}, {"finish_reason": "error"}),
    *({"index": 1}, {"index": "0"}, {"index": None}, {"index": True}, {"error": {"code": 5}}),
    *({"usage": {"prompt_tokens": 3}}, {"text": "more"}, {"text": ""}, {"text": 3}),
    *({"logprobs": {"content": []}}, {"message": {"content": "whole"}}, {"message": None}),
]
TOP: list[dict[str, Any]] = [
    *({}, {"usage": None}, {"usage": {"prompt_tokens": 3, "completion_tokens": 1}}),
    *({"service_tier": "flex"}, {"service_tier": 3}, {"object": "error"}, {"error": "bad"}),
    *({"object": "chat.completion.chunk"}, {"x_groq": {"usage": {"prompt_tokens": 2}}}),
    *({"choices": []}, {"choices": None}, {"choices": [{}, {}]}, {"choices": "odd"}),
    *({"id": 5}, {"id": None}, {"obfuscation": "xyz"}, {"model": ["m"]}),
]


def lines(value: Any) -> list[bytes]:
    """Return events that say a value, in forms that streams have."""
    said = json.dumps(value)
    raw = json.dumps(value, ensure_ascii=False)
    return [
        f"data: {said}\n\n".encode(),
        f"data: {raw}\n\n".encode(),
        f"data:{said}\n\n".encode(),
        f"data: {json.dumps(value, indent=1)}\n\n".encode(),
        f"data: {said}\r\n\r\n".encode(),
        f"data: {said}\n\ndata: {said}\n\n".encode(),
        f": comment\ndata: {said}\n\n".encode(),
        f"event: error\ndata: {said}\n\n".encode(),
        f"data: {said}\nevent: error\n\n".encode(),
        f"\ndata: {said} \n\n".encode(),
    ]


@pytest.mark.parametrize("begun", [[], [chunk({"content": "a"})], [chunk({}, finish_reason="x")]])
def test_pieces_of_chats_show_the_same_whatever_their_form(begun: list[Any]) -> None:
    first = [event for value in begun for event in lines(value)[:1]]
    values = [chunk(delta) for delta in DELTAS]
    values += [chunk(delta, **choice) for delta in DELTAS[4:8] for choice in CHOICE]
    values += [chunk(delta) | top for delta in DELTAS[4:8] for top in TOP]

    for value in values:
        for event in lines(value):
            assert_same("chat/completions", [*first, event, *first])


NAMED: dict[str, list[dict[str, Any]]] = {
    "messages": [
        {"type": "content_block_delta", "index": 0, "delta": delta} | top
        for delta in (
            *({"type": "text_delta", "text": "wörd"}, {"type": "text_delta", "text": ""}),
            *({"type": "thinking_delta", "thinking": "hm"}, {"thinking": "hm"}, {}, None, "odd"),
            {"type": "signature_delta", "signature": "sig"},
            {"type": "input_json_delta", "partial_json": '{"a'},
            {"type": "citations_delta", "citation": {"cited_text": "c", "title": "t"}},
            *({"type": "text_delta", "text": 5}, {"type": "new_delta", "new": "n"}),
        )
        for top in (
            *({}, {"type": "content_block_start"}, {"type": None}, {"error": {"type": "x"}}),
            *({"error": None}, {"message": "odd"}, {"message": {}}, {"content_block": 3}),
            *({"index": "x"}, {"type": 3}, {"usage": {"output_tokens": 3}}),
        )
    ],
    "responses": [
        {"type": f"response.{kind}.delta", "delta": delta, "sequence_number": 4} | top
        for kind in ("output_text", "function_call_arguments", "reasoning_text")
        for delta in ("wörd", "", None, {"text": "x"}, 5)
        for top in (
            *({}, {"sequence_number": None}, {"sequence_number": "x"}, {"type": "error"}),
            *({"type": "response.done"}, {"response": {"id": "r"}}, {"item": {"id": "i"}}),
            *({"error": {"code": "x"}}, {"error": None}, {"type": None}, {"sequence_number": 3.5}),
        )
    ],
}


@pytest.mark.parametrize("path", ["messages", "responses"])
def test_named_pieces_show_the_same_whatever_their_form(path: str) -> None:
    events = sample(path)
    names = (b"event: content_block_delta", b"event: response.output_text.delta", b"event: error")

    for value in NAMED[path]:
        pieces = [name + b"\n" + line for name in names for line in lines(value)]
        for place in (0, 3):
            for piece in (*pieces, *lines(value)):
                assert_same(path, [*events[:place], piece, *events[place : place + 1]])


@PATHS
def test_damaged_pieces_show_the_same_where_they_are_damaged(path: str) -> None:
    """Bytes lost, doubled and changed: what cannot be read is seen in the event where it is."""
    rng = random.Random(7)
    events = sample(path)
    unreadable = 0

    for _ in range(600):
        place = rng.randrange(len(events))
        event = bytearray(events[place][:-2])
        for _ in range(rng.choice((1, 1, 2))):
            at = rng.randrange(6, len(event))
            event[at : at + rng.randrange(3)] = bytes(
                rng.choice(b'"{}[],:\\\n\x00\xff\xc3e0n-. ') for _ in range(rng.randrange(3))
            )
        stream = [*events[:place], bytes(event) + b"\n\n", *events[place + 1 :][:1]]
        assert_same(path, stream)
        hurried, _full = readers(path)
        hurried.feed(b"".join(stream))
        unreadable += hurried.unreadable

    assert unreadable > 100
