"""Signs of life for a client that waits for a stream of which nothing is let go yet."""

from __future__ import annotations

import asyncio
import math
import time
from functools import partial
from typing import Protocol

from router.dialects.errors import error_event
from router.net.deadline import clock_of
from router.net.exchange import Exchange, Header

EVERY_S = 4.0
"""Below the shortest usual limits of clients (5 s), and of what stands between (10 s and more)."""
LOOK_S = 0.5
"""How late a sign of life may be noticed."""
COMMENT = b": waiting for the answer\n\n"
EVENT_STREAM: Header = (b"content-type", b"text/event-stream; charset=utf-8")


class HeldCall(Protocol):
    """A call of which nothing is let go yet."""

    def early_headers(self) -> list[Header]:
        """Return what can be said before it is known who answers."""

    def lives(self) -> bool:
        """Return whether a provider has begun to answer; before that a status may still come."""


class Heartbeat:
    """Begins the answer to a client that has waited long, and says now and then that it goes on."""

    __slots__ = ("_clock", "_every_s", "_exchange", "_task", "_waiting", "due_at")

    def __init__(
        self,
        exchange: Exchange,
        waiting: HeldCall,
        *,
        client_s: float | None,
    ) -> None:
        """Wait from now on.

        Args:
            client_s: how long the client waits between two bytes, where it says so.
        """
        self._every_s = min(EVERY_S, (client_s or math.inf) / 3)
        self._exchange = exchange
        self._waiting = waiting
        self._task: asyncio.Task[None] | None = None
        self.due_at = time.monotonic() + self._every_s
        self._clock = clock_of(asyncio.get_running_loop())
        self._clock.add(self)  # nearly all calls are answered before it rings

    def stop(self) -> bool:
        """Begin nothing any more; return whether something has begun, which `end` ends."""
        self._clock.remove(self)
        return self._task is not None

    async def end(self) -> None:
        """Say no more."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])

    def ring(self) -> None:
        """Begin, if that is of use; else look again soon."""
        if self._waiting.lives():
            self._task = asyncio.create_task(self._beat())
            return
        self.due_at = time.monotonic() + min(LOOK_S, self._every_s)
        self._clock.add(self)

    async def _beat(self) -> None:
        self._exchange.tell = partial(error_event, self._exchange.path)
        await self._exchange.start(200, [EVENT_STREAM, *self._waiting.early_headers()])
        while True:
            await self._exchange.part(COMMENT)
            await asyncio.sleep(self._every_s)
