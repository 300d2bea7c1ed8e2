"""Requests and answers of any dialect, read into one shape. Pure.

What is not fully understood is not read at all, so that nothing is judged on half of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec

from workers.observer import chat, messages, responses
from workers.observer.shapes import ReadAnswer, ReadRequest

MAX_BODY_BYTES = 1 << 20
"""A longer request or answer is not read: a label is not worth milliseconds of parsing."""
MAX_MESSAGES = 512
MAX_TOOLS = 128


class _AnswerReader(Protocol):
    def __call__(self, body: bytes, *, streamed: bool) -> ReadAnswer | None: ...


class _Reader(NamedTuple):
    request: Callable[[bytes], ReadRequest]
    answer: _AnswerReader


READERS = {
    "chat": _Reader(chat.read_request, chat.read_answer),
    "messages": _Reader(messages.read_request, messages.read_answer),
    "responses": _Reader(responses.read_request, responses.read_answer),
}
"""By dialect, as the router names it."""


def parse_request(body: bytes, dialect: str) -> ReadRequest | None:
    """Return what is read of a request; None where it is too long or not understood."""
    if len(body) > MAX_BODY_BYTES:
        return None
    try:
        request = READERS[dialect].request(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if not 0 < len(request.messages) <= MAX_MESSAGES or request.n_tools > MAX_TOOLS:
        return None
    return request


def parse_answer(body: bytes, dialect: str, *, streamed: bool) -> ReadAnswer | None:
    """Return what is read of an answer; None where it is too long, an error, or garbage."""
    if len(body) > MAX_BODY_BYTES:
        return None
    streamed = streamed and body.lstrip()[:1] != b"{"
    return READERS[dialect].answer(body, streamed=streamed)
