"""JSON that strict readers refuse and most clients take: half a surrogate pair, NaN, Infinity.

Providers that cut text into pieces by UTF-16 units send the two halves of an emoji apart, and
servers in Python write NaN. It is softened for our own reading alone; what travels stays as it is.
"""

from __future__ import annotations

import json
import math
from typing import Any

from telemetry.numbers import as_written


def read_leniently(data: bytes) -> Any:
    """Return the value in `data`.

    Raises:
        ValueError: not even lenient clients read it.
    """
    try:
        return json.loads(data.decode("utf-8-sig"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_as_written(data: bytes) -> Any:
    """Return the value in `data`, where what is no number to JSON keeps the text it has.

    Raises:
        ValueError: not even lenient clients read it.
    """
    try:
        return json.loads(
            data.decode("utf-8-sig"), parse_float=as_written, parse_constant=as_written
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def softened(data: bytes) -> bytes:
    """Return the same value as strict JSON: half a pair as a question mark, no number as null.

    Raises:
        ValueError: not even lenient clients read it.
    """
    try:
        value = json.loads(
            data.decode("utf-8-sig"), parse_constant=lambda _: None, parse_float=_finite
        )
        return json.dumps(value, ensure_ascii=False).encode(errors="replace")
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def is_readable(data: bytes) -> bool:
    """Return whether the most lenient client reads it."""
    try:
        read_leniently(data)
    except ValueError:
        return False
    return True
