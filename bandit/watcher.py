"""The watch over endpoints: what a closed bucket of labels changes, and whom to probe. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bandit import drift
from bandit.drift import CALM, Alarm, News, Watch
from bandit.families import Family
from bandit.grid import Grid
from bandit.posterior import Posterior
from bandit.regimes import FIRST, Regimes, count_quality


@dataclass(frozen=True, slots=True)
class Watched:
    """What is known of one endpoint: its watch, and which of its regimes count."""

    watch: Watch = CALM
    regimes: Regimes = FIRST


def close(watched: Watched, bucket: int, news: News) -> tuple[Watched, Alarm | None]:
    """Return what is known of an endpoint once a bucket is over, and the alarm that it raised.

    Args:
        bucket: its number; rises from call to call.
    """
    if not watched.watch.suspect and not news.n.any():
        return watched, None
    watch = drift.close_bucket(watched.watch, bucket, news, level=watched.regimes.level)
    found = drift.alarm(watch)
    if found is None:
        return replace(watched, watch=watch), None
    regimes = watched.regimes.opened(found.kind, found.level)
    return Watched(drift.after(found, bucket), regimes), found


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
        # Labels of the present regimes, (3, n_categories, n_arms): count, Σ reward, Σ reward²;
        # those that were looked at, and those that came since.
        self._known, self._fresh = np.zeros((3, *self._shape)), np.zeros((3, *self._shape))
        self._before = np.full(self._shape, np.nan)  # mean reward before the last fall
        self._heard: set[int] = set()  # arms with labels since the last look
        self._bucket = 0

    def hear(self, category: int, arm: int, reward: float) -> None:
        """Note a label."""
        self._fresh[:, category, arm] += (1.0, reward, reward * reward)
        self._heard.add(arm)

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
            if arm not in self._heard and not watched.watch.suspect:
                continue
            news = self._news(arm, posterior)
            self._watched[arm], found = close(watched, self._bucket, news)
            self._known[..., arm] += self._fresh[..., arm]
            if found is not None:
                raised.append(arm)
                self._restart(arm, found)
        while len(self._grids) <= max(watched.regimes.now for watched in self._watched):
            self._grids.append(Grid(*self._shape))
        self._fresh[:] = 0.0
        self._heard.clear()
        self._bucket = bucket
        return raised

    def _news(self, arm: int, posterior: Posterior) -> News:
        group = int(posterior.arms.group[arm])
        known = self._known[..., arm]
        return News(
            n=self._fresh[0, :, arm],
            r=self._fresh[1, :, arm],
            known_n=known[0],
            known_r=known[1],
            known_r2=known[2],
            believed=posterior.quality.mean[:, group],
            before=self._before[:, arm],
        )

    def _restart(self, arm: int, found: Alarm) -> None:
        """Begin a regime: its labels are judged by each other, and a fall by what was before."""
        if found.kind is drift.AlarmKind.DOWN:
            n, r, _ = self._known[..., arm]
            mean = np.divide(r, n, out=np.full(len(n), np.nan), where=n > 0)
            first = np.isnan(self._before[:, arm])
            self._before[first, arm] = mean[first]
        else:
            self._before[:, arm] = np.nan
        self._known[..., arm] = 0.0

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
