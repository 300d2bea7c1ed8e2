"""What an endpoint says that it takes and has left, in the headers of its answers. Pure.

`x-ratelimit-remaining-requests`, `x-ratelimit-reset-tokens` and their like, and Anthropic's
`anthropic-ratelimit-requests-remaining`. A reset is a span ("6m0s", "20ms", "1.5"), an epoch in
seconds or milliseconds, or a date (RFC 3339).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import Struct

MARK = b"ratelimit-"
MAX_KINDS = 8
"""Requests and tokens, in and out; more than that is not kept."""
LEAST_EPOCH_S, LEAST_EPOCH_MS = 1e9, 1e12
"""No span is that long, so such a number is a time."""
_SPAN = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d*\.?\d+)s)?(?:(\d*\.?\d+)ms)?")
_UNITS_S = (86_400.0, 3600.0, 60.0, 1.0, 0.001)
_KIND = re.compile(r"[a-z-]{0,32}")


RateHeaders = Sequence[tuple[bytes, bytes]]
"""The headers of an answer that tell of limits; names in lower case."""


class Headroom(Struct, frozen=True):
    """What is left, by kind (`requests`, `tokens`), and for how long nothing is."""

    left: dict[str, float] = {}
    empty_for_s: float = 0.0
    most: dict[str, float] = {}  # of its limits
    resets_s: dict[str, float] = {}  # from now


def rate_headers(headers: RateHeaders) -> RateHeaders:
    """Return those of an answer's headers that tell of limits."""
    return [header for header in headers if MARK in header[0]]


def may_be_empty(headers: RateHeaders) -> bool:
    """Return whether it is worth reading whether nothing is left."""
    return any(value.startswith(b"0") for _, value in headers)


def read_headroom(headers: RateHeaders, *, now_s: float) -> Headroom:
    """Return what an answer says is left; of what it does not tell there is nothing in it.

    Args:
        now_s: epoch seconds, against which a date is held.
    """
    left: dict[str, float] = {}
    resets: dict[str, float] = {}
    most: dict[str, float] = {}
    for name, value in headers:
        said, text = name.partition(MARK)[2].decode("latin-1"), value.decode("latin-1")
        if "remaining" in said:
            _note(left, said.replace("remaining", ""), _number(text))
        elif "reset" in said:
            _note(resets, said.replace("reset", ""), _seconds_until(text.strip(), now_s))
        elif "limit" in said:
            _note(most, said.replace("limit", ""), _number(text))
    waits = [resets[kind] for kind, n in left.items() if n == 0 and kind in resets]
    return Headroom(left, max(waits, default=0.0), most, resets)


def _note(by_kind: dict[str, float], name: str, value: float | None) -> None:
    kind = name.strip("-") or "requests"
    if value is not None and value >= 0 and len(by_kind) < MAX_KINDS and _KIND.fullmatch(kind):
        by_kind[kind] = value


def _seconds_until(text: str, now_s: float) -> float | None:
    number = _number(text)
    if number is not None:
        if number >= LEAST_EPOCH_S:
            number = number / (1000 if number >= LEAST_EPOCH_MS else 1) - now_s
        return max(number, 0.0)
    span = _SPAN.fullmatch(text)
    if span is not None and text:
        parts = zip(span.groups(), _UNITS_S, strict=True)
        return sum(float(part) * unit_s for part, unit_s in parts if part)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max(at.timestamp() - now_s, 0.0)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
