"""A provider's errors, in the caller's dialect: what they say survives as far as it can be said."""

from __future__ import annotations

from typing import Any

import msgspec

from router.dialects.errors import MESSAGES_KINDS, error_body, refusal_event
from router.endpoints.entries import Dialect
from telemetry.wire.reading import decode

SHOWN = 1000
"""Characters of an error that is no JSON; pages of proxies go on for longer."""
STATUSES = {kind: status for status, kind in MESSAGES_KINDS.items()} | {
    "invalid_request_error": 400,
    "api_error": 500,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "server_error": 500,
}
"""What an error in a stream would have had as its status, by its type or code."""
IN_BAND = 502
_ANY = msgspec.json.Decoder(Any)


def translated_refusal(status: int, body: bytes, from_: Dialect, to: Dialect) -> bytes:
    """Return a provider's error as the caller's dialect has it.

    Args:
        from_: what the endpoint speaks; its errors may still have any form.
    """
    said: Any = decode(_ANY, body)
    if said is None:  # a page, or nothing
        said = body[: SHOWN * 4].decode(errors="replace").strip()[:SHOWN]
    error = _error_in(said)
    param = error.get("param")
    return error_body(
        _message(error) or f"the endpoint answered with status {status} and says no more",
        code=_code(error, from_),
        param=param if isinstance(param, str) else None,
        status=status,
        dialect=to,
    )


def translated_error(data: bytes, from_: Dialect, to: Dialect, *, number: int) -> bytes:
    """Return an error inside a stream as the event that the caller's dialect has for it.

    Args:
        number: of the event, where events are numbered.
    """
    error = _error_in(decode(_ANY, data))
    status = IN_BAND
    for said in (error.get("code"), error.get("type")):
        if isinstance(said, int) and 400 <= said < 600:
            status = said
            break
        if isinstance(said, str) and said in STATUSES:
            status = STATUSES[said]
            break
    refusal = translated_refusal(status, data, from_, to)
    return refusal_event(f"/v1/{to}", refusal, number=number)


def _error_in(said: Any) -> dict[str, Any]:
    """Return the error, wherever it lies: under `error`, at the top, in a list of one."""
    if isinstance(said, list):
        said = said[0] if said else None
    if not isinstance(said, dict):
        return {"message": said} if isinstance(said, str) else {}
    error = said.get("error")
    if isinstance(error, dict):
        return error
    return said | {"message": error} if isinstance(error, str) and error else said


def _message(error: dict[str, Any]) -> str:
    for name in ("message", "detail", "msg"):
        said = error.get(name)
        if isinstance(said, str) and said:
            return said
        if isinstance(said, list | dict) and said:
            return msgspec.json.encode(said).decode()
    return ""


def _code(error: dict[str, Any], from_: Dialect) -> str:
    """Return an error's code; Messages has types alone, and they say as much."""
    code = error.get("code")
    if code is None and from_ is Dialect.MESSAGES:
        code = error.get("type")
    if isinstance(code, int) and not isinstance(code, bool):
        return str(code)
    return code if isinstance(code, str) and code else "provider_error"
