"""Streams of any dialect: whole events pass as the bytes that came, and are read.

What is no event that a client can read never passes: the rest of an event whose stream was cut,
and data that is no JSON. Nothing is ever finished on the provider's behalf.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, Protocol, TypeVar

from telemetry.wire.sse import DONE, EventSplitter, data_of
from telemetry.wire.usage import Usage

MAX_EVENT_BYTES = 16 << 20
"""An image or a sound in one event; beyond this no client reads on either."""
LINE = b"data: {"
"""How the line of an event begins that tells an object."""


class AnswerStream(ABC):
    """What one stream has shown so far."""

    __slots__ = (
        *("begun", "container", "done", "failed", "fingerprint", "id", "item_ids", "model"),
        *("n_events", "n_pieces", "said_bytes", "spoke", "thoughts", "told", "unreadable"),
        "usage",
    )

    def __init__(self) -> None:
        self.id: str | None = None
        self.container: str | None = None  # id of where the provider runs its tools
        self.item_ids: tuple[str, ...] = ()  # by which a later call may name what it consists of
        self.model: str | None = None  # who answered, as the answer says
        self.fingerprint: str | None = None  # of the system that served
        self.usage: Usage | None = None
        self.begun: Usage | None = None  # what its begin says, before anything was written
        self.n_pieces = 0  # of content, most often a token each
        self.said_bytes = 0  # of text in them
        self.thoughts: tuple[str, ...] = ()  # marks of those that are whole
        self.n_events = 0  # where they are numbered: the number of the next one
        self.spoke = False  # there was content
        self.done = False  # the terminator was seen
        self.failed = False  # the provider says that this is no answer
        self.told = False  # in an event that every client takes for an error
        self.unreadable = False  # from here on nothing passes

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether the answer says why it ends."""

    @property
    def is_empty(self) -> bool:
        """Whether the terminator came, and neither content nor a reason for the end before it."""
        return self.done and not self.spoke and not self.finished

    @property
    def trusted(self) -> bool:
        """Whether its reason for the end says the truth, also where no terminator follows."""
        return self.finished

    def is_whole(self, *, ended_well: bool) -> bool:
        """Return whether the answer came to its end.

        Args:
            ended_well: the connection came to its proper end.
        """
        if self.failed or self.unreadable or self.is_empty:
            return False
        return self.done or (self.finished if ended_well else self.trusted)

    @abstractmethod
    def feed(self, data: bytes) -> bytes:
        """Read `data`; return what is to be passed on now."""

    @abstractmethod
    def flush(self) -> bytes:
        """Read what is left at the proper end of the stream; return what of it passes."""

    def close(self) -> bytes:
        """Return what the client lacks of an answer whose connection broke, or fell silent."""
        return b""


class EventStream(AnswerStream):
    """A stream of events; each dialect reads its own.

    What plainly goes on with an answer is looked at in a hurry; all else is read in full. Both see
    the same.
    """

    __slots__ = ("_splitter",)

    def __init__(self) -> None:
        super().__init__()
        self._splitter = EventSplitter()

    def feed(self, data: bytes) -> bytes:
        """Read `data`; return the whole events to pass on now."""
        events = None if self.unreadable else self._splitter.whole(data)
        if events is None:
            return self._feed_parts(data)
        if len(events) == 1:  # most often
            (event,) = events
            is_passed = self._goes_on(event) or not (self._read(event) or self.unreadable)
            return data if is_passed else b""
        passed = []  # nearly always all of them, as they came
        for event in events:
            if self._goes_on(event):
                passed.append(event)
                continue
            hidden = self._read(event)
            if self.unreadable:
                break
            if not hidden:
                passed.append(event)
        return data if len(passed) == len(events) else b"".join(e + b"\n\n" for e in passed)

    def _feed_parts(self, data: bytes) -> bytes:
        """Do the same with events that did not come by themselves."""
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
        if self.unreadable or not self._is_readable(rest):
            return b""
        return b"" if self._read(rest) else rest + b"\n\n"

    @abstractmethod
    def _goes_on(self, event: bytes) -> bool:
        """Take note of an event that plainly goes on with what was begun; else return False.

        Args:
            event: without its blank line; its lines end with LF alone.
        """

    @abstractmethod
    def _read(self, event: bytes) -> bool:
        """Take note of one event; return whether it is to be hidden from the client."""

    @abstractmethod
    def _parse(self, data: bytes) -> object | None:
        """Return what is read of an event's data; None where it cannot be read."""

    def _is_readable(self, event: bytes) -> bool:
        """Return whether the rest of a stream is an event."""
        data = data_of(event)
        return data == DONE or (bool(data) and self._parse(data) is not None)


class NamedEvent(Protocol):
    """What is read of an event that has a name."""

    @property
    def is_error(self) -> bool:
        """Whether it says that this is no answer."""


E = TypeVar("E", bound=NamedEvent)


class NamedEventStream(EventStream, Generic[E]):
    """A stream of named events, one of which is the last."""

    __slots__ = ()

    done_ends: ClassVar[bool] = False
    """Whether `[DONE]`, which some servers end every stream with, stands for that one."""

    @abstractmethod
    def _parse(self, data: bytes) -> E | None:
        """Return what is read of an event's data; None where it cannot be read."""

    @abstractmethod
    def _note(self, event: E) -> None:
        """Take note of what an event says."""

    def _read(self, event: bytes) -> bool:
        data = data_of(event)
        if not data:
            return False
        if data == DONE:
            self.done |= self.done_ends
            return False
        found = self._parse(data)
        if found is None:
            self.unreadable = True
            return True
        self._note(found)
        if found.is_error or is_named_error(event):
            self.failed = self.told = True
        return False


def is_named_error(event: bytes) -> bool:
    """Return whether an event is called an error, whatever its data says."""
    return b"error" in event and any(
        line[6:].strip() == b"error" for line in event.splitlines() if line.startswith(b"event:")
    )
