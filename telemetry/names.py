"""Ids and names that people hand over: text as written.

A column of whole numbers turns into one of floats as soon as it has a gap, so that `1.0` is `1`.
Anything else that is no text is refused: `4.1` may have been `4.10`.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal

from telemetry.numbers import EXACT, brief

WHOLE = r"^(-?[0-9]+)\.0+$"
"""How a whole number is written by what took its column for floats."""
TEXT_OR_WHOLE = "it must be text or a whole number"
LOST = "above 2^53 a number has lost digits; store it as text"
AS_TEXT = "store it as text, so that 4.1 and 4.10 stay apart"
_WHOLE = re.compile(WHOLE)


class NotText(ValueError):
    """A value is neither text nor a whole number; the message says value and fix."""


def text_of(value: object) -> str:
    """Return an id or a name as text; a whole float reads as its integer.

    Raises:
        NotText: it is a fraction, true or false, bytes, a list, or anything else.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) >= 10**40:  # longer than any id; and far longer ones cannot be printed
            raise NotText(f"is {brief(value)}; store it as text")
        return str(value)
    if isinstance(value, float | Decimal):
        number = float(value)
        if abs(number) <= EXACT and number.is_integer():
            return str(int(value))
        raise NotText(fault_of(value))
    raise NotText(f"is {brief(value)}; {TEXT_OR_WHOLE}")


def fault_of(value: float | Decimal) -> str:
    """Return why a number that came as a float names nobody: its value and the fix."""
    number = float(value)
    if not math.isfinite(number):
        return f"is {brief(value)}; {TEXT_OR_WHOLE}"
    if abs(number) > EXACT:
        return f"is {brief(value)}; {LOST}"
    return f"is {brief(value)}, no whole number; {AS_TEXT}"


def id_in_cell(cell: str) -> str:
    """Return an id out of a format that knows text only, such as CSV."""
    if not cell.endswith("0"):
        return cell  # nearly all
    found = _WHOLE.fullmatch(cell)
    return found[1] if found else cell
