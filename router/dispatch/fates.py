"""What becomes of a call that an endpoint turned down: the one table of refusals.

A status alone says too little: a 400 may be about the request, or about this endpoint only, and a
403 may be a verdict on the content, around which nobody is routed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct

from router.net.exchange import Header
from telemetry.events import Result


class Fate(StrEnum):
    """What a refusal is about."""

    MOMENT = "moment"  # may well work in a moment: here again, or at the next endpoint
    ENDPOINT = "endpoint"  # its key, its model or its address: the next endpoint
    FIT = "fit"  # of this request to this endpoint: another may take it at once
    CONTEXT = "context"  # the same, and only one with more room may
    REQUEST = "request"  # the request itself: passed on
    VERDICT = "verdict"  # on its content: passed on, and nobody is routed around it


class Refusal(Struct, frozen=True):
    """A refusal as it was read."""

    fate: Fate
    result: Result
    code: str  # the provider's own, where it gave one
    parameter: str = ""  # which field does not fit, or a place within it; "" where that is not said
    of_value: bool = False  # only what the field holds does not fit
    lacks_model: bool = False  # there is no such model there


class ThoughtsRefused(Exception):
    """An endpoint turns down thoughts that it may not have made: it is asked without them."""


MISCONFIGURED = frozenset({401, 402, 403, 404})
"""Under our key: it is wrong, has no credit, may not, or names a model that is not there."""
MOMENTARY = frozenset({408, 425, 429})
NEVER_FITS = frozenset({400, 404, 413, 422})
"""Statuses under which providers say that a request does not fit."""
MODERATION = re.compile(
    r"moderation|content[ _-]?(policy|filter|management|safety)|responsibleai|flagged|guardrail"
    r"|safety[ _](system|policy|filter|settings|check)|(usage|content) (guidelines|polic(y|ies))",
    re.I,
)
CONTEXT = re.compile(
    r"context[ _](length|window|size|limit)|maximum context|(prompt|input) is too long"
    r"|too many (input )?tokens|reduce the length|exceeds? the (model'?s? )?(maximum|context)"
    r"|max_new_tokens\W? must be",
    re.I,
)
UNSUPPORTED = re.compile(
    r"unsupported[ _](parameter|value|param)|does(n't| not) support|(is|argument) not supported"
    r"|is unsupported|unrecognized (request )?argument|unknown (parameter|argument|name)"
    r"|(extra inputs|additional properties) are not (permitted|allowed)",
    re.I,
)
NO_SUCH_MODEL = re.compile(
    r"model[ _]not[ _]found|model .{0,80}does not exist|model not exist|not a valid model", re.I
)
_NAME = r"[A-Za-z_][\w.\[\]]{0,63}"
NAMED = re.compile(
    r"(?:unsupported|unknown|unrecognized)[ _](?:request[ _])?"
    r"(?:parameter|value|param|argument|name)s?"
    rf"(?: supplied)?:? *['\"`]?(?P<told>{_NAME})"
    rf"|['\"`](?P<subject>{_NAME})['\"`] (?:parameter )?"
    r"(?:is not supported|is unsupported|does(?:n't| not) support(?P<value> .))"
    rf"|does(?:n't| not) support (?:the )?(?:parameter )?['\"`](?P<object>{_NAME})['\"`]"
    rf"|does(?:n't| not) support parameter (?P<bare>{_NAME}?)\.?(?:\s|$)"
    rf"|argument not supported on this model: (?P<argument>{_NAME})"
    rf"|(?P<extra>{_NAME}): extra inputs are not permitted"
    rf"|extra inputs are not permitted, field: '(?P<field>{_NAME})'",
    re.I,
)
"""Where a message names the field that does not fit."""
MAX_NAMED = 2048
"""Of a message, in which a field's name is looked for."""
_THING = (
    r"(?:file|item|prompt|container|response|conversation|message|thread|skill|vector[ _]store)"
)
LIES_THERE = re.compile(
    rf"\b{_THING}s?\b[^.]{{0,120}}(not found|does ?n[o']t exist|could not be found)"
    rf"|(no such|not found:?|unknown) {_THING}\b",
    re.I,
)
"""Something that the request names does not lie there: it may at another."""
LIES_THERE_CODES = frozenset({"thread_not_found", "previous_response_not_found"})
NONE_THERE_CAN = re.compile(r"no (?:endpoints|providers) found that (?:support|can)\b", re.I)
"""An aggregator has the model, and nobody behind it takes what the request asks for."""
NO_CREDIT = re.compile(
    r"credit balance is too low|reached your (specified )?(api )?usage limit"
    r"|insufficient (credits?|funds|balance)",
    re.I,
)
"""What is a 402 by its words: Anthropic says so with a 400."""
FOREIGN_THOUGHT = re.compile(
    r"invalid_encrypted_content|encrypted content .{0,200}could not be (verified|decrypted|parsed)"
    r"|invalid .?(signature|data).? in .?(redacted_)?thinking.? block|\.thinking\.signature\b"
    r"|thinking.{0,40} blocks? .{0,80}cannot be modified|thought[_ ]?signature"
    r"|\brs_\w+.{0,20} not found|without its required .?reasoning.? item",
    re.I | re.S,
)
"""What a model thought is not the endpoint's own, by what it is signed or encrypted with."""
LACKING_THOUGHT = re.compile(
    r"missing a .?thought[_ ]?signature|expected .?thinking.? or .?redacted_thinking.?, but found",
    re.I,
)
"""What led to calls of tools is not there: whoever thought it may go on from there."""
THOUGHTS_REFUSED = frozenset({400, 404, 422})
MODEL_CODES = frozenset({"model_not_found"})
UNSUITED_CODES = MODEL_CODES | {"unsupported_parameter", "unsupported_value", "unknown_parameter"}
PLAIN_TO_TLS = re.compile(r"HTTP request( was sent)? to (an )?HTTPS (port|server)", re.I)
"""What servers say to who speaks without TLS to a port of TLS: it is about our address."""
CONTEXT_CODES = frozenset({"context_length_exceeded", "string_above_max_length"})
LONGEST_PAUSE_S = 60.0
SILENT_S = 10.0
"""Not even a head after this: twice as long as the shortest learnt wait for a first token."""
MAX_READ = 64 << 10
"""Of an error's body; what is said further back is not looked for."""


def read_refusal(status: int, body: bytes, *, client_auth: bool) -> Refusal:
    """Return what a status other than 200 is about.

    Args:
        client_auth: the call went out under the caller's own key: then whether that may, or has
            credit, is between the two of them.
    """
    code, text, param = _said(body[:MAX_READ])
    if status in MOMENTARY or status >= 500:
        result = {429: Result.RATE_LIMIT, 408: Result.TIMEOUT}.get(status, Result.SERVER)
        return Refusal(Fate.MOMENT, result, code)
    if 300 <= status < 400:
        return Refusal(Fate.ENDPOINT, Result.BAD_REPLY, code)
    if status == 400 and PLAIN_TO_TLS.search(text):
        return Refusal(Fate.ENDPOINT, Result.REFUSED, "")
    if code not in UNSUITED_CODES | CONTEXT_CODES and MODERATION.search(f"{code} {text}"):
        return Refusal(Fate.VERDICT, Result.CLIENT_ERROR, code)
    if status in MISCONFIGURED:
        if client_auth:
            return Refusal(Fate.REQUEST, Result.CLIENT_ERROR, code)
        is_of_this = code in LIES_THERE_CODES or LIES_THERE.search(text)
        is_of_this = is_of_this or NONE_THERE_CAN.search(text)
        if status == 404 and not _lacks_model(code, text) and is_of_this:
            return Refusal(Fate.FIT, Result.CLIENT_ERROR, code)
        return Refusal(Fate.ENDPOINT, Result.REFUSED, code)
    if status == 400 and not client_auth and NO_CREDIT.search(text):
        return Refusal(Fate.ENDPOINT, Result.REFUSED, code)
    if status in NEVER_FITS and not client_auth and _lacks_model(code, text):
        return Refusal(Fate.ENDPOINT, Result.REFUSED, code, lacks_model=True)
    if status in NEVER_FITS:
        if code in CONTEXT_CODES or CONTEXT.search(text):
            return Refusal(Fate.CONTEXT, Result.CLIENT_ERROR, code)
        if code in UNSUITED_CODES or UNSUPPORTED.search(text) or _lacks_model(code, text):
            parameter, of_value = _unfit(code, text, param)
            return Refusal(Fate.FIT, Result.CLIENT_ERROR, code, parameter, of_value)
        if LACKING_THOUGHT.search(text):
            return Refusal(Fate.FIT, Result.CLIENT_ERROR, code)
    return Refusal(Fate.REQUEST, Result.CLIENT_ERROR, code)


def said_of_endpoint(result: Result, *, client_auth: bool, silent_s: float) -> Result:
    """Return what a result says of its endpoint: a limit of a caller's own key is nobody else's.

    Args:
        silent_s: how long nothing at all had come. Who was overtaken may only have been slow.
    """
    if result is Result.OVERTAKEN:
        return Result.TIMEOUT if silent_s >= SILENT_S else Result.CLIENT_GONE
    return Result.CLIENT_ERROR if client_auth and result is Result.RATE_LIMIT else result


def is_about_stream_options(status: int, body: bytes) -> bool:
    """Return whether an endpoint may turn down that it was asked for the usage of a stream.

    It names the field, or says that some field is one too many and not which.
    """
    said = body[:MAX_READ]
    if b"stream_options" in said or b"include_usage" in said:
        return status in (400, 404, 422, 500, 501)
    found = read_refusal(status, body, client_auth=False)
    return status in (400, 422) and found.fate is Fate.FIT and not found.parameter


def is_about_thoughts(status: int, body: bytes) -> bool:
    """Return whether an endpoint turns down a thought that only its maker can check.

    Gateways put the words of whoever they asked anywhere in their own.
    """
    if status not in THOUGHTS_REFUSED:
        return False
    said = body[:MAX_READ].decode("utf-8", "replace")
    return bool(FOREIGN_THOUGHT.search(said)) and not LACKING_THOUGHT.search(said)


def retry_after_s(headers: Sequence[Header], *, now_s: float) -> float | None:
    """Return the pause that a provider asks for, within reason; None where it asks for none.

    Args:
        now_s: epoch seconds, against which a date is held.

    Ref: RFC 9110, section 10.2.3: seconds, or a date in one of three forms.
    """
    found = {name.lower(): value.decode("latin-1") for name, value in reversed(headers)}
    pause_s = _number(found.get(b"retry-after-ms", ""))
    if pause_s is not None:
        pause_s /= 1000
    elif (text := found.get(b"retry-after", "")) and (pause_s := _number(text)) is None:
        pause_s = _until(text, now_s)
    return None if pause_s is None else min(max(pause_s, 0.0), LONGEST_PAUSE_S)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return None if math.isnan(number) else number


def _until(date: str, now_s: float) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() - now_s
    except (ValueError, TypeError, OverflowError):
        return None


def _lacks_model(code: str, text: str) -> bool:
    return code in MODEL_CODES or bool(NO_SUCH_MODEL.search(text[:MAX_NAMED]))


def _unfit(code: str, text: str, param: str) -> tuple[str, bool]:
    """Return which field does not fit, "" where that is not said, and whether its value only."""
    if _lacks_model(code, text):
        return "", False  # under another key it may be there
    named = NAMED.search(text[:MAX_NAMED])
    of_value = code == "unsupported_value" or "unsupported value" in text.lower()
    if named is None:
        return param, of_value
    return param or str(named[named.lastgroup or 0]), of_value or named["value"] is not None


def _said(body: bytes) -> tuple[str, str, str]:
    """Return code, text and parameter of an error, whichever of the usual shapes it has."""
    try:
        value: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return "", body.decode("utf-8", "replace"), ""
    while isinstance(value, list) and value:  # Google's
        value = value[0]
    error = value.get("error", value) if isinstance(value, dict) else value
    if not isinstance(error, dict):
        return "", str(error), ""
    inner, details = error.get("innererror"), error.get("details")
    told = details.get("error_code") if isinstance(details, dict) else None  # Anthropic's
    code = error.get("code") or told or error.get("type") or ""
    texts = [error.get("message"), error.get("detail"), error.get("type"), error.get("status")]
    texts += [inner.get("code")] if isinstance(inner, dict) else []
    param = error.get("param") or _place(error.get("detail"))
    text = " ".join(str(text) for text in texts if text)
    return str(code), text, param if isinstance(param, str) else ""


def _place(detail: Any) -> str:
    """Return the field that a list of problems names, as FastAPI writes them."""
    first = detail[0] if isinstance(detail, list) and detail else None
    place = first.get("loc") if isinstance(first, dict) else None
    named = [part for part in place or () if isinstance(part, str) and part != "body"]
    return named[0] if named else ""
