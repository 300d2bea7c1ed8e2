"""Numbers that people hand over: taken as written, or not at all.

One rule for every door: a number is finite, and written in digits. What only resembles one
(`nan`, `inf`, `1e400`, `true`, `1_000`) is left as it is, for its door to refuse by field and
value. JSON has no word for what is not finite, and encoders write null for it: `unsendable` is
asked before, or a label would be taken back by a slip of arithmetic.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from itertools import islice
from typing import TypeGuard

PLAIN = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
"""How a number is written; also for whole columns at once, so nothing that only Python knows."""
FINITE = "a finite number; leave it out where it is not known"
INT_MIN, INT_MAX = -(2**63), 2**64 - 1
"""What JSON readers take as a whole number."""
EXACT = 2**53
"""Whole floats up to here are the numbers that were meant; beyond, several share one float."""
MAX_DEPTH = 32
"""Of what is sent; our own fields need three."""
SHOWN = 60
"""Characters of a wrong value that a message repeats."""
SHOWN_DEEP = 4
"""Of what is nested in one; further in it says `…`."""
TOO_LARGE = "a number too large"
_AS_IT_IS = frozenset((str, bool, type(None)))
_PLAIN = re.compile(PLAIN)


class Unreadable(float):
    """A number that is none to JSON, and the text it was written as: `1e400`, `NaN`."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Unreadable:
        """Return it as Python reads it."""
        made = super().__new__(cls, text)
        made.text = text
        return made

    def __repr__(self) -> str:
        """Return it as it was written."""
        return self.text


def as_written(text: str) -> float:
    """Return a number of lenient JSON: for `parse_float` and `parse_constant`."""
    number = float(text)
    return number if math.isfinite(number) else Unreadable(text)


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether a value is a finite number; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, int) or math.isfinite(value)


def number_of(cell: object) -> float | None:
    """Return the finite number in a cell of a table, text included; None where there is none."""
    if isinstance(cell, str):
        text = cell.strip()
        value = float(text) if _PLAIN.fullmatch(text) else math.nan
    elif isinstance(cell, bool) or not isinstance(cell, int | float | Decimal):
        return None
    else:
        try:
            value = float(cell)
        except (OverflowError, ValueError):
            return None
    return value if math.isfinite(value) else None


def whole_of(value: object) -> int | None:
    """Return a whole number, also one that is written as a float; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not (abs(value) <= EXACT and value.is_integer()):
        return None
    return int(value)


def unsendable(value: object, path: str = "", depth: int = 0) -> str:
    """Return what in `value` JSON cannot carry as meant: field, value and fix; "" if nothing."""
    if isinstance(value, dict | list | tuple):
        if depth >= MAX_DEPTH:
            return f"{path[:SHOWN]} is nested more than {MAX_DEPTH} deep"
        is_dict = isinstance(value, dict)
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            if type(part) in _AS_IT_IS or (type(part) is float and math.isfinite(part)):
                continue  # nearly all
            at = f"{path}.{key}" if path else str(key)
            said = unsendable(part, at if is_dict else f"{path}[{key}]", depth + 1)
            if said:
                return said
        return ""
    field = path[:SHOWN] or "this"
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"{field} is {brief(value)}; it must be {FINITE}"
    if isinstance(value, int):
        far = "a whole number of at most 64 bits"
        return "" if INT_MIN <= value <= INT_MAX else f"{field} is beyond {far}"
    if type(value) in _AS_IT_IS:
        return ""
    return f"{field} is {brief(value)}; it must be text, a number, true or false"


def brief(value: object) -> str:
    """Return a wrong value as a message repeats it: in JSON's words, but for text in quotes."""
    return clipped(_in_words(value, SHOWN_DEEP))


def _in_words(value: object, depth: int) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return "a number of very many digits" if abs(value) > INT_MAX else repr(value)
    if isinstance(value, float) and not math.isfinite(value) and not isinstance(value, Unreadable):
        return "NaN" if math.isnan(value) else TOO_LARGE
    if not isinstance(value, dict | list):
        return repr(value)
    if value and not depth:
        return "{…}" if isinstance(value, dict) else "[…]"
    # No message shows more parts than it has characters.
    if isinstance(value, dict):
        pairs = islice(value.items(), SHOWN)
        return "{" + ", ".join(f"{k!r}: {_in_words(v, depth - 1)}" for k, v in pairs) + "}"
    return "[" + ", ".join(_in_words(part, depth - 1) for part in islice(value, SHOWN)) + "]"


def clipped(text: str) -> str:
    """Return the beginning of a text, as much as a message repeats."""
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
