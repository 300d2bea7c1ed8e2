"""A time limit on part of a task; moving it costs nothing, as streams do at every chunk.

`asyncio.timeout` sets a new timer each time. Here the timer looks at the limit when it fires, and
waits on if that has moved.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

TICK_S = 0.001
"""The loop's timers are exact to a millisecond: one that fires so much early has fired."""


class Deadline:
    """Ends its block with TimeoutError once the loop's clock passes `at`.

    A cancellation from elsewhere passes through as one.
    """

    __slots__ = ("_armed_at", "_at", "_loop", "_n_cancelling", "_passed", "_task", "_timer")

    def __init__(self, limit_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._at = self._armed_at = self._loop.time() + limit_s
        self._passed = False

    def __enter__(self) -> Deadline:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._n_cancelling = task, task.cancelling()
        self._timer = self._loop.call_at(self._at, self._look)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if not self._passed:
            return
        others = self._task.uncancel() > self._n_cancelling
        if kind is asyncio.CancelledError and not others:
            raise TimeoutError from error

    def move(self, limit_s: float) -> None:
        """Set the limit anew, from now on."""
        self._at = self._loop.time() + limit_s
        if self._at < self._armed_at and not self._passed:
            self._timer.cancel()
            self._arm()

    def _look(self) -> None:
        if self._loop.time() < self._at - TICK_S:
            self._arm()
        else:
            self._passed = True
            self._task.cancel()

    def _arm(self) -> None:
        self._armed_at = self._at
        self._timer = self._loop.call_at(self._at, self._look)
