"""A second start beside a slow one: whoever has something to say first wins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, TypeVar

from router.net.deadline import clock_of

T = TypeVar("T")
ASK_AGAIN_S = 1.0
"""Where nothing may be started now, it may a moment later."""


class Overtaken(Exception):
    """The rival has a result, and the block that it ran beside has none yet."""


class Rival(Generic[T]):
    """Starts a task beside its block, once the block has lasted so long.

    A result of the task ends the block with `Overtaken`; its failure ends nothing.
    """

    __slots__ = ("_clock", "_inside", "_n_cancelling", "_overtook", "_owner", "_start", "_task",
                 "due_at")  # fmt: skip

    def __init__(self, wait_s: float, start: Callable[[], Coroutine[Any, Any, T] | None]) -> None:
        """Prepare.

        Args:
            start: returns what to run, or None where nothing may be started.
        """
        loop = asyncio.get_running_loop()
        self._clock = clock_of(loop)
        self._start = start
        self._task: asyncio.Task[T] | None = None
        self._inside = self._overtook = False
        self.due_at = loop.time() + wait_s

    def __enter__(self) -> Rival[T]:
        owner = asyncio.current_task()
        assert owner is not None
        self._owner, self._n_cancelling = owner, owner.cancelling()
        self._inside = True
        self._clock.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._inside = False
        self._clock.remove(self)
        if not self._overtook:
            return
        others = self._owner.uncancel() > self._n_cancelling
        if kind is asyncio.CancelledError and not others:
            raise Overtaken from error

    def ring(self) -> None:
        """The block is slow."""
        loop, coroutine = asyncio.get_running_loop(), self._start()
        if coroutine is None:
            self.due_at = loop.time() + ASK_AGAIN_S
            self._clock.add(self)
            return
        self._task = loop.create_task(coroutine)
        self._task.add_done_callback(self._done)

    @property
    def may_answer(self) -> bool:
        """Whether it was started and has not failed."""
        task = self._task
        if task is None or not task.done():
            return task is not None
        return not task.cancelled() and task.exception() is None

    async def result(self) -> T:
        """Return what the rival has, once it has it; raises what it raises."""
        assert self._task is not None
        return await self._task

    async def stop(self) -> T | None:
        """End it; return a result that nobody took."""
        task = self._task
        if task is None:
            return None
        task.cancel()
        await asyncio.wait([task])
        return None if task.cancelled() or task.exception() else task.result()

    def _done(self, task: asyncio.Task[T]) -> None:
        if task.cancelled() or task.exception() is not None:
            return
        if self._inside:
            self._overtook = True
            self._owner.cancel()
