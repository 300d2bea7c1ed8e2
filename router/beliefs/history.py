"""What was believed a while ago: so that what labels since a moment say can be told from the rest.

Snapshots hold what is compared and nothing else. There is one a minute for a quarter of an hour,
and one each half hour for 26 hours, longer than any draw lasts. One thread takes them; any may
read.

They begin anew with each configuration, and with each store: what is read from another store came
to this process as a whole, and would pass for news. So would labels that an alarm or a new version
of a prompt let count more or less than before.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bandit.families import HALF_LIFE_MS, Family, Q
from router.beliefs.beliefs import Beliefs
from router.beliefs.outlooks import Outlook
from router.config.compiled import Configuration

FINE_MS, FINE_FOR_MS = 60_000, 15 * 60_000
COARSE_MS, COARSE_FOR_MS = 30 * 60_000, 26 * 3_600_000
MOST_SNAPSHOTS = FINE_FOR_MS // FINE_MS + COARSE_FOR_MS // COARSE_MS + 2
MAX_BYTES = 8 << 20
"""Of all snapshots. With 100 categories × 100 groups one takes 120 kB, and all 69 take 8.3 MB;
where there are more of them, snapshots lie further apart."""
LEAST_SNAPSHOTS = 2


class Snapshot(Struct, frozen=True, eq=False):
    """What was believed at one moment, as of the last refresh before it."""

    at_ms: int  # by this process's clock
    as_of_ms: int  # to which labels were decayed
    quality: NDArray[np.float32]  # (n_categories, n_groups) posterior means
    n: NDArray[np.float32]  # (n_categories, n_groups) decayed labels, as they were given
    r: NDArray[np.float32]  # (n_categories, n_groups) decayed sum of their rewards

    @property
    def n_bytes(self) -> int:
        """What it takes."""
        return self.quality.nbytes + self.n.nbytes + self.r.nbytes


class NewsSince(NamedTuple):
    """What came to a category since a snapshot, by group."""

    n: NDArray[np.float64]  # (n_groups,) labels, decayed
    r: NDArray[np.float64]  # (n_groups,) sum of their rewards, within [0, n]
    quality: NDArray[np.float64]  # (n_groups,) by how much the posterior mean rose


@dataclass(frozen=True, slots=True)
class _Kept:
    """The snapshots of one configuration, store and state of regimes, the oldest first."""

    configuration: Configuration | None = None
    store: bytes = b""
    regimes: tuple[object, ...] = ()
    at_ms: tuple[int, ...] = ()
    snapshots: tuple[Snapshot, ...] = ()


class BeliefHistory:
    """The snapshots of this process; `note` is for one thread."""

    def __init__(self) -> None:
        self._kept = _Kept()

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._kept.snapshots)

    @property
    def n_bytes(self) -> int:
        """What all of them take."""
        return sum(snapshot.n_bytes for snapshot in self._kept.snapshots)

    def note(self, beliefs: Beliefs, *, now_ms: int, store: bytes = b"") -> None:
        """Take a snapshot of what is believed now, if one is due.

        Args:
            store: incarnation of that which the beliefs were read from.
        """
        kept = self._kept
        regimes = _regimes(beliefs)
        if (
            kept.configuration is not beliefs.configuration
            or kept.store != store
            or kept.regimes != regimes
        ):
            kept = _Kept()
        last_ms = kept.at_ms[-1] if kept.at_ms else None
        if last_ms is not None and now_ms < last_ms:  # the clock was set back
            kept, last_ms = _Kept(), None
        apart = _apart(beliefs)
        if last_ms is not None and now_ms - last_ms < FINE_MS * apart:
            return
        snapshots = (*_thinned(kept.snapshots, now_ms, apart), _taken(beliefs, now_ms))
        times = tuple(snapshot.at_ms for snapshot in snapshots)
        self._kept = _Kept(beliefs.configuration, store, regimes, times, snapshots)

    def first_since(self, beliefs: Beliefs, at_ms: float) -> Snapshot | None:
        """Return the first snapshot at or after a moment, by this process's clock.

        None where there is none, or beliefs are of another configuration. It knows at least what
        was known at that moment: of what came since then it leaves out some, and adds nothing.
        """
        kept = self._kept
        if kept.configuration is not beliefs.configuration:
            return None
        place = bisect_left(kept.at_ms, at_ms)
        return kept.snapshots[place] if place < len(kept.snapshots) else None


def news_since(snapshot: Snapshot, beliefs: Beliefs, category: int) -> NewsSince:
    """Return what came to a category since a snapshot of the same configuration."""
    outlook, task = divmod(category, len(beliefs.configuration.task_index))
    now_n, now_r = _labels(beliefs.outlooks[outlook], beliefs.posterior.arms.n_groups, task)
    passed = (beliefs.as_of_ms - snapshot.as_of_ms) / HALF_LIFE_MS[Family.QUALITY]
    left = 2.0 ** -max(passed, 0.0)
    n = np.maximum(now_n - left * snapshot.n[category], 0.0)
    r = np.clip(now_r - left * snapshot.r[category], 0.0, n)
    return NewsSince(n, r, beliefs.quality_mean[category] - snapshot.quality[category])


def _regimes(beliefs: Beliefs) -> tuple[object, ...]:
    """Return by what it shows that labels count for more or less than they did."""
    return (beliefs.epochs, *(one.regimes.now for one in beliefs.known))


def _apart(beliefs: Beliefs) -> int:
    """Return by how much further apart than usual snapshots lie, so that they keep the bound."""
    each = 3 * 4 * beliefs.quality_mean.size
    most = max(MAX_BYTES // max(each, 1), LEAST_SNAPSHOTS)
    return -(-MOST_SNAPSHOTS // most)


def _thinned(snapshots: tuple[Snapshot, ...], now_ms: int, apart: int) -> list[Snapshot]:
    """Return those that stay beside one that is taken now: the first of each span of time."""
    kept: dict[tuple[bool, int], Snapshot] = {}
    for snapshot in snapshots:
        age_ms = now_ms - snapshot.at_ms
        if age_ms < COARSE_FOR_MS:
            is_fine = age_ms < FINE_FOR_MS
            span_ms = apart * (FINE_MS if is_fine else COARSE_MS)
            kept.setdefault((is_fine, snapshot.at_ms // span_ms), snapshot)
    return list(kept.values())


def _taken(beliefs: Beliefs, now_ms: int) -> Snapshot:
    n_groups = beliefs.posterior.arms.n_groups
    found = [_labels(outlook, n_groups) for outlook in beliefs.outlooks]
    n, r = (np.concatenate(part).astype(np.float32) for part in zip(*found, strict=True))
    quality = beliefs.quality_mean.astype(np.float32)
    return Snapshot(now_ms, beliefs.as_of_ms, quality, n, r)


def _labels(
    outlook: Outlook, n_groups: int, task: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return labels and sums of rewards as they were given; nothing of damaged cells.

    Args:
        task: the row that is wanted, (n_groups,); None: all of them, (n_tasks, n_groups).
    """
    rows = slice(None) if task is None else slice(task, task + 1)
    sound = np.where(outlook.posterior.damaged[rows, :, None], 0.0, outlook.given[rows])
    arms = outlook.posterior.arms
    n, r = (arms.by_group(sound[..., column]) for column in (Q.N, Q.R))
    return (n, r) if task is None else (n[0], r[0])
