"""Terms: keys with integers each, what is known of the keys alone, and which rows are equal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_KNOWN = 64
"""Things remembered of keys; a bound, not a tuning."""

_MIX = tuple(
    map(
        np.uint64,
        (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93),
    )
)
"""Odd multipliers: digests are well mixed already, numbers of windows are not."""
_SHIFT = np.uint64(29)
_ALONE = np.zeros(1, dtype=np.intp)
_ALONE.flags.writeable = False


@dataclass(frozen=True, slots=True)
class Terms:
    """What records add: one key and one vector of integers each."""

    keys: NDArray[np.void]  # (n,) of KEY
    values: NDArray[np.int64]  # (n, N_COLUMNS)
    owners: NDArray[np.uint64] | None = None  # (n,) whose state each adds to; None: all to one
    known: dict[object, Any] = field(default_factory=dict, compare=False, repr=False)
    """What follows from the keys alone, as far as it was asked for. Who has other values under the
    same keys hands it on (`of_same_keys`), so that none of it is worked out again."""

    def of_same_keys(self, values: NDArray[np.int64]) -> Terms:
        """Return other values under these keys."""
        return Terms(self.keys, values, self.owners, self.known)

    def once(self, name: str, of: tuple[NDArray[Any], ...], make: Callable[[], Any]) -> Any:
        """Return what `make` makes of the keys and of these arrays; made once, never changed."""
        key = (name, *(one.tobytes() for one in of))
        found = self.known.get(key, self)
        if found is self:
            if len(self.known) >= MOST_KNOWN:
                self.known.clear()
            found = self.known[key] = make()
        return found


def group(columns: list[NDArray[np.uint64]]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return an order in which equal rows lie together, and where in it each group starts.

    Sorts one mixed word a row instead of whole rows, which is ten times as fast; should two
    different rows ever share a word, the rows themselves are sorted.

    Args:
        columns: up to four words of each row, (n,) each, n > 0.
    """
    if len(columns[0]) == 1:
        return _ALONE, _ALONE
    word = columns[0] * _MIX[0]
    for column, factor in zip(columns[1:], _MIX[1:], strict=False):
        word = (word ^ (word >> _SHIFT)) + column * factor
    order = np.argsort(word, kind="stable")
    differs = _differs([word], order)
    if (differs != _differs(columns, order)).any():
        order = np.lexsort(columns[::-1])
        differs = _differs(columns, order)
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = differs
    return order, is_first.nonzero()[0]


def _differs(columns: list[NDArray[np.uint64]], order: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return for each but the last in `order` whether the next one is another row."""
    placed = columns[0][order]
    out = np.asarray(placed[1:] != placed[:-1])
    for column in columns[1:]:
        placed = column[order]
        out |= placed[1:] != placed[:-1]
    return out
