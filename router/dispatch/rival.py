"""A second start beside a slow one: whoever has something to say first wins."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, TypeVar

from router.net.deadline import Deadline

T = TypeVar("T")
ASK_AGAIN_S = 1.0
"""Where nothing may be started now, it may a moment later."""


class Overtaken(Exception):
    """The rival has a result, and the block that it ran beside has none yet."""


class Rival(Deadline, Generic[T]):
    """Starts a task beside its block, once the block has lasted so long; and is its deadline.

    A result of the task ends the block with `Overtaken`; its failure ends nothing. The deadline,
    of which there is none until it is moved, ends the block alone.
    """

    __slots__ = ("_beside", "_inside", "_limit_at", "_slow_at", "_start", "_won", "has_begun")

    def __init__(self, wait_s: float, start: Callable[[], Coroutine[Any, Any, T] | None]) -> None:
        """Prepare.

        Args:
            wait_s: infinite where nothing is ever started.
            start: returns what to run, or None where nothing may be started now.
        """
        self._passed = self._won = False
        self._slow_at = self.due_at = time.monotonic() + wait_s
        self._limit_at = math.inf
        self._start = start
        self._beside: asyncio.Task[T] | None = None
        self.has_begun = False  # the task
        self._inside = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._inside = False
        self._clock.remove(self)
        if not (self._passed or self._won):
            return  # most often
        came = self._passed and self._was_interrupted(kind)
        if self._won:  # before the other of two interruptions has come, it may count as well
            came = self._was_interrupted(kind)
        if came:
            raise (Overtaken if self._won else TimeoutError) from error

    def move(self, limit_s: float) -> None:
        """Set the deadline anew, from now on; when the task starts stays what it is."""
        self._limit_at = time.monotonic() + limit_s
        self.due_at = self._limit_at if self._limit_at < self._slow_at else self._slow_at
        self._clock.hasten(self.due_at)

    def ring(self) -> None:
        """The deadline has passed, or the block is slow."""
        now = time.monotonic()
        if now >= self._limit_at:
            self._interrupt()
            return
        self._slow_at, self.due_at = math.inf, self._limit_at
        self._clock.add(self)  # before anything can go wrong: it is the block's deadline, too
        coroutine = self._start()
        if coroutine is None:
            self._slow_at = now + ASK_AGAIN_S
            self.due_at = min(self._limit_at, self._slow_at)
            self._clock.hasten(self.due_at)
        else:
            self.has_begun = True
            self._beside = asyncio.get_running_loop().create_task(coroutine)
            self._beside.add_done_callback(self._done)

    @property
    def may_answer(self) -> bool:
        """Whether it was started and has not failed."""
        task = self._beside
        if task is None or not task.done():
            return task is not None
        return not task.cancelled() and task.exception() is None

    async def result(self) -> T:
        """Return what the rival has, once it has it; raises what it raises."""
        assert self._beside is not None
        return await self._beside

    async def stop(self) -> T | None:
        """End it; return a result that nobody took."""
        task = self._beside
        if task is None:
            return None
        task.cancel()
        await asyncio.wait([task])
        return None if task.cancelled() or task.exception() else task.result()

    def _done(self, task: asyncio.Task[T]) -> None:
        if task.cancelled() or task.exception() is not None:
            return
        if self._inside:
            self._won = True
            self._task.cancel()
