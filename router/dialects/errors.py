"""Errors as clients of each dialect read them."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec

from router.errors import STATUS, AllEndpointsFailed, DispatchError, NoCandidates, RequestRejected
from router.net.asgi import JSON, Exchange, Header


async def respond_error(exchange: Exchange, error: RequestRejected | DispatchError) -> None:
    """Send an error in OpenAI's shape; SDKs are told not to multiply our retries by theirs."""
    more: dict[str, Any] = {}
    param = None
    headers: list[Header] = [JSON, (b"x-should-retry", b"false")]
    if isinstance(error, RequestRejected):
        param, more = error.param, dict(error.details)
    elif isinstance(error, NoCandidates):
        more = {"exclusions": error.reasons}
    elif isinstance(error, AllEndpointsFailed):
        more = {"attempts": [{"endpoint": e, "failure": f} for e, f in error.attempts]}
    body = error_body(str(error), code=error.code, param=param, status=error.status, **more)
    with contextlib.suppress(ConnectionError):
        await exchange.respond(STATUS[error.code], body, headers)


def error_body(message: str, *, code: str, param: str | None, status: int, **more: Any) -> bytes:
    """Return an error in OpenAI's shape."""
    kind = "invalid_request_error" if status < 500 else "api_error"
    error = {"message": message, "type": kind, "param": param, "code": code, **more}
    return msgspec.json.encode({"error": error})
