"""How much of one turn of the loop goes to calls that begin.

A thousand calls that come at once would fill a turn of half a second; streams, health checks and
answers would wait for its end. So what does not fit into a turn begins in a later one, in order.
"""

from __future__ import annotations

import asyncio
import time

LONGEST_S = 0.01
"""Some fifty calls. Health took .3 s with 1,600 clients at once; with 20 ms .5 s, without 1 s."""


class Turns:
    """Counts the time that beginnings take of each turn; one for the loop."""

    def __init__(self) -> None:
        self._ends_at: float | None = None  # of the turn at hand; None before its first beginning

    def is_spent(self) -> bool:
        """Return whether no more calls should begin in this turn."""
        if self._ends_at is None:
            self._ends_at = time.monotonic() + LONGEST_S
            asyncio.get_running_loop().call_soon(self._next)
            return False
        return time.monotonic() >= self._ends_at

    async def wait(self) -> None:
        """Wait for a turn that has time left."""
        while self.is_spent():  # noqa: ASYNC110 - what is waited for is the loop's next turn
            await asyncio.sleep(0)

    def _next(self) -> None:
        self._ends_at = None
