"""Quality evidence by regimes, and the watch that opens them.

A label goes to the regime that its endpoint is in. Which regimes count, and for how much, is
decided when evidence is read: after a fall the earlier ones count for a few labels at the new
level; once the endpoint is as it was, they count in full again and the regime between is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bandit import drift
from bandit.cells import Family, Grid, Q
from bandit.drift import Alarm, AlarmKind, Watch
from bandit.posterior import Posterior


@dataclass(frozen=True, slots=True)
class Regimes:
    """Which regimes of one endpoint count."""

    now: int = 0  # the one that labels go to
    full: tuple[int, ...] = (0,)
    reduced: tuple[int, ...] = ()
    level: float = 1.0  # of the reduced ones: by what factor rewards moved since
    before: tuple[int, ...] = ()  # those that counted in full before the first fall


class Watcher:
    """Keeps the regimes of all endpoints of one process."""

    def __init__(self, n_categories: int, n_arms: int) -> None:
        self._shape = (n_categories, n_arms)
        self._grids = [Grid(n_categories, n_arms)]
        self._regimes = [Regimes()] * n_arms
        self._watches = [Watch()] * n_arms
        self._count, self._total = np.zeros(n_arms), np.zeros(n_arms)
        self._bucket = 0

    def hear(self, arm: int, reward: float, mean: float, sd: float) -> None:
        """Note a label's residual against what was predicted for it."""
        self._count[arm] += 1
        self._total[arm] += float(drift.residual(reward, mean, sd))

    def add(
        self,
        family: Family,
        *,
        category: NDArray[np.intp],
        arm: NDArray[np.intp],
        at_ms: NDArray[np.int64],
        columns: NDArray[np.float64],
    ) -> None:
        """Fold labels into the regimes that their endpoints are in."""
        regime = np.array([self._regimes[a].now for a in arm.tolist()])
        for number in set(regime.tolist()):
            inside = regime == number
            self._grids[number].add(
                family,
                category=category[inside],
                arm=arm[inside],
                at_ms=at_ms[inside],
                columns=columns[inside],
            )

    def close(self, now_ms: int, posterior: Posterior) -> list[int]:
        """Close the bucket if its time is over; return the arms of which an alarm was raised."""
        bucket = now_ms // drift.BUCKET_MS
        if bucket == self._bucket:
            return []
        raised = []
        for arm, watch in enumerate(self._watches):
            count, total = float(self._count[arm]), float(self._total[arm])
            if count or watch.suspect:
                watch = drift.close_bucket(watch, self._bucket, count=count, total=total)
                found = drift.alarm(watch)
                if found is not None:
                    raised.append(arm)
                    mean, sd = _usual(posterior, arm)
                    level = drift.level(found, mean=mean, sd=sd)
                    shift = drift.shift(level, mean=mean, sd=sd)
                    watch = drift.after(found, self._bucket, shift=shift)
                    self._open(arm, found, level)
                self._watches[arm] = watch
        self._count[:], self._total[:] = 0.0, 0.0
        self._bucket = bucket
        return raised

    def probe(self) -> tuple[int | None, float]:
        """Return whom to probe now, and with which share of the calls."""
        shares = [watch.probe_share for watch in self._watches]
        best = int(np.argmax(shares))
        return (best, shares[best]) if shares[best] > 0 else (None, 0.0)

    def quality(self, *, now_ms: int) -> NDArray[np.float64]:
        """Return (n_categories, n_arms, columns) evidence as of `now_ms`."""
        grids = [grid.read_family(Family.QUALITY, now_ms=now_ms) for grid in self._grids]
        if len(grids) == 1:
            return grids[0]
        out = np.zeros_like(grids[0])
        for arm, regimes in enumerate(self._regimes):
            out[:, arm] = np.sum([grids[r][:, arm] for r in regimes.full], axis=0)
            if regimes.reduced:
                old = np.sum([grids[r][:, arm] for r in regimes.reduced], axis=0)
                n, r, r2 = drift.kept(old[:, Q.N], old[:, Q.R], old[:, Q.R2], regimes.level)
                out[:, arm, Q.N] += n
                out[:, arm, Q.R] += r
                out[:, arm, Q.R2] += r2
                out[:, arm, Q.LABELS] += np.minimum(old[:, Q.LABELS], drift.KEPT)
        return out

    def _open(self, arm: int, found: Alarm, level: float) -> None:
        """Open a new regime of an endpoint, in which rewards stand at `level` of before."""
        was = self._regimes[arm]
        number = was.now + 1
        if number == len(self._grids):
            self._grids.append(Grid(*self._shape))
        if found.kind is AlarmKind.RESTORED:
            self._regimes[arm] = Regimes(now=number, full=(*was.before, number))
            return
        self._regimes[arm] = replace(
            was,
            now=number,
            full=(number,),
            reduced=was.full,
            level=level,
            before=was.before or was.full,
        )


def _usual(posterior: Posterior, arm: int) -> tuple[float, float]:
    """Return the mean reward that an endpoint is believed to earn, and the sd of a single one."""
    labels = posterior.labels[:, arm] + 1e-9
    group = posterior.arms.group[arm]
    weight = labels / labels.sum()
    mean = float(weight @ posterior.quality.mean[:, group])
    return mean, float(weight @ posterior.quality.noise[:, group]) ** 0.5
