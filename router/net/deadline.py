"""Time limits that cost next to nothing to set, to move and to lift.

A timer of the loop costs as much as a tenth of a call, and a stream would move it at every chunk.
Here one timer looks at everything that waits, when the first of it was due as the timer was set and
twenty times a second at most: most limits are moved or lifted by then, and nobody wakes for them. A
limit is kept up to `TICK_S` late, and never early.
"""

from __future__ import annotations

import asyncio
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self
from weakref import WeakKeyDictionary, ref

TICK_S = 0.05
"""The shortest limits are a second."""
LATE_S = TICK_S / 2
"""So much after a limit it is looked at: who leaves when the time is up that the caller gave us
has left by then, and is no answer that did not come."""
IDLE_TICK_S = 1.0
"""Idle connections wait for minutes, and there may be thousands."""


class Waiting(Protocol):
    """Something with a limit."""

    due_at: float  # monotonic seconds

    def ring(self) -> None:
        """The limit has passed."""


class Clock:
    """Rings whoever is due, once; one for each loop."""

    def __init__(self, tick_s: float = TICK_S) -> None:
        self._tick_s = tick_s
        self._waiting: set[Waiting] = set()
        self._look: asyncio.TimerHandle | None = None
        self._in_time = math.inf
        """Who is due no earlier, in monotonic seconds, is rung in time by the look that is set."""
        self.remove: Callable[[Waiting], None] = self._waiting.discard
        """Do not ring it, if it is still to be rung."""

    def add(self, waiting: Waiting) -> None:
        """Ring it once it is due."""
        self._waiting.add(waiting)
        if waiting.due_at < self._in_time:
            self._look_by(waiting.due_at)

    def hasten(self, due_at: float) -> None:
        """Know of something that waits and is due by then, maybe earlier than it was."""
        if due_at < self._in_time:
            self._look_by(due_at)

    def _look_by(self, due_at: float) -> None:
        """Look at what waits once this is due, and a tick from now at the earliest."""
        if self._look is not None:
            self._look.cancel()
        now = time.monotonic()
        wait_s = max(due_at - now + LATE_S, self._tick_s)
        self._in_time = now + wait_s - self._tick_s
        self._look = asyncio.get_running_loop().call_later(wait_s, self._ring_due)

    def _ring_due(self) -> None:
        loop, now = asyncio.get_running_loop(), time.monotonic()
        self._look, self._in_time = None, math.inf
        for due in [w for w in self._waiting if w.due_at <= now]:
            self._waiting.discard(due)
            try:
                due.ring()
            except Exception as error:  # everybody else's limit holds all the same
                message = "what was to happen at a time limit failed"
                loop.call_exception_handler({"message": message, "exception": error})
        if self._waiting:
            self.hasten(min(w.due_at for w in self._waiting))


_CLOCKS: WeakKeyDictionary[asyncio.AbstractEventLoop, Clock] = WeakKeyDictionary()
_Latest = tuple[Callable[[], asyncio.AbstractEventLoop | None], Clock | None]
_latest: _Latest = (lambda: None, None)
"""The loop that was asked for last, and its clock: a process serves on one."""
_IDLE_CLOCKS: WeakKeyDictionary[asyncio.AbstractEventLoop, Clock] = WeakKeyDictionary()


def clock_of(loop: asyncio.AbstractEventLoop) -> Clock:
    """Return the clock of a loop."""
    global _latest
    of, clock = _latest
    if clock is not None and of() is loop:
        return clock
    found = _CLOCKS.get(loop)
    if found is None:
        found = _CLOCKS[loop] = Clock()
    _latest = ref(loop), found
    return found


def idle_clock_of(loop: asyncio.AbstractEventLoop) -> Clock:
    """Return the clock of a loop for what is idle: it looks once a second at most."""
    found = _IDLE_CLOCKS.get(loop)
    if found is None:
        found = _IDLE_CLOCKS[loop] = Clock(IDLE_TICK_S)
    return found


class Interrupting(ABC):
    """A block that something may end from outside; a cancellation from elsewhere stays one."""

    __slots__ = ("_clock", "_n_cancelling", "_passed", "_task", "due_at")

    def __init__(self, limit_s: float) -> None:
        self._passed = False
        self.due_at = time.monotonic() + limit_s

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        self._task, self._n_cancelling = task, task.cancelling()
        self._clock = clock_of(loop)
        self._clock.add(self)
        return self

    @abstractmethod
    def ring(self) -> None:
        """The limit has passed."""

    def _interrupt(self) -> None:
        self._passed = True
        self._task.cancel()

    def _was_interrupted(self, kind: type[BaseException] | None) -> bool:
        """Return whether the block ended by our interruption, which came; asked last, and once."""
        others = self._task.uncancel() > self._n_cancelling
        return kind is asyncio.CancelledError and not others


class Deadline(Interrupting):
    """Ends its block with TimeoutError once the limit has passed, as `asyncio.timeout` does."""

    __slots__ = ()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._passed:
            self._clock.remove(self)  # most often
        elif self._was_interrupted(kind):
            raise TimeoutError from error

    def move(self, limit_s: float) -> None:
        """Set the limit anew, from now on."""
        self.due_at = time.monotonic() + limit_s
        self._clock.hasten(self.due_at)

    def ring(self) -> None:
        """Cancel the task."""
        self._interrupt()
