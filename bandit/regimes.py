"""Regimes: which labels of an endpoint count after it has changed, and for how much.

Labels are kept apart by the regime that their endpoint was in when the decision was made; an alarm
opens the next one. Which regimes count is decided when evidence is read: after a change the
earlier ones count for a few labels at the new level; once the endpoint is as it was before, they
count in full again and those between are dropped. Nothing that was summed is ever edited.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bandit import drift
from bandit.drift import AlarmKind
from bandit.families import D, Q


@dataclass(frozen=True, slots=True)
class Regimes:
    """Which regimes of one endpoint count."""

    now: int = 0  # the one that new decisions belong to
    full: tuple[int, ...] = (0,)
    reduced: tuple[int, ...] = ()
    level: float = 1.0  # of the reduced ones: by what factor rewards moved since
    before: tuple[int, ...] = ()  # those that counted in full before the first change

    def opened(self, kind: AlarmKind, level: float) -> Regimes:
        """Return what counts once an alarm opened a new regime.

        Args:
            level: by what factor rewards moved.
        """
        number = self.now + 1
        if kind is AlarmKind.RESTORED:
            return Regimes(now=number, full=(*self.before, number))
        return replace(
            self,
            now=number,
            full=(number,),
            reduced=self.full,
            level=level,
            before=self.before or self.full,
        )


FIRST = Regimes()
"""Of an endpoint that never changed."""
ByRegime = Mapping[int, NDArray[np.float64]]
"""Evidence of one family, (n_categories, n_arms, N_COLUMNS), by the regime of its labels."""


def count_quality(found: ByRegime, regimes: Sequence[Regimes]) -> NDArray[np.float64]:
    """Return what the labels of all regimes together are worth, in the columns of QUALITY."""
    if _is_first_alone(found, regimes):
        return found[0].copy()
    out = np.zeros_like(found[0])
    for arm, full, old in _by_arm(found, regimes):
        out[:, arm] = full
        if old is not None:
            n, r, r2 = drift.kept(old[:, Q.N], old[:, Q.R], old[:, Q.R2], regimes[arm].level)
            out[:, arm, Q.N] += n
            out[:, arm, Q.R] += r
            out[:, arm, Q.R2] += r2
            out[:, arm, Q.LABELS] += np.minimum(old[:, Q.LABELS], drift.KEPT)
    return out


def count_derived(found: ByRegime, regimes: Sequence[Regimes]) -> NDArray[np.float64]:
    """Return the same of labels that were read off calls, in the columns of DERIVED.

    What such a label tells of a stronger one holds at any level: pairs count in full. Those of
    regimes that count no more keep the calls with them among which their faults were found.
    """
    if _is_first_alone(found, regimes):
        return found[0].copy()
    every = np.asarray(sum(found.values()))
    out = every.copy()
    for arm, full, old in _by_arm(found, regimes):
        gone = every[:, arm] - full
        out[:, arm, [D.N, D.GOOD]] = full[:, [D.N, D.GOOD]]
        out[:, arm, D.SEEN] = full[:, D.SEEN] + _seen_with_pairs(gone)
        if old is not None:
            out[:, arm, D.SEEN] += np.minimum(old[:, D.SEEN], drift.KEPT)
            good = old[:, D.GOOD]
            n, good, _ = drift.kept(old[:, D.N], good, good, regimes[arm].level)
            out[:, arm, D.N] += n
            out[:, arm, D.GOOD] += good
    return out


def _is_first_alone(found: ByRegime, regimes: Sequence[Regimes]) -> bool:
    """Return whether all labels are of the first regime, which counts in full of every arm."""
    return len(found) == 1 and all(0 in own.full and 0 not in own.reduced for own in regimes)


def _seen_with_pairs(gone: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (n_categories,) the calls that go with the faults among pairs, at their own rate."""
    paired = np.maximum(gone[:, D.PAIR_N] - gone[:, D.PAIR_D], 0)
    faults = paired + np.maximum(gone[:, D.N] - gone[:, D.GOOD], 0)
    share = np.divide(paired, faults, out=np.zeros_like(faults), where=faults > 0)
    return np.asarray(gone[:, D.SEEN] * share)


def _by_arm(
    found: ByRegime, regimes: Sequence[Regimes]
) -> Iterator[tuple[int, NDArray[np.float64], NDArray[np.float64] | None]]:
    """Yield (n_categories, N_COLUMNS) what counts in full, and what of it is reduced, by arm.

    A regime that is not known of yet is newer than what is: its labels count in full.
    """
    nothing = np.zeros_like(found[0][:, 0])
    for arm, own in enumerate(regimes):
        newer = tuple(r for r in found if r > own.now)
        full = [found[r][:, arm] for r in (*own.full, *newer) if r in found]
        old = [found[r][:, arm] for r in own.reduced if r in found]
        yield arm, np.sum([nothing, *full], axis=0), np.sum(old, axis=0) if old else None
