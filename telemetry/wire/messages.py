"""Anthropic's Messages as they are answered: whole, and event by event."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from telemetry.wire.reading import read_object
from telemetry.wire.thoughts import block_mark
from telemetry.wire.usage import Usage, WholeAnswer, id_of, usage_of


class MessagesAnswer(Struct):
    """The top of an unstreamed answer."""

    id: Any = None
    type: Any = None
    model: Any = None
    content: list[Any] | None = None
    stop_reason: Any = None
    container: Any = None
    usage: Any = None
    error: Any = None


class MessagesEvent(Struct):
    """One event of a stream."""

    type: Any = None
    index: Any = None  # of the block
    message: dict[str, Any] | None = None
    content_block: dict[str, Any] | None = None
    delta: dict[str, Any] | None = None
    usage: Any = None
    error: Any = None

    @property
    def is_error(self) -> bool:
        """Whether it says that there will be no answer."""
        return self.type == "error" or bool(self.error)

    @property
    def says_something(self) -> bool:
        """Whether there is content in it: text, thinking, a part of a tool call, a citation."""
        if self.type == "content_block_delta":
            return _says(self.delta)
        return self.type == "content_block_start" and _says(self.content_block)

    @property
    def stop_reason(self) -> Any:
        """Why the answer ends, where this event says so."""
        return (self.delta or {}).get("stop_reason") if self.type == "message_delta" else None

    @property
    def container(self) -> str | None:
        """The id of where the provider runs tools, where this event says so."""
        said = {"message_start": self.message, "message_delta": self.delta}.get(str(self.type))
        return _container(said.get("container")) if said else None


NO_CONTENT = frozenset({"type", "index", "citations"})
"""What a block or a piece of one may say without saying anything."""

_ANSWER = msgspec.json.Decoder(MessagesAnswer)
_EVENT = msgspec.json.Decoder(MessagesEvent)


def parse_messages_answer(body: bytes) -> MessagesAnswer | None:
    """Return the top of an answer, or None where there is no answer in it."""
    found = read_object(_ANSWER, body)
    if found is None or found.content is None or found.error or found.type == "error":
        return None
    return found


def read_messages_answer(body: bytes) -> WholeAnswer | None:
    """Return what is read of an unstreamed answer, or None where there is no answer in it."""
    found = parse_messages_answer(body)
    if found is None:
        return None
    marks = tuple(mark for mark in map(block_mark, found.content or ()) if mark)
    return WholeAnswer(
        id_of(found.id),
        usage_of(found.usage),
        id_of(found.model),
        thoughts=marks,
        container=_container(found.container),
    )


def parse_messages_event(data: bytes) -> MessagesEvent | None:
    """Return one event's data, or None where no client could read it.

    What has another shape than ours is an event of a kind that we do not know.
    """
    return read_object(_EVENT, data, otherwise=MessagesEvent)


def merged_usage(start: Any, delta: Any) -> Usage | None:
    """Return the usage of a stream: what its end says goes before what its begin said."""
    parts = [part for part in (start, delta) if isinstance(part, dict)]
    known = {name: n for part in parts for name, n in part.items() if n is not None}
    return usage_of(known)


def _container(said: Any) -> str | None:
    return id_of(said.get("id")) if isinstance(said, dict) else None


def _says(said: dict[str, Any] | None) -> bool:
    return any(value and name not in NO_CONTENT for name, value in (said or {}).items())
