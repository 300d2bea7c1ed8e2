"""Errors as clients of each dialect read them."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from router.dialects.misspelt import HINTS
from router.endpoints.entries import Dialect
from router.errors import (
    STATUS,
    AllEndpointsFailed,
    BudgetAway,
    BudgetSpent,
    DispatchError,
    NoCandidates,
    RateShareSpent,
    RequestRejected,
)
from router.net.exchange import JSON, Exchange, Header
from telemetry.columns import meant
from telemetry.numbers import brief, clipped

RETRY_AFTER_S = b"1"
RETRY_WITHIN_S = 86_400
"""A budget that begins anew later than this says only when."""
MESSAGES_KINDS = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""What Anthropic calls an error of a status; of others below 500 a wrong request."""
OPENAI_KINDS = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}
"""What clients of OpenAI's dialects call it. OpenAI itself says which limit it was where its codes
do (`requests`, `tokens`); what is not found is a wrong request there, too."""


async def respond_error(
    exchange: Exchange,
    error: RequestRejected | DispatchError,
    *,
    extra: Sequence[Header] = (),
) -> None:
    """Send an error in the shape of the caller's dialect.

    What no repetition can mend says so: SDKs would otherwise multiply refusals. What passes by
    itself leaves that to them, and says after which pause.
    """
    more: dict[str, Any] = {}
    param = None
    status = STATUS[error.code]
    headers: list[Header] = [JSON, *extra]
    if status == 429:
        headers.append((b"x-should-retry", b"true"))
    elif status < 500:
        headers.append((b"x-should-retry", b"false"))
    elif status == 503:
        headers.append((b"retry-after", RETRY_AFTER_S))
    if error.code == "draining":
        exchange.keep_alive = False
    if isinstance(error, RequestRejected):
        param, more = error.param, dict(error.details)
    elif isinstance(error, NoCandidates):
        more = {"exclusions": error.reasons}
    elif isinstance(error, BudgetSpent | BudgetAway):
        more = {"budget": error.told}
        headers += _until_reset(error)
    elif isinstance(error, RateShareSpent):
        more = {"rate_share": error.told}
        headers.append((b"retry-after", b"%d" % math.ceil(error.after_s)))
    elif isinstance(error, AllEndpointsFailed):
        more = {"attempts": [{"endpoint": e, "failure": f} for e, f in error.attempts]}
    body = error_body(
        str(error),
        code=error.code,
        param=param,
        status=error.status,
        dialect=caller_dialect(exchange),
        **more,
    )
    if exchange.started:
        await exchange.end(refusal_event(exchange.path, body))
        return
    with contextlib.suppress(ConnectionError):
        await exchange.respond(status, body, headers)


def _until_reset(error: BudgetSpent | BudgetAway) -> list[Header]:
    """Return after how long a budget begins anew, where that is soon."""
    if isinstance(error, BudgetAway):
        return []  # as of everything that passes by itself
    at = datetime.fromisoformat(error.told["resets_at"])
    left_s = math.ceil((at - datetime.now(UTC)).total_seconds())
    return [(b"retry-after", b"%d" % max(left_s, 1))] if left_s <= RETRY_WITHIN_S else []


async def break_off(
    exchange: Exchange, error: RequestRejected, *, extra: Sequence[Header] = ()
) -> None:
    """End an exchange early: an answer that has begun says so in-band, if it can."""
    if not exchange.started:
        await respond_error(exchange, error, extra=extra)
        return
    event = exchange.tell(error.code, str(error)) if exchange.tell is not None else None
    if event is None:
        exchange.cut()
    else:
        await exchange.end(event)


def refused_field(error: msgspec.ValidationError, within: str = "") -> RequestRejected:
    """Return the refusal of a body by what its reader found: the field, and what it must be.

    Args:
        within: the field that was read, where it was not the whole body.
    """
    said, at, place = str(error).rpartition(" - at `$")  # names may hold anything: the last one
    said, place = (said, place.removesuffix("`").removeprefix(".")) if at else (place, "")
    missing = said.partition("missing required field `")[2].removesuffix("`")
    param = ".".join(part for part in (within, place) if part) or missing or None
    unknown = said.partition("unknown field `")[2].removesuffix("`")
    if unknown:  # only in our own object
        near = meant(unknown, HINTS)
        hint = f"did you mean {near}? known" if near else "known"
        said = f"unknown field {brief(unknown)}; {hint}: {', '.join(HINTS)}"
    code = "unknown_field" if unknown else "invalid_request"
    shown = f"{said} (in {clipped(param)})" if param else said
    return RequestRejected(code, shown, param=param)


def caller_dialect(exchange: Exchange) -> Dialect:
    """Return the dialect in which whoever asks reads lists and errors.

    Where the path does not tell, as with the list of models, Anthropic's clients do.
    """
    dialect = dialect_of(exchange.path)
    is_chat = exchange.path.startswith(f"/v1/{Dialect.CHAT}")
    if dialect is Dialect.CHAT and not is_chat and b"anthropic-version" in exchange.headers:
        return Dialect.MESSAGES
    return dialect


def dialect_of(path: str) -> Dialect:
    """Return the dialect in which whoever asks at a path reads errors."""
    if path.startswith(f"/v1/{Dialect.MESSAGES}"):
        return Dialect.MESSAGES
    if path.startswith(f"/v1/{Dialect.RESPONSES}"):
        return Dialect.RESPONSES
    if path.startswith(f"/v1/{Dialect.EMBEDDINGS}"):
        return Dialect.EMBEDDINGS
    if path.startswith(f"/v1/{Dialect.COMPLETIONS}"):
        return Dialect.COMPLETIONS
    return Dialect.CHAT


def refusal_event(path: str, body: bytes, *, number: int = 0) -> bytes:
    """Return a refusal's body as an event of a stream that has begun.

    Args:
        number: of the event, where events are numbered.
    """
    try:
        said = msgspec.json.decode(body)
    except msgspec.DecodeError:
        said = None
    error = said.get("error") if isinstance(said, dict) else None
    if not error:
        return error_event(path, "provider_error", "the provider turned the call down")
    dialect = dialect_of(path)
    if dialect is Dialect.RESPONSES and isinstance(error, dict):
        said = (error.get("code"), error.get("message"), error.get("param"))
        return _response_error(*said, number)
    body = msgspec.json.format(body, indent=-1)  # one line, whatever the provider wrote
    name = b"event: error\n" if dialect is Dialect.MESSAGES else b""
    return name + b"data: " + body + b"\n\n"


def error_event(path: str, code: str, message: str, *, number: int = 0) -> bytes:
    """Return an error as an event of a stream, in the dialect of the call's path.

    Args:
        number: of the event, where events are numbered.
    """
    dialect, status = dialect_of(path), STATUS.get(code, 502)
    if dialect is Dialect.RESPONSES:
        return _response_error(code, message, None, number)
    body = error_body(message, code=code, param=None, status=status, dialect=dialect)
    name = b"event: error\n" if dialect is Dialect.MESSAGES else b""
    return name + b"data: " + body + b"\n\n"


def _response_error(code: Any, message: Any, param: Any, number: int) -> bytes:
    """Return an error inside a response, in both forms that OpenAI has.

    Its SDKs raise the one within `error`, and hand the documented one out like any other event.
    """
    told = {"code": code, "message": message, "param": param}
    said = {"type": "error", **told, "sequence_number": number, "error": {"type": "error", **told}}
    return b"event: error\ndata: " + _encoded(said) + b"\n\n"


def error_body(
    message: str,
    *,
    code: str,
    param: str | None,
    status: int,
    dialect: Dialect = Dialect.CHAT,
    **more: Any,
) -> bytes:
    """Return an error in OpenAI's shape, or in Anthropic's."""
    if dialect is Dialect.MESSAGES:
        kind = MESSAGES_KINDS.get(status, "invalid_request_error" if status < 500 else "api_error")
        error = {"type": kind, "message": message, "param": param, "code": code, **more}
        return _encoded({"type": "error", "error": error})
    kind = OPENAI_KINDS.get(status, "invalid_request_error" if status < 500 else "api_error")
    error = {"message": message, "type": kind, "param": param, "code": code, **more}
    return _encoded({"error": error})


def _encoded(said: dict[str, Any]) -> bytes:
    """Return it in JSON; half a character that a caller wrote goes back as it was written."""
    try:
        return msgspec.json.encode(said)
    except UnicodeEncodeError:
        return json.dumps(said).encode()
