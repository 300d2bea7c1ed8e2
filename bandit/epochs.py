"""Epochs: which labels of a task are of the prompt that it has now, and what the others count for.

A task's labels are kept apart by the epoch in which the decision was made; whoever serves a new
version of a prompt opens the next one. Those of earlier epochs are what another run's would be: a
prior, of at most `evidence.MOST_PRIOR_N` observations a cell. Which epoch is the present one is
decided when evidence is read; nothing that was summed is ever edited.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandit import cells
from bandit.cells import EPOCH_BITS, NO_EPOCH, Terms, damaged
from bandit.evidence import MOST_PRIOR_N, scaled_derived, scaled_quality
from bandit.families import BY_REGIME, Family, Q
from bandit.regimes import Regimes, count_derived, count_quality

LAST = NO_EPOCH
"""No task gets so far: there is one a day at most."""
_NO_ROWS = cells.from_bytes(b"", b"")


class Parted(NamedTuple):
    """Rows, and labels of earlier epochs apart from them."""

    rows: Terms
    earlier: Terms = _NO_ROWS

    def renamed(self, names: NDArray[np.uint64], to: NDArray[np.uint64]) -> Parted:
        """Return both with what is under `names` put under `to`; the same if nothing is."""
        found = Parted(*(cells.renamed(part, names, to) for part in self))
        return self if found.rows is self.rows and found.earlier is self.earlier else found


def composed(regime: int, epoch: int) -> int:
    """Return what a token holds: the regime of the endpoint, and above it the epoch of the task."""
    return (regime & NO_EPOCH) | (min(epoch, LAST) << EPOCH_BITS)


def epochs_of(keys: NDArray[np.void]) -> NDArray[np.int64]:
    """Return (n,) the epochs of rows: 0 of those that are not kept apart by them."""
    return np.where(_are_labels(keys), keys["window"].astype(np.int64) >> EPOCH_BITS, 0)


def highest(rows: Terms) -> dict[int, int]:
    """Return by digest of category the last epoch that labels lie in; without those of none."""
    found = epochs_of(rows.keys)
    late = np.flatnonzero(found)
    out: dict[int, int] = {}
    for category, epoch in set(
        zip(rows.keys["category"][late].tolist(), found[late].tolist(), strict=True)
    ):
        out[category] = max(epoch, out.get(category, 0))
    return out


def parted(rows: Terms, categories: NDArray[np.uint64], present: NDArray[np.int64]) -> Parted:
    """Return rows with the labels of earlier epochs apart.

    Args:
        categories, present: (n,) digests, and the epoch that each is in. In all others, every
            label is of the present one.
    """
    at = cells.positions(rows.keys["category"], categories)
    some = np.flatnonzero(at >= 0)
    if not len(some):
        return Parted(rows)
    keys = rows.keys[some]
    old = np.zeros(len(rows.keys), dtype=bool)
    old[some] = _are_labels(keys) & (epochs_of(keys) < present[at[some]])
    if not old.any():
        return Parted(rows)
    return Parted(
        Terms(rows.keys[~old], rows.values[~old]), Terms(rows.keys[old], rows.values[old])
    )


def read_labels(
    labels: Parted,
    family: Family,
    regimes: Sequence[Regimes],
    *,
    categories: NDArray[np.uint64],
    endpoints: NDArray[np.uint64],
    now_ms: int,
) -> NDArray[np.float64]:
    """Return (n_categories, n_arms, N_COLUMNS) what labels are worth: earlier ones as a prior.

    A damaged cell of earlier ones stays what it is, so that it is seen to be.

    Args:
        family: QUALITY or DERIVED.
        regimes: by arm.
    """
    counted, scaled = _RULES[family]

    def found(part: Terms) -> NDArray[np.float64]:
        by_regime = cells.read_by_regime(
            part, family, categories=categories, endpoints=endpoints, now_ms=now_ms
        )
        return counted(by_regime, regimes)

    out = found(labels.rows)
    if not len(labels.earlier.keys):
        return out
    old = found(labels.earlier)
    return np.where(damaged(old, family)[..., None], old, out + scaled(old))


def _prior(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return labels as a prior; of them no more count as labels than observations may."""
    out = scaled_quality(values)
    out[..., Q.LABELS] = np.minimum(out[..., Q.LABELS], MOST_PRIOR_N)
    return out


_RULES = {
    Family.QUALITY: (count_quality, _prior),
    Family.DERIVED: (count_derived, scaled_derived),
}


def _are_labels(keys: NDArray[np.void]) -> NDArray[np.bool_]:
    """Return which rows are of the families that are kept apart by regime and epoch."""
    out = np.zeros(len(keys), dtype=bool)
    for family in BY_REGIME:
        out |= cells.is_of(keys, family)
    return out
