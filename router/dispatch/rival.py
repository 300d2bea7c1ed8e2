"""A second start beside a slow one: whoever has something to say first wins."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, TypeVar

from router.net.deadline import Interrupting

T = TypeVar("T")
ASK_AGAIN_S = 1.0
"""Where nothing may be started now, it may a moment later."""


class Overtaken(Exception):
    """The rival has a result, and the block that it ran beside has none yet."""


class Rival(Interrupting, Generic[T]):
    """Starts a task beside its block, once the block has lasted so long.

    A result of the task ends the block with `Overtaken`; its failure ends nothing.
    """

    __slots__ = ("_beside", "_inside", "_start")

    def __init__(self, wait_s: float, start: Callable[[], Coroutine[Any, Any, T] | None]) -> None:
        """Prepare.

        Args:
            start: returns what to run, or None where nothing may be started.
        """
        super().__init__(wait_s)
        self._start = start
        self._beside: asyncio.Task[T] | None = None
        self._inside = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._inside = False
        if not self._passed:
            self._clock.remove(self)  # most often
        elif self._was_interrupted(kind):
            raise Overtaken from error

    def ring(self) -> None:
        """The block is slow."""
        coroutine = self._start()
        if coroutine is None:
            self.due_at = time.monotonic() + ASK_AGAIN_S
            self._clock.add(self)
            return
        self._beside = asyncio.get_running_loop().create_task(coroutine)
        self._beside.add_done_callback(self._done)

    @property
    def has_begun(self) -> bool:
        """Whether it was started."""
        return self._beside is not None

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
            self._interrupt()
