"""What the store holds may be damaged, or of another version: reading it must stop nobody.

`DAMAGED` is all that comes of reading such a value. A `Moment` is one that has a date: whatever
shows or sums up a moment relies on that, so it is checked where it is read.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

import msgspec

DAMAGED = (
    msgspec.MsgspecError,
    ValueError,  # text that is no UTF-8, too
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,  # nested too deeply
)
MAX_MOMENT_MS = 253_370_764_800_000
"""The year 9999 begins: what follows soon after has a date as well."""
Moment = Annotated[int, msgspec.Meta(ge=0, le=MAX_MOMENT_MS)]
"""Epoch milliseconds, or 0 where there is none."""


def object_of(raw: bytes | None) -> dict[str, Any]:
    """Return the JSON object that lies in the store; an empty one where there is none."""
    try:
        found = json.loads(raw or b"{}")
    except DAMAGED:
        return {}
    return found if isinstance(found, dict) else {}
