"""Signs of life for a client that waits for a stream of which nothing is let go yet."""

from __future__ import annotations

import asyncio
import math
from functools import partial
from types import TracebackType
from typing import Protocol

from router.dialects.errors import error_event
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

    def __init__(
        self,
        exchange: Exchange,
        waiting: HeldCall,
        *,
        client_s: float | None,
    ) -> None:
        """Prepare.

        Args:
            client_s: how long the client waits between two bytes, where it says so.
        """
        self._every_s = min(EVERY_S, (client_s or math.inf) / 3)
        self._exchange = exchange
        self._waiting = waiting
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()  # nearly all calls are answered before it rings
        self._timer = loop.call_later(self._every_s, self._look)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._timer is not None
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _look(self) -> None:
        if self._waiting.lives():
            self._task = asyncio.create_task(self._beat())
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(min(LOOK_S, self._every_s), self._look)

    async def _beat(self) -> None:
        self._exchange.tell = partial(error_event, self._exchange.path)
        await self._exchange.start(200, [EVENT_STREAM, *self._waiting.early_headers()])
        while True:
            await self._exchange.part(COMMENT)
            await asyncio.sleep(self._every_s)
