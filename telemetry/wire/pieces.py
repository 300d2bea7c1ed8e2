"""Pieces of streamed answers that plainly go on with what was begun: nearly all that is streamed.

They are read as far as anybody looks, and the rest is checked to be JSON and passed over, which
takes a fraction of what building it does. Whatever is not plainly such a piece is none to these
readers, and is read in full: an error, an end, usage, whatever a client may stumble over.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

T = TypeVar("T")


class _Function(Struct, gc=False, forbid_unknown_fields=True):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(Struct, gc=False, forbid_unknown_fields=True):
    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: _Function | None = None


class ChatDelta(Struct, gc=False, forbid_unknown_fields=True):
    """What a piece of Chat Completions says; a thought that is signed is not plain."""

    role: str | None = None
    content: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: None = None


class _ChatChoice(Struct, gc=False):
    index: int = 0
    delta: ChatDelta | None = None
    text: str | None = None
    message: None = None
    finish_reason: None = None
    error: None = None
    usage: None = None

    @property
    def said_bytes(self) -> int | None:
        """The bytes of text in it; None where there is no content."""
        if self.text:
            return size_of(self.text)
        delta = self.delta
        if delta is None:
            return None
        says, size = False, 0
        for text in (delta.content, delta.reasoning_content, delta.reasoning, delta.refusal):
            if text:
                says = True
                size += size_of(text)
        for call in delta.tool_calls or ():
            says = True
            if call.function is not None:
                size += size_of(call.function.name) + size_of(call.function.arguments)
        return size if says else None


class ChatPiece(Struct, gc=False):
    """An event of one choice that has not ended."""

    choices: tuple[_ChatChoice]
    object: str | None = None
    service_tier: str | None = None
    usage: None = None
    error: None = None
    x_groq: None = None


class MessagesDelta(Struct, gc=False, forbid_unknown_fields=True):
    """A piece of a block of Messages."""

    type: str
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None


class MessagesPiece(Struct, gc=False):
    """An event that tells one."""

    type: Literal["content_block_delta"]
    delta: MessagesDelta
    message: None = None
    content_block: None = None
    error: None = None


class ResponsesPiece(Struct, gc=False):
    """An event of Responses that tells a piece of something."""

    type: str
    delta: str
    sequence_number: int | None = None
    response: None = None
    item: None = None
    error: None = None


CHAT = msgspec.json.Decoder(ChatPiece)
MESSAGES = msgspec.json.Decoder(MessagesPiece)
RESPONSES = msgspec.json.Decoder(ResponsesPiece)


def read_piece(decoder: msgspec.json.Decoder[T], data: bytes) -> T | None:
    """Return a piece, or None where it is not plainly one, to be read in full.

    Args:
        data: of an event, in one line.
    """
    try:
        if not data.isascii():
            data.decode()  # also what is passed over must be text
        return decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def size_of(text: Any) -> int:
    """Return the bytes of a text, where there is one."""
    if not text:
        return 0
    return len(text) if text.isascii() else len(text.encode(errors="replace"))
