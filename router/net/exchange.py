"""One request of a client and the way back to it, whoever serves it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from router.net.bodies import BodyBudget, RequestBody
from router.net.codings import codings_of

Header = tuple[bytes, bytes]
Tell = Callable[[str, str], bytes | None]
"""Returns the event that says an error (code, message); None where none can be said now."""

JSON: Header = (b"content-type", b"application/json")


class Exchange(ABC):
    """One request and its answer."""

    __slots__ = (
        "_body",
        "_budget",
        "gone",
        "headers",
        "keep_alive",
        "method",
        "n_parts",
        "path",
        "query",
        "raw_headers",
        "raw_path",
        "started",
        "stopped",
        "task",
        "tell",
    )

    def __init__(
        self,
        method: str,
        raw_path: bytes,
        query: bytes,
        headers: list[Header],
        budget: BodyBudget | None = None,
    ) -> None:
        """Begin.

        Args:
            raw_path: as it came, without its query.
            query: what follows the question mark.
            headers: in order, repeated ones too; names in lower case.
            budget: of all bodies; None: this one alone has what it may have.
        """
        self.method, self.raw_path, self.query = method, raw_path, query
        self.raw_headers = headers
        self.headers: Mapping[bytes, bytes] = {name: value for name, value in headers}
        self.path = ""  # as everybody decides by it; until it is known, none
        self.keep_alive = True  # whether the client may send more on its connection
        self.started = False  # the head of the answer has left
        self.n_parts = 0  # of an answer that comes in pieces: those that have left
        self.tell: Tell | None = None  # says an error inside an answer that has begun
        self.gone: Callable[[], None] | None = None  # called when the client leaves unanswered
        self.task: Any = None  # that serves it
        self.stopped = False
        self._budget = budget
        self._body: RequestBody | None = None

    # -- what is asked ----------------------------------------------------------------------

    @abstractmethod
    async def receive(self) -> tuple[bytes, bool]:
        """Return what has arrived of the body since the last time, and whether more will.

        Raises:
            ClientGone: the client left.
        """

    def reading(self, *, limit: int) -> RequestBody:
        """Return the request's body, of which nothing is read yet; asked for once.

        Raises:
            RequestRejected: in a coding that we do not know.
        """
        declared = self.headers.get(b"content-length", b"")
        body = self._body = RequestBody(
            self.receive,
            self._budget or BodyBudget(limit),
            self._codings(),
            declared=int(declared) if declared.isdigit() else None,
            limit=limit,
        )
        return body

    def _codings(self) -> list[bytes]:
        """Return the codings of the body, and those of its transfer, which come off first."""
        headers, raw = self.headers, self.raw_headers
        codings = codings_of(raw) if b"content-encoding" in headers else []
        if b"transfer-encoding" in headers:
            codings += [c for c in codings_of(raw, of=b"transfer-encoding") if c != b"chunked"]
        return codings

    async def body(self, *, limit: int) -> bytes:
        """Return the request's body, decoded; the protocol sees to it that it comes in time.

        Raises:
            RequestRejected: larger than `limit` bytes, damaged, or more than there is room for.
            ClientGone: the client left.
        """
        return await self.reading(limit=limit).whole()

    def release(self) -> None:
        """The request is answered, or given up. What holds itself would wait for the collector."""
        self.gone = self.tell = None
        if self._body is not None:
            self._body.release()
            self._body = None

    # -- what is answered -------------------------------------------------------------------

    @abstractmethod
    async def respond(
        self, status: int, body: bytes, headers: Sequence[Header] | None = None
    ) -> None:
        """Send a whole answer; JSON, unless its headers are given."""

    async def respond_json(self, status: int, value: object) -> None:
        """Send a value as JSON."""
        await self.respond(status, msgspec.json.encode(value))

    @abstractmethod
    async def start(self, status: int, headers: Sequence[Header], first: bytes = b"") -> None:
        """Begin an answer that comes in pieces.

        Args:
            first: a piece that is there already, and leaves with the head.
        """

    @abstractmethod
    async def part(self, data: bytes) -> None:
        """Send a piece."""

    def part_now(self, data: bytes) -> bool:
        """Send a piece at once; return False where that cannot be: then `part` is to wait."""
        return not data

    @abstractmethod
    async def end(self, data: bytes = b"") -> None:
        """Send the last piece."""

    def stop(self) -> None:
        """End it early, once: its task is cancelled, and may still say why."""
        if not self.stopped:
            self.stopped = True
            self.task.cancel()

    def cut(self) -> None:  # noqa: B027 - who has no connection has nothing to cut
        """Close the connection: all that is left to say where an answer has begun."""


class DisconnectGuard:
    """Cancels the task of an exchange when its client closes the connection."""

    __slots__ = ("_exchange", "client_gone")

    def __init__(self, exchange: Exchange) -> None:
        self.client_gone = False
        self._exchange = exchange
        exchange.gone = self._gone

    def _gone(self) -> None:
        self.client_gone = True
        self._exchange.task.cancel()

    def finish(self) -> None:
        """The answer is complete: from now on the client may go."""
        self._exchange.gone = None

    def forgive(self) -> None:
        """The cancellation was ours, and is dealt with."""
        self._exchange.task.uncancel()
