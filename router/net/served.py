"""An exchange on a connection of ours: its body as it arrives, its answer as it leaves.

Whatever is written of an answer is written once, a chunk too. A head in which anything could be
read as more than one answer is never written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import Protocol

from router.net.bodies import BodyBudget, ClientGone
from router.net.exchange import JSON, Exchange, Header

MAX_ARRIVED_BYTES = 64 << 10
"""More of a body than this is not read on until somebody takes it."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
STATUS_LINE = {code: b"HTTP/1.1 %d " % code for code in range(200, 1000)} | {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}".encode()
    for status in HTTPStatus
    if status >= 200
}
COLON = b": "
BODILESS = (204, 304)


class ClientLine(Protocol):
    """What an exchange needs of its connection."""

    loop: asyncio.AbstractEventLoop
    is_gone: bool  # nobody reads what is written any more
    writable: asyncio.Event | None  # is set once the client reads on; None: it does

    def write(self, data: bytes) -> None:
        """Send."""

    def resume_reading(self) -> None:
        """Read on, where reading was paused."""

    def answered(self, exchange: ServedExchange) -> None:
        """An answer has left to its end."""

    def cut(self) -> None:
        """Close the connection, its answer unfinished."""


class ServedExchange(Exchange):
    """An exchange on a connection."""

    __slots__ = (
        "_arrived",
        "_is_chunked",
        "_left",
        "_n_held",
        "_waiter",
        "_way",
        "complete",
        "expects_continue",
        "in_chunks",
        "is_whole",
        "n_arrived",
    )

    def __init__(
        self,
        way: ClientLine,
        method: str,
        raw_path: bytes,
        query: bytes,
        headers: list[Header],
        budget: BodyBudget | None,
    ) -> None:
        super().__init__(method, raw_path, query, headers, budget)
        self.in_chunks = True  # whether the client can read chunks
        self.expects_continue = b"expect" in self.headers and (
            self.headers[b"expect"].lower() == b"100-continue"
        )
        self.is_whole = False  # all of its body has arrived
        self.complete = False  # all of its answer has left
        self.n_arrived = 0  # bytes that nobody has taken
        self._way = way
        self._arrived: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._n_held = 0
        self._is_chunked = False
        self._left = 0  # bytes of the answer that its length still announces

    # -- what is asked ----------------------------------------------------------------------

    async def receive(self) -> tuple[bytes, bool]:
        """Return what has arrived; see `Exchange`."""
        way = self._way
        if self.expects_continue:
            self.expects_continue = False
            if not self.is_whole and not self.started:
                way.write(CONTINUE)
        while not (self._arrived or self.is_whole or way.is_gone or self.complete):
            way.resume_reading()
            self._waiter = way.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if way.is_gone or self.complete:
            raise ClientGone
        return self._taken(), not self.is_whole

    async def body(self, *, limit: int) -> bytes:
        """Return the body; see `Exchange`. Most often it is here, as it is."""
        headers, budget = self.headers, self._budget
        if (
            self.is_whole
            and self.n_arrived <= limit
            and budget is not None
            and b"content-encoding" not in headers
            and b"transfer-encoding" not in headers
            and not self._way.is_gone
        ):
            budget.take(self.n_arrived)
            self._n_held = self.n_arrived
            return self._taken()
        return await super().body(limit=limit)

    def release(self) -> None:
        """See `Exchange`."""
        if self._n_held:
            assert self._budget is not None
            self._budget.held -= self._n_held
            self._n_held = 0
        self.gone = self.tell = None
        if self._body is not None:
            super().release()

    def arrive(self, data: bytes) -> None:
        """Keep a piece of the body."""
        self._arrived.append(data)
        self.n_arrived += len(data)
        if self._waiter is not None:
            self.wake()

    def end_body(self) -> None:
        """All of the body has arrived."""
        self.is_whole = True
        if self._waiter is not None:
            self.wake()

    def wake(self) -> None:
        """There is news for whoever waits."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _taken(self) -> bytes:
        parts, self._arrived, self.n_arrived = self._arrived, [], 0
        return parts[0] if len(parts) == 1 else b"".join(parts)

    # -- what is answered -------------------------------------------------------------------

    async def respond(
        self, status: int, body: bytes, headers: Sequence[Header] | None = None
    ) -> None:
        """Send a whole answer in one write."""
        head = self._head(status, [JSON] if headers is None else headers)
        way = self._way
        if way.writable is not None:
            await way.writable.wait()
        self.started = True
        if way.is_gone:
            return
        length = b"content-length: %d\r\n\r\n" % len(body)
        way.write(b"".join((head, length, b"" if self.method == "HEAD" else body)))
        self.complete = True
        way.answered(self)

    async def start(self, status: int, headers: Sequence[Header], first: bytes = b"") -> None:
        """Begin an answer that comes in pieces; its length is counted, or it is chunked."""
        head = self._head(status, headers)
        framing = next((h for h in headers if h[0] == b"content-length"), None)
        self._is_chunked = False
        if self.method == "HEAD" or status in BODILESS:
            self._left = 0
        elif framing is not None:
            self._left = int(framing[1])
        elif self.in_chunks:
            self._is_chunked = True
            head += b"transfer-encoding: chunked\r\n"
        else:  # its end is that of the connection
            self._left = -1
        way = self._way
        if way.writable is not None:
            await way.writable.wait()
        self.started = True
        if first:
            self.n_parts += 1
        if way.is_gone:
            return
        if first and self._is_chunked:  # in one write: a client is woken once for both
            way.write(b"%b\r\n%x\r\n%b\r\n" % (head, len(first), first))
            return
        way.write(head + b"\r\n")
        if first:
            self._write(first, b"")

    async def part(self, data: bytes) -> None:
        """Send a piece, in one write."""
        if not data:
            return
        way = self._way
        if way.writable is not None:
            await way.writable.wait()
        if not (way.is_gone or self.complete):
            self._write(data, b"")
        self.n_parts += 1

    def part_now(self, data: bytes) -> bool:
        """Send a piece at once, in one write; False while the client does not read."""
        way = self._way
        if way.writable is not None:
            return not data
        if data:
            if not (way.is_gone or self.complete):
                if self._is_chunked:
                    way.write(b"%x\r\n%b\r\n" % (len(data), data))
                else:
                    self._write(data, b"")
            self.n_parts += 1
        return True

    async def end(self, data: bytes = b"") -> None:
        """Send the last piece, in one write."""
        way = self._way
        if way.writable is not None:
            await way.writable.wait()
        if not way.is_gone and not self.complete:
            self._write(data, b"0\r\n\r\n")
            if self._left > 0:
                raise ConnectionAbortedError("an answer is shorter than its length said")
            self.complete = True
            way.answered(self)

    def cut(self) -> None:
        """Close the connection, unless the answer is whole."""
        if not self.complete:
            self._way.cut()

    def _write(self, data: bytes, end: bytes) -> None:
        if self._is_chunked:
            chunk = b"%x\r\n%b\r\n%b" % (len(data), data, end) if data else end
            self._way.write(chunk)
        elif data and self.method != "HEAD":
            if 0 <= self._left < len(data):
                raise ConnectionAbortedError("an answer is longer than its length said")
            if self._left > 0:
                self._left -= len(data)
            self._way.write(data)

    def _head(self, status: int, headers: Sequence[Header]) -> bytes:
        """Return status line and headers, without the line that ends them."""
        if self.started:
            raise RuntimeError("an answer has begun already")
        lines = [STATUS_LINE[status], *map(COLON.join, headers)]
        if not self.keep_alive:
            lines.append(b"connection: close")
        said = b"".join(lines)
        if said.find(b"\n") >= 0 or said.find(b"\r") >= 0 or said.find(b"\0") >= 0:
            raise ValueError("a line break or NUL inside an answer's head")
        lines.append(b"")
        return b"\r\n".join(lines)
