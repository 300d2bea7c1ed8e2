"""A streamed answer in another dialect than its endpoint's, while it comes."""

from __future__ import annotations

from typing import Protocol

from router.dialects.stream import MAX_EVENT_BYTES, AnswerStream
from router.endpoints.entries import Dialect
from router.translation.completion import Counted, Event, Stopped
from router.translation.errors import translated_error
from router.translation.event_writer import EventWriter
from telemetry.wire.sse import EventSplitter, data_of

# what is told of an end without an answer
SILENT_END = b'{"error":{"message":"the endpoint ended its answer without one","code":"no_answer"}}'


class EventReader(Protocol):
    """Reads the stream of an endpoint."""

    def feed(self, data: bytes) -> list[Event] | None:
        """Return what the data of one event says; None where nobody can tell."""

    def finish(self) -> list[Event]:
        """Return what was not told before the end, because more of it might have come."""


class TranslatedStream(AnswerStream):
    """Reads a stream as its endpoint speaks it, and passes it on as the caller does.

    What the stream has shown is what its own reader says. The client is told why the answer ends,
    and that it does, once that reader knows it to be whole; what breaks off has no end in any
    dialect. Whatever the endpoint sends that leaves nothing to say is a sign of life.
    """

    __slots__ = (
        "_is_over",
        "_native",
        "_reader",
        "_speaks",
        "_splitter",
        "_to",
        "_told",
        "_writer",
    )

    def __init__(
        self,
        native: AnswerStream,
        reader: EventReader,
        writer: EventWriter,
        *,
        speaks: Dialect,
        to: Dialect,
        told: AnswerStream | None = None,
    ) -> None:
        """Begin.

        Args:
            native: what reads the endpoint's dialect; it hides nothing.
            speaks: that dialect.
            to: the caller's.
            told: what reads that, where the caller is told thoughts.
        """
        super().__init__()
        self._native = native
        self._reader = reader
        self._writer = writer
        self._speaks = speaks
        self._to = to
        self._told = told
        self._splitter = EventSplitter()
        self._is_over = False  # nothing passes from here on

    @property
    def finished(self) -> bool:
        """Whether the answer says why it ends."""
        return self._native.finished

    @property
    def trusted(self) -> bool:
        """Whether its reason for the end says the truth, also where no terminator follows."""
        return self._native.trusted

    def is_whole(self, *, ended_well: bool) -> bool:
        """Return whether the answer came to its end.

        Args:
            ended_well: the connection came to its proper end.
        """
        return not self.unreadable and self._native.is_whole(ended_well=ended_well)

    def feed(self, data: bytes) -> bytes:
        """Read `data`; return what the client is to be sent now."""
        out = []
        for event in self._splitter.feed(data):
            if self._is_over and self._native.done:
                break
            self._native.feed(event)
            out.append(self._pass(event))
        if self._splitter.n_held > MAX_EVENT_BYTES:
            self._is_over = self.unreadable = True
        self._follow()
        return self._tell(b"".join(out))

    def flush(self) -> bytes:
        """Read what is left at the proper end of the stream; return what of it is to be sent."""
        out, rest = b"", self._splitter.take_rest()
        if not (self._is_over and self._native.done):
            self._native.feed(rest)
            out = self._pass(self._native.flush())
            self._follow()
        return self._tell(out + self._end(ended_well=True))

    def close(self) -> bytes:
        """Return the end of an answer that is whole though no end of it came."""
        return self._end(ended_well=False)

    def _pass(self, event: bytes) -> bytes:
        """Return what the client is sent of an event that the native reader has read."""
        native = self._native
        if native.told and not (self.told or self.unreadable or native.unreadable):
            self._is_over = self.told = True
            return self._error(data_of(event), self._speaks)
        self._is_over |= native.unreadable or native.failed
        if self._is_over:
            return b""
        if native.done:
            return self._finish()
        data = data_of(event)
        if not data:
            return self._writer.ping if event.strip(b"\r\n") else b""
        said = self._reader.feed(data)
        if said is None:
            self._is_over = self.unreadable = True
            return b""
        out = b"".join([self._writer.write(each) for each in said])
        is_held = any(isinstance(each, Stopped | Counted) for each in said)
        return out if out or is_held else self._writer.ping

    def _finish(self) -> bytes:
        """Return the end, once the terminator has come; of nothing there is none."""
        if not self._native.is_empty:
            return self._end(ended_well=False)
        self._is_over = True
        self.told = True
        return self._error(SILENT_END, Dialect.CHAT)

    def _error(self, data: bytes, from_: Dialect) -> bytes:
        return translated_error(data, from_, self._to, number=self._writer.n_events)

    def _end(self, *, ended_well: bool) -> bytes:
        if self._is_over or not self.is_whole(ended_well=ended_well):
            return b""
        self._is_over = True
        rest = [self._writer.write(each) for each in self._reader.finish()]
        return b"".join([*rest, self._writer.end()])

    def _tell(self, said: bytes) -> bytes:
        """Take note of thoughts as the caller is told them."""
        if self._told is not None:
            self._told.feed(said)
            self.thoughts = self._told.thoughts
        return said

    def _follow(self) -> None:
        """Show what the native reader has seen."""
        native = self._native
        self.id, self.usage, self.begun = native.id, native.usage, native.begun
        self.n_pieces, self.said_bytes = native.n_pieces, native.said_bytes
        self.model, self.fingerprint = native.model, native.fingerprint
        self.spoke, self.done, self.failed = native.spoke, native.done, native.failed
        self.unreadable |= native.unreadable
        self.n_events = self._writer.n_events
