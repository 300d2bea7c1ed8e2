"""Signs of life for a client that waits for a stream which it gets whole."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import partial
from types import TracebackType

from router.dialects.errors import error_event
from router.net.asgi import Exchange, Header

EVERY_S = 5.0
"""Below the idle limits of clients and of what stands between (10 s and more)."""
COMMENT = b": waiting for the whole answer\n\n"
EVENT_STREAM: Header = (b"content-type", b"text/event-stream; charset=utf-8")


class Heartbeat:
    """Begins the answer to a client that has waited long, and says now and then that it goes on."""

    def __init__(
        self, exchange: Exchange, headers: Callable[[], list[Header]], *, client_s: float | None
    ) -> None:
        """Prepare.

        Args:
            client_s: how long the client waits between two bytes, where it says so.
        """
        self._every_s = min(EVERY_S, (client_s or math.inf) / 3)
        self._exchange = exchange
        self._headers = headers
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._beat())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _beat(self) -> None:
        await asyncio.sleep(self._every_s)
        self._exchange.tell = partial(error_event, self._exchange.path)
        await self._exchange.start(200, [EVENT_STREAM, *self._headers()])
        while True:
            await self._exchange.part(COMMENT)
            await asyncio.sleep(self._every_s)
