"""The switch `off`: a file for whoever shares a state directory, a key for everybody on a store."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

LEAST_DIGITS = 13
"""Of a moment in epoch milliseconds since 2001; earlier versions wrote a plain 1."""


class Switch(NamedTuple):
    """Whether routing is off, and since when as far as that is known."""

    off: bool = False
    since_ms: int | None = None  # epoch


def read_switch(file: Path, in_store: bytes | None) -> Switch:
    """Return how the switch stands; a file is as old as its last change.

    Args:
        in_store: the key's value, the moment in epoch milliseconds; other text is no moment.
    """
    known: list[int] = []
    try:
        known.append(int(file.stat().st_mtime * 1000))
    except OSError:
        if in_store is None:
            return Switch()
    if in_store is not None and len(in_store) >= LEAST_DIGITS and in_store.isdigit():
        known.append(int(in_store))
    return Switch(True, min(known, default=None))
