"""One request of a client and the way back to it, on raw ASGI: bodies with limits, answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

import msgspec

from router.errors import RequestRejected

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]
Whole = Callable[[int, Sequence[Header], bytes], bool]
"""Writes a whole answer at once; returns whether that was possible."""
Tell = Callable[[str, str], bytes | None]
"""Returns the event that says an error (code, message); None where none can be said now."""

JSON: Header = (b"content-type", b"application/json")
LINE = "pointsman.line"
"""The one key of ours in a scope: the request's `ClientLine`, put there by the protocol."""


class ClientGone(Exception):
    """The client closed the connection before its request was whole."""


class ClientLine:
    """What the protocol offers a request beyond ASGI; it belongs to that request alone."""

    __slots__ = ("cut", "gone", "whole")

    def __init__(self, whole: Whole | None = None, cut: Callable[[], None] | None = None) -> None:
        self.whole = whole
        self.cut = cut  # closes the connection, its answer unfinished
        self.gone: Callable[[], None] | None = None  # called when the client closes the connection

    def release(self) -> None:
        """Let go of the request: what holds itself waits for the collector."""
        self.whole = self.gone = self.cut = None


class Exchange:
    """One request and its answer."""

    __slots__ = (
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

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
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

    async def body(self, *, limit: int) -> bytes:
        """Return the request's body; the protocol sees to it that it comes in time.

        Raises:
            RequestRejected: larger than `limit` bytes.
            ClientGone: the client left.
        """
        declared = self.headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > limit:
            raise _too_large(int(declared), limit)
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            part = message.get("body", b"")
            size += len(part)
            if size > limit:
                raise _too_large(size, limit)
            parts.append(part)
            more = message.get("more_body", False)
        return parts[0] if len(parts) == 1 else b"".join(parts)

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


def _too_large(size: int, limit: int) -> RequestRejected:
    return RequestRejected(
        "body_too_large", f"the body has {size} bytes, {limit} is the limit (server.max_body_bytes)"
    )
