"""HTTP in and out, on raw ASGI: bodies with limits, and answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import msgspec

from router.errors import RequestRejected

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

JSON: Header = (b"content-type", b"application/json")


class ClientGone(Exception):
    """The client closed the connection before its request was whole."""


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], *, limit: int) -> bytes:
    """Return the request's body; the protocol sees to it that it comes in time.

    Raises:
        RequestRejected: larger than `limit` bytes.
        ClientGone: the client left.
    """
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(int(declared), limit)
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(size, limit)
        parts.append(part)
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(size: int, limit: int) -> RequestRejected:
    return RequestRejected(
        "body_too_large", f"the body has {size} bytes, {limit} is the limit (server.max_body_bytes)"
    )


async def respond(
    send: Send, status: int, body: bytes, headers: list[Header] | None = None
) -> None:
    """Send a whole answer."""
    head = [*(headers or [JSON]), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


async def respond_json(
    send: Send, status: int, value: object, headers: list[Header] | None = None
) -> None:
    """Send a value as JSON."""
    await respond(send, status, msgspec.json.encode(value), [JSON, *(headers or [])])
