"""JSON read so that it can be said again: nothing is rounded away, doubled or halved."""

from __future__ import annotations

import json
import math
from typing import Any

FRAMES = 48
"""How much deeper than here what was read is said again, and then some: how far it may be nested
depends on the calls under way, and what is refused for it is refused before anything is sent."""
MOST_DIGITS = 4300
"""Digits of a whole number that are read: beyond them the time that it takes grows fast."""


def decoded(text: str) -> Any:
    """Return what JSON says: whole numbers of any size, and no key twice in one object.

    Raises:
        ValueError: it is no JSON, or says what cannot be said again.
        RecursionError: it is nested too deeply.
    """
    value = _with_room(text, FRAMES)
    if "\\ud" in text or "\\uD" in text:  # escapes may leave half of a character
        try:
            encoded(value).encode()
        except UnicodeEncodeError:
            raise ValueError("it holds half of a character") from None
    return value


def _with_room(text: str, frames: int) -> Any:
    """Return what is read of a text that can be said again `frames` calls further in."""
    if frames:
        return _with_room(text, frames - 1)
    return json.loads(
        text,
        object_pairs_hook=_object,
        parse_float=_number,
        parse_int=_whole_number,
        parse_constant=_no_constant,
    )


def encoded(value: Any) -> str:
    """Return a value as JSON, in as few characters as it takes."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is beyond what a number can be")
    return value


def _whole_number(text: str) -> int:
    if len(text.lstrip("-")) > MOST_DIGITS:
        raise ValueError(f"a number of more than {MOST_DIGITS} digits")
    return int(text)


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")
