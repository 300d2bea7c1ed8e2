"""One request of a client and the way back to it, on raw ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

import msgspec

from router.net.bodies import BodyBudget, RequestBody
from router.net.codings import codings_of

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]
Whole = Callable[[int, Sequence[Header], bytes], bool]
"""Writes a whole answer at once; returns whether that was possible."""
Part = Callable[[bytes], bool]
"""Writes a piece of an answer at once; returns whether that was possible."""
Tell = Callable[[str, str], bytes | None]
"""Returns the event that says an error (code, message); None where none can be said now."""

JSON: Header = (b"content-type", b"application/json")
LINE = "pointsman.line"
"""The one key of ours in a scope: the request's `ClientLine`, put there by the protocol."""


class ClientLine:
    """What the protocol offers a request beyond ASGI; it belongs to that request alone."""

    __slots__ = ("cut", "gone", "part", "whole")

    def __init__(
        self,
        whole: Whole | None = None,
        cut: Callable[[], None] | None = None,
        part: Part | None = None,
    ) -> None:
        self.whole = whole
        self.part = part
        self.cut = cut  # closes the connection, its answer unfinished
        self.gone: Callable[[], None] | None = None  # called when the client closes the connection

    def release(self) -> None:
        """Let go of the request: what holds itself waits for the collector."""
        self.whole = self.gone = self.cut = self.part = None


class Exchange:
    """One request and its answer."""

    __slots__ = (
        "_body",
        "_budget",
        "_receive",
        "_send",
        "headers",
        "line",
        "n_parts",
        "path",
        "raw_headers",
        "scope",
        "started",
        "stopped",
        "task",
        "tell",
    )

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, budget: BodyBudget | None = None
    ) -> None:
        self.scope = scope
        self.raw_headers: list[Header] = scope["headers"]  # in order, repeated ones too
        self.headers: Mapping[bytes, bytes] = dict(self.raw_headers)
        self.line: ClientLine = scope.get(LINE) or ClientLine()
        self.path = str(scope["path"])  # as everybody decides by it
        self.started = False  # the head of the answer has left
        self.n_parts = 0  # of an answer that comes in pieces: those that have left
        self.tell: Tell | None = None  # says an error inside an answer that has begun
        self.task: Any = asyncio.current_task()
        self.stopped = False
        self._receive = receive
        self._send = send
        self._budget = budget
        self._body: RequestBody | None = None

    @property
    def method(self) -> str:
        """The method."""
        return str(self.scope["method"])

    @property
    def raw_path(self) -> bytes:
        """The path as it came."""
        return bytes(self.scope["raw_path"])

    @property
    def query(self) -> bytes:
        """What follows the question mark."""
        return bytes(self.scope.get("query_string", b""))

    def reading(self, *, limit: int) -> RequestBody:
        """Return the request's body, of which nothing is read yet; asked for once.

        Raises:
            RequestRejected: in a coding that we do not know.
        """
        declared, budget = self.headers.get(b"content-length", b""), self._budget
        body = self._body = RequestBody(
            self._receive,
            budget or BodyBudget(limit),
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
        """The request is answered, or given up."""
        self.line.release()
        if self._body is not None:
            self._body.release()

    async def respond(
        self, status: int, body: bytes, headers: Sequence[Header] | None = None
    ) -> None:
        """Send a whole answer, in one write where that is possible."""
        head = [JSON] if headers is None else headers
        whole = self.line.whole
        self.started = True
        if whole is not None and whole(status, head, body):
            return
        length = (b"content-length", str(len(body)).encode())
        await self.start(status, [*head, length])
        await self._send({"type": "http.response.body", "body": body})

    async def respond_json(self, status: int, value: object) -> None:
        """Send a value as JSON."""
        await self.respond(status, msgspec.json.encode(value))

    async def start(self, status: int, headers: Sequence[Header]) -> None:
        """Begin an answer that comes in pieces."""
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def part(self, data: bytes) -> None:
        """Send a piece."""
        if data:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
            self.n_parts += 1

    def part_now(self, data: bytes) -> bool:
        """Send a piece at once; return False where that cannot be: then `part` is to wait."""
        if not data:
            return True
        part = self.line.part
        if part is None or not part(data):
            return False
        self.n_parts += 1
        return True

    async def end(self, data: bytes = b"") -> None:
        """Send the last piece."""
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    def stop(self) -> None:
        """End it early, once: its task is cancelled, and may still say why."""
        if not self.stopped:
            self.stopped = True
            self.task.cancel()

    def cut(self) -> None:
        """Close the connection: all that is left to say where an answer has begun."""
        if self.line.cut is not None:
            self.line.cut()


class DisconnectGuard:
    """Cancels the task at hand when its client closes the connection."""

    def __init__(self, line: ClientLine) -> None:
        self.client_gone = False
        self._line = line
        self._task: Any = asyncio.current_task()
        line.gone = self._gone

    def _gone(self) -> None:
        self.client_gone = True
        self._task.cancel()

    def finish(self) -> None:
        """The answer is complete: from now on the client may go."""
        self._line.gone = None

    def forgive(self) -> None:
        """The cancellation was ours, and is dealt with."""
        self._task.uncancel()
