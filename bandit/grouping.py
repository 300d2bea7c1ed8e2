"""Many records of few cells: sums first, rows afterwards.

Gives what `cells.terms` of each record and `cells.merge` would, bit for bit, for a tenth of the
work where a batch has many records of a cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bandit import decay, exact
from bandit.cells import CARRY, EPOCH_BITS, KEY, NO_EPOCH
from bandit.families import (
    BY_REGIME,
    HALF_LIFE_MS,
    N_COLUMNS,
    REAL_SCALE,
    SCALED,
    UNWEIGHTED,
    Family,
)
from bandit.terms import Terms, group

SPAN_MS = min(HALF_LIFE_MS.values()) * decay.HALF_LIVES_PER_WINDOW
"""The shortest decay window; every other family's is a multiple, so that records of one span are
of one window in each family."""

OWNER_BITS = np.uint64(8)
"""Beside a span, which needs 42 bits for any time in milliseconds."""
FEW = 1000
"""Records; of fewer, to look for columns of zeros costs more than to add them up."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """Records by cell and span: what all families share of the work."""

    at_ms: NDArray[np.int64]
    order: NDArray[np.intp]
    starts: NDArray[np.intp]
    category: NDArray[np.uint64]  # of each group
    endpoint: NDArray[np.uint64]
    regime: NDArray[np.uint64] | None = None  # and epoch; None: all are of the first
    owner: NDArray[np.uint64] | None = None  # None: all are of one
    decayed: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        category: NDArray[np.uint64],
        endpoint: NDArray[np.uint64],
        at_ms: NDArray[np.int64],
        regime: NDArray[np.uint64] | None = None,
        owner: NDArray[np.uint64] | None = None,
    ) -> Grouping:
        """Group records; the arguments are as in `cells.terms`.

        Args:
            regime: the one that each record's endpoint was in, and above its `EPOCH_BITS` the epoch
                of its task; None where no family asks for it.
            owner: (n,) below 1 << OWNER_BITS, as of `cells.Terms`; None: all are of one.
        """
        if not len(at_ms):
            none = np.empty(0, dtype=np.intp)
            return cls(at_ms, none, none, category, endpoint)
        words = [category, endpoint, (at_ms // SPAN_MS).astype(np.uint64)]
        if owner is not None:
            words[2] = (words[2] << OWNER_BITS) | owner
        if regime is not None and not regime.any():
            regime = None
        order, starts = group(words if regime is None else [*words, regime])
        first = order[starts]
        return cls(
            at_ms[order],
            order,
            starts,
            category[first],
            endpoint[first],
            None if regime is None else regime[first],
            None if owner is None else owner[first],
        )

    def terms(self, family: Family, columns: Mapping[int, NDArray[np.float64]]) -> Terms:
        """Return what the records add to `family`: one term a group that adds anything.

        Several may be of one row where the family leaves out what groups are told apart by.

        Args:
            columns: by column the raw values as in `cells.terms`, (n,), finite and within
                `families.MOST`; others are 0.
        """
        values = np.zeros((len(self.starts), N_COLUMNS), dtype=np.int64)
        if not len(self.starts):
            return Terms(np.empty(0, dtype=KEY), values)
        window = None
        if len(self.at_ms) > FEW:
            columns = {column: x for column, x in columns.items() if x.any()}
        if not columns:
            return Terms(np.empty(0, dtype=KEY), values[:0])
        names, scale, weighted = _layout(family, tuple(columns))
        raw = np.array(list(columns.values()), dtype=np.float64)
        if not raw.any():
            return Terms(np.empty(0, dtype=KEY), values[:0])
        raw *= scale
        placed = np.rint(raw, out=raw).astype(np.int64)[:, self.order]
        if family in HALF_LIFE_MS:
            windows, weight = self._decayed(HALF_LIFE_MS[family])
            window = windows[self.starts]
            np.multiply(placed, weight, out=placed, where=weighted)
        low, high = exact.sums(placed.T, self.starts)
        values[:, names] = low
        found = self._terms(family, values, window)
        if high is None:
            return found
        values[:, names] = high
        over = self._terms(family, values, window)
        over.keys["family"] += CARRY
        return Terms(
            np.concatenate([found.keys, over.keys]),
            np.concatenate([found.values, over.values]),
            None
            if found.owners is None or over.owners is None
            else np.concatenate([found.owners, over.owners]),
        )

    def _terms(
        self, family: Family, values: NDArray[np.int64], window: NDArray[np.int64] | None
    ) -> Terms:
        """Return the groups' (n_groups, N_COLUMNS) sums under their keys, but for those of 0."""
        adds = values.any(axis=1)
        keys = np.zeros(int(adds.sum()), dtype=KEY)
        keys["endpoint"], keys["family"] = self.endpoint[adds], int(family)
        keys["category"] = self.category[adds]
        if window is not None:
            keys["window"] = window[adds]
        if self.regime is not None and family in BY_REGIME:
            regime = self.regime[adds]
            keys["regime"] = regime & NO_EPOCH
            keys["window"] |= (regime >> EPOCH_BITS << EPOCH_BITS).astype(np.uint32)
        return Terms(keys, values[adds], None if self.owner is None else self.owner[adds])

    def _decayed(self, half_life_ms: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return window and weight of each record in order: worked out once a half-life."""
        if half_life_ms not in self.decayed:
            self.decayed[half_life_ms] = decay.windows_and_weights(self.at_ms, half_life_ms)
        return self.decayed[half_life_ms]


@cache
def _layout(
    family: Family, columns: tuple[int, ...]
) -> tuple[list[int], NDArray[np.float64], NDArray[np.bool_]]:
    """Return the columns, what each is scaled by, and whether it is weighted: (n_columns, 1)."""
    names = [int(column) for column in columns]
    scale = np.array([[REAL_SCALE if c in SCALED[family] else 1.0] for c in names])
    return names, scale, np.array([[c not in UNWEIGHTED.get(family, ())] for c in names])
