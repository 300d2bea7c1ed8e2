"""Sums of integers that never wrap: a low part of 62 bits, and how often they hold 2^62 more.

Where the values are small, which is nearly always, they are added up at once, and there is no
high part. Else they are split first, so that no partial sum comes near the end of a word.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BITS = 62
UNIT = 1 << BITS
"""One bit less than a word has, so that two low parts can be added before anyone looks."""
_HALF = BITS // 2
_MASK = (1 << _HALF) - 1

Ints = NDArray[np.int64]


def sums(values: Ints, starts: NDArray[np.intp]) -> tuple[Ints, Ints | None]:
    """Return the sums of groups of rows: (low, high) with sum = low + high · 2^62.

    |low| < 2^62, and high has the sign of the sum: the same sum is always told the same way.

    Args:
        values: (n, k), n > 0.
        starts: (m,) where each group begins, rising; the first one at 0.
    Returns:
        Two arrays (m, k); None in place of a high part that is 0 throughout.
    """
    largest = _largest(values)
    if largest < UNIT // len(values) or largest < UNIT // _longest(values, starts):
        return np.add.reduceat(values, starts, axis=0), None
    return _joined(*(np.add.reduceat(part, starts, axis=0) for part in _split(values)))


def add_at(total: Ints, index: Any, values: Ints) -> Ints | None:
    """Add to a total in place, as `np.add.at` does; return what went beyond it, in 2^62, if any."""
    if max(_largest(total), _largest(values)) < UNIT // (len(values) + 1):
        np.add.at(total, index, values)
        return None
    low, high = _split(total)
    for part, added in zip((low, high), _split(values), strict=True):
        np.add.at(part, index, added)
    total[...], over = _joined(low, high)
    return over


def _longest(values: Ints, starts: NDArray[np.intp]) -> int:
    """Return how many rows the largest group has."""
    return int(np.diff(starts, append=len(values)).max())


def _largest(values: Ints) -> int:
    """Return the largest size; in Python's own integers, as that of the least one has no word."""
    return max(int(values.max(initial=0)), -int(values.min(initial=0)))


def _split(values: Ints) -> tuple[Ints, Ints]:
    """Return (low, high) with value = low + high · 2^31 and 0 ≤ low < 2^31."""
    return values & _MASK, values >> _HALF


def _joined(low: Ints, high: Ints) -> tuple[Ints, Ints | None]:
    """Return what `sums` does, given sums of what `_split` returns."""
    high = high + (low >> _HALF)
    over = high >> _HALF
    out = ((high & _MASK) << _HALF) | (low & _MASK)
    # So far rounded down: a negative sum has its low part negative, too.
    below = (over < 0) & (out > 0)
    return out - below * UNIT, over + below if over.any() else None
