"""Messages of any dialect, as far as anybody looks: who says them, and which texts they hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from router.dialects.request import Opening

MAX_OPENING = 1 << 16
"""Bytes of the messages in which users first say something; what is longer is not looked at, as a
part of it would tell of something else, and reading it all takes milliseconds."""


class WrittenMessage(Struct):
    """What is read of a message."""

    role: Any = ""
    type: Any = ""
    content: Any = None
    tool_calls: Any = None


_MESSAGE = msgspec.json.Decoder(WrittenMessage)


def message_of(raw: Raw) -> WrittenMessage:
    """Return what is read of a message; nothing where it has another shape."""
    try:
        return _MESSAGE.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return WrittenMessage()


def opening_of(messages: Sequence[Raw]) -> Opening | None:
    """Return what users say in messages that hold no answer yet; None where one does.

    What agents wrap around it is whole, so that it can be told apart.
    """
    if before_answer(messages) is not None:
        return None
    said = [raw for raw in messages if b'"user"' in bytes(raw)]
    if sum(len(bytes(raw)) for raw in said) > MAX_OPENING:
        return Opening(is_long=True)
    read = [message_of(raw) for raw in said]
    texts = (texts_of(message.content) for message in read if message.role == "user")
    return Opening("\n".join(filter(None, (text for found in texts for text in found))))


def before_answer(messages: Sequence[Raw]) -> Sequence[Raw] | None:
    """Return what stands before the last of an assistant's turns; None where there is none."""
    for i in range(len(messages) - 1, 0, -1):
        raw = messages[i]
        if b'"assistant"' in bytes(raw) and message_of(raw).role == "assistant":
            return messages[:i]
    return None


def bytes_without(media: Sequence[bytes], messages: Sequence[Raw]) -> int:
    """Return the size of messages, leaving out those in which one of `media` stands."""
    written = [bytes(raw) for raw in messages]
    return sum(len(one) for one in written if not any(mark in one for mark in media))


def texts_of(content: Any) -> list[str]:
    """Return the texts of a message's content: text itself, or parts of it."""
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        return []
    return [str(part.get("text", "")) for part in content if isinstance(part, dict)]


def has_part(messages: Sequence[Raw], kinds: frozenset[str]) -> bool:
    """Return whether some message has a part of one of these types, in a tool's result as well."""
    return any(_holds_part(message_of(raw).content, kinds) for raw in messages)


def _holds_part(content: Any, kinds: frozenset[str]) -> bool:
    if not isinstance(content, list):
        return False
    for part in content:
        if not isinstance(part, dict):
            continue
        kind = part.get("type")
        if (isinstance(kind, str) and kind in kinds) or _holds_part(part.get("content"), kinds):
            return True
    return False
