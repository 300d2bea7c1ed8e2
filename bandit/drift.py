"""Change detection: residuals in order-free buckets, alarms, regimes, and probes afterwards.

Each label leaves its residual against the prediction that its decision carried, summed by
(endpoint, minute). A watcher folds closed buckets, in the order of time, into one `Watch` an
endpoint: a two-sided CUSUM, and after an alarm a likelihood ratio that says when the endpoint is
as it was before. An alarm opens a new regime; nothing that was summed is ever edited.

Ref: Page (1954), "Continuous inspection schemes", Biometrika 41, for CUSUM; Lorden (1971) for the
likelihood ratio form. We deviate by clipping residuals and by summing them over a bucket first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

BUCKET_MS = 60_000
SLACK = 0.4
"""k, per label, in sd: half the shift that is worth catching."""
THRESHOLD = 12.0
"""h. On recorded calls without a change 0 to .25 false alarms in 10,000, and .9 on bfcl from cold,
where a cell has few labels to predict from."""
CLIP = 4.0
LEAST_SD = 0.3
"""A lone failure in a cell of .97 then counts 3.2 sd, not more than 4."""
KEPT = 2.0
"""Labels that the earlier regimes of a cell still count for, at most."""
NO_CHANGE_N = 2.0
"""Made-up labels that nothing changed, in the estimate of how far rewards moved."""
RECALL_THRESHOLD = 4.0
"""Log likelihood ratio "as before the alarm" against "as since" at which it is over."""
SHIFT_RANGE = (0.4, 1.5)
PROBE_SHARE, PROBE_SHARE_HOPEFUL = 0.06, 0.2
HOPEFUL = 0.5
"""Log likelihood ratio from which on probes go on, and more often."""
FIRST_GAP, LONGEST_GAP = 4, 8
"""Buckets between two probing ones after an alarm: 4, 8, 8, …"""


class AlarmKind(StrEnum):
    """What changed."""

    DOWN = "down"
    UP = "up"
    RESTORED = "restored"


@dataclass(frozen=True, slots=True)
class Alarm:
    """A change, with its evidence."""

    kind: AlarmKind
    from_bucket: int  # when the sum last left 0
    labels: float  # since then
    mean_residual: float  # since then, in sd of one reward


@dataclass(frozen=True, slots=True)
class Sum:
    """A sum that restarts at 0, with what it was made of since it last left 0."""

    value: float = 0.0
    since: int = 0
    count: float = 0.0
    residual: float = 0.0

    def add(self, step: float, *, bucket: int, count: float, residual: float) -> Sum:
        """Return the sum once a bucket was added."""
        begun = self if self.value > 0 else Sum(0.0, bucket)
        value = max(0.0, begun.value + step)
        return Sum(value, begun.since, begun.count + count, begun.residual + residual)


@dataclass(frozen=True, slots=True)
class Watch:
    """What the watcher knows of one endpoint: a function of its closed buckets."""

    low: Sum = Sum()
    high: Sum = Sum()
    recall: Sum = Sum()
    suspect: bool = False  # a downward alarm is in force
    shift: float = 0.0  # by how many sd it stood higher before
    gap: int = FIRST_GAP
    next_probe: int = 0
    probing: bool = False

    @property
    def probe_share(self) -> float:
        """Share of the calls of the coming bucket that are to go to this endpoint."""
        if not self.probing:
            return 0.0
        return PROBE_SHARE_HOPEFUL if self.recall.value >= HOPEFUL else PROBE_SHARE


CALM = Watch()
"""Of an endpoint that shows no change."""


def residual(
    reward: NDArray[np.float64] | float,
    mean: NDArray[np.float64] | float,
    sd: NDArray[np.float64] | float,
) -> NDArray[np.float64]:
    """Return (reward − prediction) ÷ sd of a single reward, clipped."""
    return np.clip((reward - np.clip(mean, 0, 1)) / np.maximum(sd, LEAST_SD), -CLIP, CLIP)


def close_bucket(watch: Watch, bucket: int, *, count: float, total: float) -> Watch:
    """Return the watch once a bucket is folded in.

    Args:
        bucket: its number; rises from call to call.
        count, total: labels in it, and the sum of their residuals.
    """
    slack = SLACK * count
    recall = Sum()
    if watch.suspect:
        step = watch.shift * total - count * watch.shift**2 / 2
        recall = watch.recall.add(step, bucket=bucket, count=count, residual=total)
    gap, next_probe, probing = watch.gap, watch.next_probe, watch.probing
    if probing and recall.value < HOPEFUL:  # else it goes on in the next bucket
        gap = min(2 * gap, LONGEST_GAP)
        next_probe, probing = bucket + gap, False
    if watch.suspect and not probing and bucket + 1 >= next_probe:
        probing = True
    return replace(
        watch,
        low=watch.low.add(-total - slack, bucket=bucket, count=count, residual=total),
        high=watch.high.add(total - slack, bucket=bucket, count=count, residual=total),
        recall=recall,
        gap=gap,
        next_probe=next_probe,
        probing=probing,
    )


def alarm(watch: Watch) -> Alarm | None:
    """Return the alarm that the sums raise, if any."""
    for kind, found, threshold in (
        (AlarmKind.RESTORED, watch.recall, RECALL_THRESHOLD),
        (AlarmKind.DOWN, watch.low, THRESHOLD),
        (AlarmKind.UP, watch.high, THRESHOLD),
    ):
        if found.value > threshold:
            return Alarm(kind, found.since, found.count, found.residual / max(found.count, 1.0))
    return None


def level(raised: Alarm, *, mean: float, sd: float) -> float:
    """Return by what factor rewards moved, given the endpoint's usual mean and sd of a reward."""
    moved = raised.labels * raised.mean_residual * max(sd, LEAST_SD)
    return float(np.clip(1 + moved / (raised.labels + NO_CHANGE_N) / max(mean, 0.02), 0.0, 2.0))


def shift(level: float, *, mean: float, sd: float) -> float:
    """Return by how many sd of a reward at the new level the old one differs from it.

    The sd changes with the level as that of a coin does.
    """
    before, now = (float(np.clip(m, 0.02, 0.98)) for m in (mean, mean * level))
    spread = sd * (now * (1 - now) / (before * (1 - before))) ** 0.5
    return float(np.clip((before - now) / max(spread, LEAST_SD), *SHIFT_RANGE))


def after(raised: Alarm, bucket: int, *, shift: float) -> Watch:
    """Return the watch after an alarm: its sums restart; a fall is followed by probes."""
    if raised.kind is not AlarmKind.DOWN:
        return Watch()
    return Watch(suspect=True, shift=shift, next_probe=bucket + 1 + FIRST_GAP)


def kept(
    n: NDArray[np.float64], r: NDArray[np.float64], r2: NDArray[np.float64], factor: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return what earlier regimes count for: few labels, their level moved by a factor.

    Args:
        n, r, r2: (n_categories,) labels, Σ reward, Σ reward² of the earlier regimes.
    """
    share = np.minimum(1.0, KEPT / np.maximum(n, 1e-9))
    moved = np.clip(r * factor, 0.0, n)
    scale = np.divide(moved, r, out=np.ones_like(r), where=r > 0)
    return n * share, moved * share, np.minimum(r2 * scale, moved) * share
