"""A streamed answer, said event by event; why it ends, and that it ends, only at its end.

A client takes an answer for whole by these two, so neither leaves before the answer is known
to be.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque

from router.translation.completion import (
    Arguments,
    Begun,
    CallBegun,
    CallEnded,
    Count,
    Counted,
    Declined,
    Event,
    Piece,
    Stop,
    Stopped,
)
from router.translation.fitting import Fitting
from router.translation.parts import NO_ARGUMENTS, is_json_object, settled
from router.translation.prompt import Text, Thought

Saying = Piece | CallBegun | Arguments | CallEnded
"""Events that say something of the answer itself."""


class EventWriter(ABC):
    """Says a streamed answer in one dialect."""

    def __init__(self, fitting: Fitting) -> None:
        self.begun: Begun | None = None
        self._fitting = fitting
        self._stopped: Stopped | None = None
        self.count: Count | None = None
        self.n_events = 0  # said so far, where they are numbered
        self.calls = False
        self.declined = False

    @property
    def stop(self) -> Stop:
        """Why the answer ends, as far as it is known."""
        return self._ending[0]

    @property
    def sequence(self) -> str | None:
        """The stop sequence that came."""
        return self._ending[1]

    @property
    def _ending(self) -> tuple[Stop, str | None]:
        said = self._stopped
        stop = settled(said.stop if said else None, calls=self.calls)
        return self._fitting.end(stop, said.sequence if said else None)

    def write(self, event: Event) -> bytes:
        """Return what a client is to be sent now."""
        match event:
            case Begun():
                return self._start(event)
            case Stopped():
                self._stopped = event
            case Counted():
                self.count = event.count
            case CallBegun():
                self.calls = True
                out = self._start()
                answer_id = self.begun.id if self.begun else None
                return out + self._say(self._fitting.begun(event, answer_id))
            case _:
                if isinstance(event, Piece) and event.of is Declined:
                    self.declined |= bool(event.text.strip())
                return self._start() + self._say(event)
        return b""

    def end(self) -> bytes:
        """Return the end of an answer that is known to be whole."""
        return self._start() + self._end()

    @property
    @abstractmethod
    def ping(self) -> bytes:
        """A sign of life, which says nothing."""

    @abstractmethod
    def _begin(self, begun: Begun) -> bytes:
        """Return the begin of the answer."""

    @abstractmethod
    def _say(self, event: Saying) -> bytes:
        """Return more of it."""

    @abstractmethod
    def _end(self) -> bytes:
        """Return all that is left of it, and its end."""

    def _start(self, begun: Begun | None = None) -> bytes:
        """Return the begin of the answer, once; not every provider sends one."""
        if self.begun is not None:
            return b""
        self.begun = begun or Begun(None, None)
        self.count = self.begun.count
        return self._begin(self.begun)


class Block:
    """A part of an answer on its way: a thought, words, a refusal, or the call of a tool."""

    __slots__ = ("call", "is_ended", "is_open", "of", "place", "said", "unsent")

    def __init__(self, of: type[Thought | Text | Declined] | CallBegun, place: int) -> None:
        self.call = of if isinstance(of, CallBegun) else None
        self.of = None if isinstance(of, CallBegun) else of
        self.place = place  # among the parts of its answer
        self.is_open = False
        self.is_ended = False  # its endpoint said so
        self.said: list[str] = []
        self.unsent: list[str] = []

    @property
    def text(self) -> str:
        """All that it has said so far."""
        return "".join(self.said)

    @property
    def lacks_arguments(self) -> bool:
        """Whether it calls a tool that takes JSON with none."""
        if self.call is None or self.call.is_custom:
            return False
        return not any(part.strip() for part in (*self.said, *self.unsent))

    @property
    def is_complete(self) -> bool:
        """Whether nothing can follow, should another part have begun."""
        if self.call is None or self.is_ended:
            return True
        ends = bool(self.said) and self.said[-1].rstrip()[-1:] in ("}", "")
        return ends and not self.call.is_custom and is_json_object(self.text)


class SequentialWriter(EventWriter):
    """Says one part after another, where they may come at once.

    A call that others are mixed with keeps them waiting until what its tool is called with is
    complete, or the answer is.
    """

    def __init__(self, fitting: Fitting, *, shows_thinking: bool) -> None:
        super().__init__(fitting)
        self._shows_thinking = shows_thinking
        self._waiting: deque[Block] = deque()  # the first of them is the one that is open
        self._by_index: dict[int, Block] = {}  # calls
        self._n_blocks = 0
        self._blank: Piece | None = None  # it begins a part only if more of it follows

    @abstractmethod
    def _open(self, block: Block) -> bytes:
        """Return the begin of a part."""

    @abstractmethod
    def _more(self, block: Block, text: str) -> bytes:
        """Return more of a part; `block.text` holds it already."""

    @abstractmethod
    def _close(self, block: Block, *, is_last: bool) -> bytes:
        """Return the end of a part."""

    def _say(self, event: Saying) -> bytes:
        match event:
            case Piece(of, text):
                if not text or (of is Thought and not self._shows_thinking):
                    return b""
                self._say_piece(event)
            case CallBegun(index):
                self._blank = None
                if index not in self._by_index:
                    self._by_index[index] = self._append(Block(event, self._n_blocks))
            case Arguments(index, text):
                if text and index in self._by_index:
                    self._by_index[index].unsent.append(text)
            case CallEnded(index):
                if index in self._by_index:
                    self._by_index[index].is_ended = True
        return self._advance()

    def _say_piece(self, piece: Piece) -> None:
        before, self._blank = self._blank, None
        if self._waiting and self._waiting[-1].of is piece.of:
            self._waiting[-1].unsent.append(piece.text)
            return
        blank = before.text if before is not None and before.of is piece.of else ""
        if not piece.text.strip():
            self._blank = Piece(piece.of, blank + piece.text)
            return
        self._append(Block(piece.of, self._n_blocks)).unsent.append(blank + piece.text)

    def _append(self, block: Block) -> Block:
        self._waiting.append(block)
        self._n_blocks += 1
        return block

    def _advance(self, *, is_end: bool = False) -> bytes:
        """Return what of the waiting parts may be said now."""
        out = []
        while self._waiting:
            block = self._waiting[0]
            if not block.is_open:
                block.is_open = True
                out.append(self._open(block))
            if (is_end or block.is_ended) and block.lacks_arguments:
                block.unsent = [NO_ARGUMENTS]
            if block.unsent:
                text = "".join(block.unsent)
                block.unsent.clear()
                block.said.append(text)
                out.append(self._more(block, text))
            is_last = len(self._waiting) == 1
            if not is_end and (is_last or not block.is_complete):
                break
            self._waiting.popleft()
            out.append(self._close(block, is_last=is_last))
        return b"".join(out)
