"""Streams of Chat Completions: whole events pass as the bytes that came, and are read.

What is no event that a client can read never passes: the rest of an event whose stream was cut,
and data that is no JSON. Nothing is ever finished on the provider's behalf.
"""

from __future__ import annotations

import json

from telemetry.wire.chat import (
    ChoicePart,
    Usage,
    has_failed,
    id_of,
    parse_part,
    says_something,
    usage_of,
)
from telemetry.wire.lenient import read_leniently
from telemetry.wire.sse import DONE, EventSplitter, data_of

MAX_EVENT_BYTES = 16 << 20
"""An image or a sound in one event; beyond this no client reads on either."""


class _Choice:
    """How far one of the alternatives has come."""

    __slots__ = ("finished", "late", "spoke")

    def __init__(self) -> None:
        self.spoke = False  # in an event without a finish reason
        self.finished = False
        self.late = False  # content came after the finish reason

    @property
    def is_trusted(self) -> bool:
        return self.spoke and self.finished and not self.late


class ChatStream:
    """What one stream has shown so far."""

    __slots__ = (
        "_choices",
        "_hide_usage",
        "_n_choices",
        "_splitter",
        "done",
        "failed",
        "id",
        "spoke",
        "told",
        "unreadable",
        "usage",
    )

    def __init__(self, *, hide_usage: bool, n_choices: int = 1) -> None:
        self.id: str | None = None
        self.usage: Usage | None = None
        self.spoke = False  # there was content
        self.done = False  # the terminator was seen
        self.failed = False  # the provider says that this is no answer
        self.told = False  # in an event that every client takes for an error
        self.unreadable = False  # from here on nothing passes
        self._hide_usage = hide_usage
        self._n_choices = n_choices
        self._choices: dict[int, _Choice] = {}
        self._splitter = EventSplitter()

    @property
    def finished(self) -> bool:
        """Whether every choice has its finish reason."""
        return len(self._choices) >= self._n_choices and self._all_finished

    @property
    def _all_finished(self) -> bool:
        return bool(self._choices) and all(c.finished for c in self._choices.values())

    @property
    def is_empty(self) -> bool:
        """Whether the terminator came, and neither content nor a finish reason before it."""
        return self.done and not self.spoke and not self._all_finished

    @property
    def trusted(self) -> bool:
        """Whether the finish reasons say the truth: content came before each, and none after it.

        Some providers send one with every piece.
        """
        return self.finished and all(c.is_trusted for c in self._choices.values())

    def is_whole(self, *, ended_well: bool) -> bool:
        """Return whether the answer came to its end.

        Args:
            ended_well: the connection came to its proper end.
        """
        if self.failed or self.unreadable or self.is_empty:
            return False
        return self.done or (self._all_finished if ended_well else self.trusted)

    def feed(self, data: bytes) -> bytes:
        """Read `data`; return the whole events to pass on now."""
        out = []
        for event in self._splitter.feed(data):
            hidden = self._read(event)
            if self.unreadable:
                break
            if not hidden:
                out.append(event)
        if self._splitter.n_held > MAX_EVENT_BYTES:
            self.unreadable = True
        return out[0] if len(out) == 1 else b"".join(out)

    def flush(self) -> bytes:
        """Read what is left at the proper end of the stream; return it if it is an event."""
        left = self._splitter.take_rest()
        rest = left.strip(b"\r\n")
        if not rest:
            return left  # of a blank line that came in two pieces
        if self.unreadable or not _is_readable(rest):
            return b""
        return b"" if self._read(rest) else rest + b"\n\n"

    def _read(self, event: bytes) -> bool:
        """Take note of one event; return whether it is the usage chunk that only we asked for."""
        data = data_of(event)
        if not data:
            return False
        if data == DONE:
            self.done = True
            return self.failed and not self.told  # our own event, which tells of it, comes last
        chunk = parse_part(data)
        if chunk is None:
            self.unreadable = True
            return True
        self.spoke |= chunk.is_odd
        if self.id is None:
            self.id = id_of(chunk.id)
        reported = chunk.reported
        if reported is not None:
            self.usage = usage_of(reported) or self.usage
        if chunk.error:
            self.failed = self.told = True
        elif chunk.object == "error" or _is_named_error(event):
            self.failed = True
        for choice in chunk.choices or ():
            self._follow(choice)
        return self._hide_usage and not (chunk.choices or self.failed) and chunk.usage is not None

    def _follow(self, part: ChoicePart) -> None:
        index = part.index if isinstance(part.index, int) else 0
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice()
        said = part.delta or part.message  # some servers send a whole message in one event
        speaks = said is not None and says_something(said)
        self.spoke |= speaks
        if has_failed(part):
            self.failed = True
        if speaks and choice.finished:
            choice.late = True
        elif speaks and not part.finish_reason:
            choice.spoke = True
        if part.finish_reason:
            choice.finished = True


def whole_as_stream(body: bytes) -> bytes:
    """Return a whole answer as a stream of one event, for a client whose stream has begun."""
    answer = read_leniently(body)
    for choice in answer["choices"]:
        choice["delta"] = choice.pop("message", {})
    answer["object"] = "chat.completion.chunk"
    return b"data: " + json.dumps(answer).encode() + b"\n\ndata: " + DONE + b"\n\n"


def _is_named_error(event: bytes) -> bool:
    """Return whether an event is called an error, whatever its data says."""
    return b"error" in event and any(
        line[6:].strip() == b"error" for line in event.splitlines() if line.startswith(b"event:")
    )


def _is_readable(event: bytes) -> bool:
    data = data_of(event)
    return data == DONE or (bool(data) and parse_part(data) is not None)
