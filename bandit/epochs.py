"""Epochs: which labels of a task are of the prompt that it has now, and what the others count for.

A task's labels are kept apart by the epoch in which the decision was made; whoever serves a new
version of a prompt opens the next one. Those of earlier epochs are what another run's would be: a
prior, of at most `evidence.MOST_PRIOR_N` observations a cell. Labels of a profile (prompts that
were run on purpose, no traffic) lie apart under a number of their own: they count in full up to so
many a cell, beside those of earlier epochs, whatever prompt the task has meanwhile. Which epoch is
the present one is decided when evidence is read; nothing that was summed is ever edited.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandit import cells
from bandit.cells import EPOCH_BITS, NO_EPOCH, Terms, damaged
from bandit.evidence import MOST_PRIOR_N, n_derived, scaled_derived, scaled_quality
from bandit.families import BY_REGIME, Family, Q
from bandit.regimes import Regimes, count_derived, count_quality

PROFILE = NO_EPOCH - 1
"""In an epoch's place: what decisions of a profile carry, in any epoch of their task."""
LAST = PROFILE - 1
"""No task gets so far: there is one a day at most."""
_NO_ROWS = cells.from_bytes(b"", b"")


class Parted(NamedTuple):
    """Rows, and apart from them labels of earlier epochs and of profiles."""

    rows: Terms
    earlier: Terms = _NO_ROWS
    profiled: Terms = _NO_ROWS

    def renamed(self, names: NDArray[np.uint64], to: NDArray[np.uint64]) -> Parted:
        """Return all with what is under `names` put under `to`; the same if nothing is."""
        found = Parted(*(cells.renamed(part, names, to) for part in self))
        return self if all(a is b for a, b in zip(found, self, strict=True)) else found

    @property
    def is_whole(self) -> bool:
        """Whether no labels lie apart."""
        return not (len(self.earlier.keys) or len(self.profiled.keys))


def composed(regime: int, epoch: int) -> int:
    """Return what a token holds: the regime of the endpoint, and above it the epoch of the task.

    Args:
        epoch: or `PROFILE`.
    """
    placed = epoch if epoch == PROFILE else min(epoch, LAST)
    return (regime & NO_EPOCH) | (placed << EPOCH_BITS)


def epochs_of(keys: NDArray[np.void]) -> NDArray[np.int64]:
    """Return (n,) the epochs of rows: 0 of those that are not kept apart by them."""
    return np.where(_are_labels(keys), keys["window"].astype(np.int64) >> EPOCH_BITS, 0)


def highest(rows: Terms) -> dict[int, int]:
    """Return by digest of category the last epoch that labels lie in; without those of none.

    Profiles are in none.
    """
    found: dict[int, int] = rows.once("highest", (), lambda: _highest(rows))
    return dict(found)


def _highest(rows: Terms) -> dict[int, int]:
    found = epochs_of(rows.keys)
    late = np.flatnonzero((found > 0) & (found != PROFILE))
    out: dict[int, int] = {}
    for category, epoch in set(
        zip(rows.keys["category"][late].tolist(), found[late].tolist(), strict=True)
    ):
        out[category] = max(epoch, out.get(category, 0))
    return out


def parted(rows: Terms, categories: NDArray[np.uint64], present: NDArray[np.int64]) -> Parted:
    """Return rows with the labels of earlier epochs, and those of profiles, apart.

    Args:
        categories, present: (n,) digests, and the epoch that each is in. In all others, every
            label is of the present one.
    """
    if not len(categories) and rows.once("whole", (), lambda: _has_no_profile(rows)):
        return Parted(rows)  # most often
    found = epochs_of(rows.keys)
    by_profile = found == PROFILE
    at = cells.positions(rows.keys["category"], categories)
    some = np.flatnonzero((at >= 0) & ~by_profile)
    old = np.zeros(len(rows.keys), dtype=bool)
    old[some] = _are_labels(rows.keys[some]) & (found[some] < present[at[some]])
    rest = ~(old | by_profile)
    if rest.all():
        return Parted(rows)
    return Parted(*(Terms(rows.keys[each], rows.values[each]) for each in (rest, old, by_profile)))


def _has_no_profile(rows: Terms) -> bool:
    return not (epochs_of(rows.keys) == PROFILE).any()


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

    A damaged cell of earlier ones, or of a profile's, stays what it is, so that it is seen to be.

    Args:
        family: QUALITY or DERIVED.
        regimes: by arm.
    """
    counted, scaled, capped = _RULES[family]

    def found(part: Terms) -> NDArray[np.float64]:
        by_regime = cells.read_by_regime(
            part, family, categories=categories, endpoints=endpoints, now_ms=now_ms
        )
        return counted(by_regime, regimes)

    out = found(labels.rows)
    for part, worth in ((labels.earlier, scaled), (labels.profiled, capped)):
        if len(part.keys):
            apart = found(part)
            out = np.where(damaged(apart, family)[..., None], apart, out + worth(apart))
    return out


def profile_labels(
    labels: Parted,
    regimes: Sequence[Regimes],
    *,
    categories: NDArray[np.uint64],
    endpoints: NDArray[np.uint64],
    now_ms: int,
) -> NDArray[np.float64]:
    """Return (n_categories, n_arms) how many of the labels that count are a profile's.

    Args:
        regimes: by arm.
    """
    if not len(labels.profiled.keys):
        return np.zeros((len(categories), len(endpoints)))
    found = read_labels(
        Parted(_NO_ROWS, profiled=labels.profiled),
        Family.QUALITY,
        regimes,
        categories=categories,
        endpoints=endpoints,
        now_ms=now_ms,
    )
    return np.where(damaged(found, Family.QUALITY), 0.0, found[..., Q.LABELS])


def _prior(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return labels as a prior; of them no more count as labels than observations may."""
    out = scaled_quality(values)
    out[..., Q.LABELS] = np.minimum(out[..., Q.LABELS], MOST_PRIOR_N)
    return out


def _capped(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a profile's labels: in full, but no more of a cell than a prior may be worth."""
    out = _at_most(values, values[..., Q.N])
    out[..., Q.LABELS] = np.minimum(values[..., Q.LABELS], MOST_PRIOR_N)
    return out


def _capped_derived(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the same of what was read off a profile's calls, in the columns of DERIVED."""
    return _at_most(values, n_derived(values))


def _at_most(values: NDArray[np.float64], n: NDArray[np.float64]) -> NDArray[np.float64]:
    share = np.minimum(1.0, MOST_PRIOR_N / np.maximum(n, 1e-9))
    return np.asarray(values * share[..., None])


_RULES = {
    Family.QUALITY: (count_quality, _prior, _capped),
    Family.DERIVED: (count_derived, scaled_derived, _capped_derived),
}


def _are_labels(keys: NDArray[np.void]) -> NDArray[np.bool_]:
    """Return which rows are of the families that are kept apart by regime and epoch."""
    out = np.zeros(len(keys), dtype=bool)
    for family in BY_REGIME:
        out |= cells.is_of(keys, family)
    return out
