"""The record that says that an app asked again: what a later call adds to an earlier one's chain.

It is of the chain's first decision, and adds: one that is told once counts once, and what takes it
back takes back exactly that. Nothing here is a label.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from telemetry.events import (
    RECORD_SIZE,
    RECORD_VERSION,
    RETRACTED,
    SEAL,
    TOKEN_OFFSET,
    U32_MAX,
    Kind,
    sealed,
)
from telemetry.tokens import TOKEN_SIZE

_HEAD = struct.Struct(f"<BB{TOKEN_OFFSET - 2}x")
_REPEAT = struct.Struct("<32xQ80xQQI4x64xq")
"""What stands behind the token, up to the value: cost, both endpoints, milliseconds."""
_REST = bytes(RECORD_SIZE - SEAL.size - TOKEN_OFFSET - TOKEN_SIZE - _REPEAT.size)


class Repeat(NamedTuple):
    """What asking again added to a chain of calls."""

    first: bytes  # packed token of the chain's first decision
    first_endpoint: int  # digest of who that one's first attempt went to
    endpoint: int  # digest of who the later one's went to
    cost_nano: int  # of all attempts of the later one, as far as it is known
    seconds: float  # by which its end is later than that of the call before it


def repeated(repeat: Repeat, *, taken_back: bool = False) -> bytes:
    """Return the record of a repeat.

    Args:
        taken_back: it was none after all; the record of before counts no more.
    """
    tail = _REPEAT.pack(
        repeat.cost_nano,
        repeat.first_endpoint,
        repeat.endpoint,
        min(round(repeat.seconds * 1000), U32_MAX),
        RETRACTED if taken_back else 0,
    )
    return sealed(_HEAD.pack(Kind.REPEAT, RECORD_VERSION) + repeat.first + tail + _REST)
