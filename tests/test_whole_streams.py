"""Streams that are over: read all at once or event by event, they say the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from test_dialect_streams import PATHS, sample

from telemetry.wire.messages import MessagesEvent, parse_messages_event
from telemetry.wire.responses import ResponsesEvent, parse_responses_event
from telemetry.wire.sse import payloads
from workers.observer import chat
from workers.observer.readers import parse_answer
from workers.observer.whole_streams import events_in

READERS: dict[str, tuple[Callable[[bytes], list[Any]], Callable[[bytes], Any]]] = {
    "chat/completions": (chat._PARTS.decode, chat._parse),
    "completions": (chat._PARTS.decode, chat._parse),
    "messages": (msgspec.json.Decoder(list[MessagesEvent]).decode, parse_messages_event),
    "responses": (msgspec.json.Decoder(list[ResponsesEvent]).decode, parse_responses_event),
}


def forms(text: bytes) -> list[bytes]:
    """Return the same stream in other forms, and what is no whole stream."""
    first, rest = text.split(b"\n\n", 1)
    return [
        text,
        text.removesuffix(b"\n\n"),
        text.replace(b"data: [DONE]\n\n", b""),
        text.replace(b"\n", b"\r\n"),
        text.replace(b"data: ", b"data:"),
        b": comment\n\n" + text,
        text.replace(b"\n\n", b"\n\n: comment\n\n", 3),
        first + b"\nid: 5\n\n" + rest,
        first + b"\n\ndata: \xff\n\n" + rest,
        first + b"\n\ndata: {]}\n\n" + rest,
        first + b"\n\ndata: 5\n\n" + rest,
        first + b'\n\ndata: {"choices":5,"type":7,"delta":[]}\n\n' + rest,
        first + b"\n\ndata: [DONE]\n\n" + rest,
        text[:-9],
        b"",
        b"data: [DONE]\n\n",
    ]


@PATHS
def test_all_at_once_is_what_one_by_one_is(path: str) -> None:
    all_of, one_of = READERS[path]

    for text in forms(b"".join(sample(path))):
        assert list(events_in(text, all_of, one_of)) == list(map(one_of, payloads(text)))


@pytest.mark.parametrize("dialect", ["chat", "messages", "responses"])
def test_an_answer_is_read_the_same_in_any_form(dialect: str) -> None:
    text = b"".join(sample("chat/completions" if dialect == "chat" else dialect))
    whole = parse_answer(text, dialect, streamed=True)

    assert whole is not None
    for form in forms(text)[:8]:
        assert parse_answer(form, dialect, streamed=True) == whole
