"""The end of a process that serves: what is under way goes on, within bounds, or is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from router.net.exchange import Exchange

LOOK_EVERY_S = 0.05
END_S = 2.0
"""What was told to end may take this long to say so to a client that does not read."""


@dataclass(slots=True)
class Drain:
    """Waits for exchanges and ends those that wait for nothing."""

    under_way: set[Exchange]
    silent_s: float  # so long an answer may send nothing
    most_s: float  # so long it may take, however it flows
    clock: Callable[[], float] = time.monotonic
    hurried: bool = False  # whoever asks a second time gets it now
    _seen: dict[Exchange, tuple[int, float]] = field(default_factory=dict)

    async def run(self) -> int:
        """Wait until nothing is under way; return how many exchanges were ended early.

        A silence counts from the last byte that was sent, at the earliest from now.
        """
        begun = self.clock()
        n_ended = 0
        while self.under_way and not self.hurried:
            now = self.clock()
            for exchange in self._overdue(now, everything=now - begun >= self.most_s):
                exchange.stop()
                n_ended += 1
            if self.under_way and all(exchange.stopped for exchange in self.under_way):
                break
            await self._wait(LOOK_EVERY_S)
        n_ended += sum(not exchange.stopped for exchange in self.under_way)
        await self._end()
        return n_ended

    def _overdue(self, now: float, *, everything: bool) -> list[Exchange]:
        out = []
        for exchange in self.under_way:
            n_parts, at = self._seen.get(exchange, (exchange.n_parts, now))
            if exchange.n_parts != n_parts:
                at = now
            self._seen[exchange] = exchange.n_parts, at
            if not exchange.stopped and (everything or now - at >= self.silent_s):
                out.append(exchange)
        return out

    async def _end(self) -> None:
        """End what is left: told first, then without a word."""
        for exchange in list(self.under_way):
            exchange.stop()
        await self._wait(END_S)
        for exchange in list(self.under_way):
            exchange.cut()
            exchange.task.cancel()
        await self._wait(END_S)

    async def _wait(self, at_most_s: float) -> None:
        if tasks := [exchange.task for exchange in self.under_way]:
            await asyncio.wait(tasks, timeout=at_most_s)
