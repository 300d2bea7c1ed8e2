"""One answer of a provider's while it arrives, taken as it comes or at its reader's pace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router.net.connection import Connection

Header = tuple[bytes, bytes]
Take = Callable[[bytes], bool]
"""Is given what has arrived; returns whether it takes more at once."""


class Answer:
    """One answer while it arrives: status, headers, then the body by `async for`, or by `pour`."""

    __slots__ = (
        "_connection",
        "_ended",
        "_error",
        "_take",
        "_waiter",
        "chunks",
        "headers",
        "n_unread",
        "pump",
        "status",
    )

    def __init__(self, connection: Connection) -> None:
        self.status = 0  # until the head is there
        self.headers: list[Header] = []  # names in lower case
        self.chunks: list[bytes] = []
        self.n_unread = 0
        self.pump: asyncio.Task[None] | None = None  # sends what is asked, while it does
        self._connection: Connection | None = connection
        self._waiter: asyncio.Future[bool] | None = None
        self._take: Take | None = None  # what arrives goes there, without a turn of the loop
        self._ended = False
        self._error: Exception | None = None

    def __aiter__(self) -> Answer:
        return self

    async def __anext__(self) -> bytes:
        """Return all that has arrived since the last time.

        Raises:
            httpx.RemoteProtocolError: the connection broke, or what came is no HTTP.
            Whatever went wrong with the body of the request.
        """
        while not self.chunks:
            if self._has_ended():
                raise StopAsyncIteration
            await self._news()
        return self.taken()

    async def pour(self, take: Take) -> bool:
        """Have `take` given what arrives, the moment it does, as long as it takes more.

        Returns:
            whether the answer came to its end.

        Raises:
            as `anext` does, and what `take` raises.
        """
        wants = True
        while wants:
            if self.chunks:
                wants = take(self.taken())
            elif self._has_ended():
                return True
            else:
                self._take = take
                try:
                    wants = await self._news()
                finally:
                    self._take = None
        return False

    def rest(self) -> bytes | None:
        """Return all that was not read yet, where the end has arrived; None: it has not."""
        if not self._ended or self._error is not None:
            return None
        chunks, self.chunks, self.n_unread = self.chunks, [], 0
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def head(self) -> Answer:
        """Return this answer with its status and headers; whoever waits no more gives it up.

        Raises:
            httpx.RemoteProtocolError: the connection broke before, or what came is no HTTP.
            Whatever went wrong with the body of the request.
        """
        try:
            while not self.status:
                if self._error is not None:
                    raise self._error
                assert self._connection is not None
                self._waiter = self._connection.loop.create_future()
                await self._waiter
        except BaseException:
            await self.aclose()
            raise
        self._waiter = None
        return self

    async def aclose(self) -> None:
        """Give the answer up; closes the connection unless the answer is whole."""
        if self._connection is not None:
            self._connection.abort()

    def end(self, error: Exception | None = None) -> None:
        """The answer is whole, or will never be; the connection is no longer its own."""
        self._connection = None
        if self.pump is not None:
            self.pump.cancel()
            self.pump = None
        self._ended, self._error = True, error
        self.wake()

    def wake(self) -> None:
        """There is news for whoever waits."""
        waiter, wants = self._waiter, True
        if waiter is None or waiter.done():
            return
        if self._take is not None and self.chunks:
            try:
                wants = self._take(self.taken())
            except Exception as error:
                waiter.set_exception(error)
                return
            if wants and not self._ended:
                return
        waiter.set_result(wants)

    def taken(self) -> bytes:
        """Return all that has arrived since the last time; asked where something has."""
        chunks, self.chunks, self.n_unread = self.chunks, [], 0
        connection = self._connection
        if connection is not None and connection.is_paused:
            connection.resume()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _has_ended(self) -> bool:
        if self._ended and self._error is not None:
            raise self._error
        return self._ended

    async def _news(self) -> bool:
        assert self._connection is not None
        self._waiter = self._connection.loop.create_future()
        try:
            return await self._waiter
        finally:
            self._waiter = None
