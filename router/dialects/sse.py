"""Streams of Chat Completions: bytes pass, a copy is read.

Bytes are passed on as they came. Only where we asked for a usage chunk that the client did not
ask for, whole events are passed on, so that this one chunk can be left out.
"""

from __future__ import annotations

from telemetry.wire import sse
from telemetry.wire.chat import Usage, id_of, parse_part, usage_of

MAX_EVENT_BYTES = 1 << 20
"""An event that grows beyond this is passed on unread."""


class ChatStream:
    """What one stream has shown so far."""

    __slots__ = (
        "_ended",
        "_hide_usage",
        "_n_choices",
        "_rest",
        "done",
        "failed",
        "finished",
        "id",
        "spoke",
        "usage",
    )

    def __init__(self, *, hide_usage: bool, n_choices: int = 1) -> None:
        self.id: str | None = None
        self.usage: Usage | None = None
        self.spoke = False  # text, reasoning, refusal or a tool call was seen
        self.finished = False  # every choice has its finish reason
        self.done = False  # the terminator was seen
        self.failed = False  # the provider reported an error inside the stream
        self._hide_usage = hide_usage
        self._n_choices = n_choices
        self._ended: set[object] = set()  # indices of choices with a finish reason
        self._rest = b""

    @property
    def complete(self) -> bool:
        """Whether the answer came to its end."""
        return (self.done or self.finished) and not self.failed

    @property
    def is_inside_event(self) -> bool:
        """Whether part of an event was passed on, and its rest has yet to come."""
        return bool(self._rest) and not self._hide_usage

    def feed(self, data: bytes) -> bytes:
        """Read `data`; return what to pass on now."""
        buffer = self._rest + data if self._rest else data
        end = sse.last_boundary(buffer)
        if end < 0:
            self._rest = buffer
            if len(buffer) > MAX_EVENT_BYTES:
                self._rest = b""
                return buffer if self._hide_usage else data
            return b"" if self._hide_usage else data
        whole, self._rest = buffer[:end], buffer[end:]
        if not self._hide_usage:
            for event in sse.events(whole):
                self._read(event)
            return data
        kept = [event for event in sse.events(whole) if not self._read(event)]
        return b"".join(kept)

    def flush(self) -> bytes:
        """Read what is left at the end of the stream; return what to pass on."""
        rest, self._rest = self._rest, b""
        if not rest:
            return b""
        hidden = self._read(rest)
        return rest if self._hide_usage and not hidden else b""

    def _read(self, event: bytes) -> bool:
        """Take note of one event; return whether it is the usage chunk that only we asked for."""
        data = sse.data_of(event)
        if not data:
            return False
        if data == sse.DONE:
            self.done = True
            return False
        chunk = parse_part(data)
        if chunk is None:
            return False  # garbage from the provider is the client's to see, not ours to read
        if self.id is None:
            self.id = id_of(chunk.id)
        if chunk.usage is not None:
            self.usage = usage_of(chunk.usage) or self.usage
        if chunk.error is not None:
            self.failed = True
        for choice in chunk.choices or ():
            if choice.finish_reason:
                self._ended.add(choice.index if isinstance(choice.index, int) else 0)
                self.finished = len(self._ended) >= self._n_choices
            if not self.spoke and choice.delta is not None and choice.delta.says_something():
                self.spoke = True
        return self._hide_usage and not chunk.choices and chunk.usage is not None
