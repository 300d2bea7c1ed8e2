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
    return _told(_error_in(said), status, from_, to)


def error_instead(body: bytes, from_: Dialect, to: Dialect) -> tuple[int, bytes] | None:
    """Return what a body says that came in the place of an answer; None where it says nothing.

    Providers send it under status 200, which no client takes for an error: so here it has the
    status that its type or code stands for, else 502.
    """
    said: Any = decode(_ANY, body)
    error = _error_in_choice(said) or _error_in(said)
    if not _message(error):
        return None
    status = _status_of(error)
    return status, _told(error, status, from_, to)


def translated_error(data: bytes, from_: Dialect, to: Dialect, *, number: int) -> bytes:
    """Return an error inside a stream as the event that the caller's dialect has for it.

    Args:
        number: of the event, where events are numbered.
    """
    status = _status_of(_error_in(decode(_ANY, data)))
    refusal = translated_refusal(status, data, from_, to)
    return refusal_event(f"/v1/{to}", refusal, number=number)


def _told(error: dict[str, Any], status: int, from_: Dialect, to: Dialect) -> bytes:
    param = error.get("param")
    return error_body(
        _message(error) or f"the endpoint answered with status {status} and says no more",
        code=_code(error, from_),
        param=param if isinstance(param, str) else None,
        status=status,
        dialect=to,
    )


def _status_of(error: dict[str, Any]) -> int:
    """Return the status that an error would have had as an answer of its own."""
    for said in (error.get("code"), error.get("type")):
        if isinstance(said, int) and 400 <= said < 600:
            return said
        if isinstance(said, str) and said in STATUSES:
            return STATUSES[said]
    return IN_BAND


def _error_in_choice(said: Any) -> dict[str, Any]:
    """Return the error that stands in the place of what a chat would say; empty: there is none."""
    choices = said.get("choices") if isinstance(said, dict) else None
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and choice.get("error"):
            return _error_in(choice)
    return {}


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
