"""What a scalar means: numbers as YAML 1.2 writes them, and what a field takes for what it wants.

A number is never read out of what only looks like one, and a text is never taken for true.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
"""Leading zeros mean nothing: 010 is ten. Eight is 0o10."""
FRACTION = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
NO_NUMBER = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
MAX_DIGITS = 400
"""The largest float has 309; beyond 4,300 Python itself refuses."""
MOST = 2**63
"""No field means so much: bytes, seconds and dollars all end far below."""
LEAST = 1e-12
"""Nor so little, but for 0 itself: its inverse would be no sound number."""
NUMBERS = frozenset({int, float, Decimal})
TRUE_WORDS = frozenset({"true", "yes", "on", "y", "t", "1"})
FALSE_WORDS = frozenset({"false", "no", "off", "n", "f", "0"})


def number_of(text: str) -> int | float | None:
    """Return the number that a text is in YAML 1.2, which may be infinite or NaN; None for none."""
    if NO_NUMBER.fullmatch(text):
        return float(text.replace(".", "").lower())
    if INTEGER.fullmatch(text):
        if len(text) > MAX_DIGITS:
            return -math.inf if text.startswith("-") else math.inf
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    return float(text) if FRACTION.fullmatch(text) else None


def kinds_of(annotation: Any) -> frozenset[Any]:
    """Return the plain types that a field may hold: `int | None` holds int."""
    if get_origin(annotation) is Annotated:
        return kinds_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        parts = [kinds_of(part) for part in get_args(annotation)]
        return frozenset().union(*parts) - {type(None)}
    return frozenset({get_origin(annotation) or annotation})


def as_meant(value: Any, kinds: frozenset[Any]) -> Any:
    """Return what a scalar means where a number or a truth value is wanted; others as they are.

    Raises:
        ValueError: it is none; says what to write.
    """
    plain = {kind for kind in kinds if not hasattr(kind, "model_fields")}
    if plain and plain <= NUMBERS:  # a mapping beside it is left as it is
        return _as_number(value)
    if bool in kinds:
        return _as_truth(value, kinds)
    return value


def _as_number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number belongs here")
    if isinstance(value, str):
        number = number_of(value.strip())
        if number is None:
            raise ValueError("write a plain number: no unit, and no separators such as _ or :")
        value = number
    if isinstance(value, int | float):
        if not math.isfinite(value):
            raise ValueError("write a finite number, or leave the field out")
        if abs(value) > MOST or 0 < abs(value) < LEAST:
            raise ValueError("no field means so much or so little; is it a slip of the pen?")
    return value


def _as_truth(value: Any, kinds: frozenset[Any]) -> Any:
    other = ", or a list of names" if list in kinds else ""
    if isinstance(value, str):
        word = value.strip().lower()
        if word in TRUE_WORDS or word in FALSE_WORDS:
            raise ValueError(f"write {str(word in TRUE_WORDS).lower()}{other}")
        raise ValueError(f"write true or false{other}")
    if isinstance(value, float):  # more than a slip for true: it may be what a mapping says
        raise ValueError(f"write true or false{other}{_or_fields(kinds)}")
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError(f"write true or false{other}")
    return value


def _or_fields(kinds: frozenset[Any]) -> str:
    """Return how a mapping that a field takes as well is written; nothing where it takes none."""
    fields = [name for kind in kinds for name in getattr(kind, "model_fields", ())]
    return f", or {{{', '.join(f'{name}: …' for name in fields)}}}" if fields else ""
