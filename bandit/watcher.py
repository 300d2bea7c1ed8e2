"""The watch over endpoints: what a closed bucket of residuals changes, and whom to probe. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bandit import drift
from bandit.cells import Family, Grid
from bandit.drift import CALM, Alarm, Watch
from bandit.posterior import Posterior
from bandit.regimes import FIRST, Regimes, count_quality


@dataclass(frozen=True, slots=True)
class Watched:
    """What is known of one endpoint: its watch, and which of its regimes count."""

    watch: Watch = CALM
    regimes: Regimes = FIRST


@dataclass(frozen=True, slots=True)
class LevelChange:
    """An alarm, and by what factor rewards moved."""

    alarm: Alarm
    level: float


def close(
    watched: Watched,
    bucket: int,
    *,
    count: float,
    total: float,
    posterior: Posterior,
    arm: int,
) -> tuple[Watched, LevelChange | None]:
    """Return what is known of an endpoint once a bucket is over, and the change that it showed.

    Args:
        bucket: its number; rises from call to call.
        count, total: labels in it, and the sum of their residuals.
        posterior: as of its end; says what the endpoint usually earns.
    """
    if not count and not total and not watched.watch.suspect:
        return watched, None
    watch = drift.close_bucket(watched.watch, bucket, count=count, total=total)
    found = drift.alarm(watch)
    if found is None:
        return replace(watched, watch=watch), None
    mean, sd = _usual(posterior, arm)
    level = drift.level(found, mean=mean, sd=sd)
    shift = drift.shift(level, mean=mean, sd=sd)
    watch = drift.after(found, bucket, shift=shift)
    return Watched(watch, watched.regimes.opened(found.kind, level)), LevelChange(found, level)


def probe(watches: Sequence[Watch]) -> tuple[int | None, float]:
    """Return which arm to probe now, and with which share of the calls."""
    shares = [watch.probe_share for watch in watches]
    best = int(np.argmax(shares))
    return (best, shares[best]) if shares[best] > 0 else (None, 0.0)


class Watcher:
    """Keeps watch and labels of all endpoints of one process, as a replay does."""

    def __init__(self, n_categories: int, n_arms: int) -> None:
        self._shape = (n_categories, n_arms)
        self._grids = [Grid(n_categories, n_arms)]
        self._watched = [Watched()] * n_arms
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
        regime = np.array([self._watched[a].regimes.now for a in arm.tolist()])
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
        for arm, watched in enumerate(self._watched):
            count, total = float(self._count[arm]), float(self._total[arm])
            self._watched[arm], found = close(
                watched, self._bucket, count=count, total=total, posterior=posterior, arm=arm
            )
            if found is not None:
                raised.append(arm)
        while len(self._grids) <= max(watched.regimes.now for watched in self._watched):
            self._grids.append(Grid(*self._shape))
        self._count[:], self._total[:] = 0.0, 0.0
        self._bucket = bucket
        return raised

    def probe(self) -> tuple[int | None, float]:
        """Return whom to probe now, and with which share of the calls."""
        return probe([watched.watch for watched in self._watched])

    def quality(self, *, now_ms: int) -> NDArray[np.float64]:
        """Return (n_categories, n_arms, columns) evidence as of `now_ms`."""
        grids = [grid.read_family(Family.QUALITY, now_ms=now_ms) for grid in self._grids]
        if len(grids) == 1:
            return grids[0]
        known = [watched.regimes for watched in self._watched]
        return count_quality(dict(enumerate(grids)), known)


def _usual(posterior: Posterior, arm: int) -> tuple[float, float]:
    """Return the mean reward that an endpoint is believed to earn, and the sd of a single one."""
    labels = posterior.labels[:, arm] + 1e-9
    group = posterior.arms.group[arm]
    weight = labels / labels.sum()
    mean = float(weight @ posterior.quality.mean[:, group])
    return mean, float(weight @ posterior.quality.noise[:, group]) ** 0.5
