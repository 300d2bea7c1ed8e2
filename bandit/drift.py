"""Change detection: an endpoint's new labels against its own earlier ones, alarms, and probes.

Labels are looked at in buckets. Of each category the earlier labels of the same regime say what
the new ones should be; the log likelihood ratio "its odds of a success moved by so much" against
"they did not" is summed over categories into one-sided sums that restart at 0. The ratio is
weighed by how well the earlier labels are known: whoever has few of them cannot alarm. After a
fall a further ratio says when the endpoint is as it was before. An alarm opens a new regime;
nothing that was summed is ever edited.

Ref: Page (1954), "Continuous inspection schemes", Biometrika 41; Lorden (1971), Ann. Math. Stat.
42, for likelihood ratios. McCullagh (1983), Ann. Stat. 11, for the division by the dispersion,
where rewards vary less than coins. We deviate by an estimated level before the change.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

BUCKET_MS = 1_000
"""A look is no more often: at 150 calls a second the best endpoint has fifty labels by then, which
is as many as a fall by 30 points takes."""
DETECTORS = ((-0.5, 10.0), (-1.4, 11.5), (0.5, 10.5), (1.4, 12.0))
"""Moves of the log odds that are watched for, and log likelihood ratios that are alarms.

From a quality of .8 the falls are 10 and 31 points, told after 340 and 48 labels (medians of 60
streams, 2,500 labels before, in eight tasks). All four together raised 2 false alarms in 800,000
labels at qualities of .5, .8, .95 and .98, from the first label on."""
UNKNOWN_N = 5.0
"""Earlier labels by which a level counts half as known, for a single new one."""
PRIOR_N = 2.0
"""Labels that the posterior's own mean counts for beside an endpoint's earlier ones."""
MEAN_RANGE = (0.002, 0.998)
DISPERSION_N = 8.0
"""Fair coin flips that the measured spread of rewards is mixed with."""
LEAST_DISPERSION = 0.05
"""Of rewards that vary as little as the finest judge's do."""
KEPT = 2.0
"""Labels that the earlier regimes of a cell still count for, at most."""
NO_CHANGE_N = 2.0
"""Made-up labels that nothing changed, in the estimate of how far rewards moved."""
RECALL_THRESHOLD = 4.0
"""Log likelihood ratio "as before the alarm" against "as since" at which it is over."""
LEAST_RECALL_LOGIT = 0.5
"""A fall that was smaller than this is told apart from none as if it had been this."""
PROBE_SHARE, PROBE_SHARE_HOPEFUL = 0.06, 0.2
HOPEFUL = 0.5
"""Log likelihood ratio from which on probes go on, and more often."""
PROBE_BUCKETS = 60_000 // BUCKET_MS
"""A probe lasts a minute."""
FIRST_GAP, LONGEST_GAP = 4 * PROBE_BUCKETS, 8 * PROBE_BUCKETS
"""Buckets between two probes after an alarm: 4 minutes, then 8."""


class AlarmKind(StrEnum):
    """What changed."""

    DOWN = "down"
    UP = "up"
    RESTORED = "restored"


@dataclass(frozen=True, eq=False)
class News:
    """An endpoint's labels since the last look, beside what is known of it; (n_categories,) each.

    Earlier labels are those of the present regime, decayed.
    """

    n: NDArray[np.float64]
    r: NDArray[np.float64]  # Σ reward
    known_n: NDArray[np.float64]  # earlier labels
    known_r: NDArray[np.float64]
    known_r2: NDArray[np.float64]
    believed: NDArray[np.float64]  # posterior mean reward
    before: NDArray[np.float64]  # mean reward before the last fall; NaN where there was none

    @cached_property
    def mean(self) -> NDArray[np.float64]:
        """What a new label is expected to be."""
        prior = np.clip(self.believed, *MEAN_RANGE)
        mean = (self.known_r + PRIOR_N * prior) / (self.known_n + PRIOR_N)
        return np.clip(mean, *MEAN_RANGE)

    @cached_property
    def dispersion(self) -> float:
        """Variance of a reward as a share of a coin's, over all categories; 1 of coins."""
        n = np.maximum(self.known_n, 1e-9)
        share = np.clip(self.known_r / n, 0.0, 1.0)
        flips = float((n * share * (1 - share)).sum())
        within = float(np.maximum(self.known_r2 - self.known_r * share, 0.0).sum())
        made_up = DISPERSION_N / 4
        return float(np.clip((within + made_up) / (flips + made_up), LEAST_DISPERSION, 1.0))

    @cached_property
    def expected(self) -> float:
        """Σ reward that the new labels are expected to have, over all categories."""
        return float((self.n * self.mean).sum())

    @property
    def trust(self) -> NDArray[np.float64]:
        """Share of the new labels' information that counts, the expectation being no better known.

        All new labels of a category are compared with one estimate: its error is in each of them.
        """
        return self.known_n / (self.known_n + self.n + UNKNOWN_N)

    def ratio(
        self,
        mean: NDArray[np.float64],
        other: NDArray[np.float64],
        weight: NDArray[np.float64] | float = 1.0,
    ) -> float:
        """Return the log likelihood ratio of `other` against `mean`, summed over categories."""
        mean, other = np.clip(mean, *MEAN_RANGE), np.clip(other, *MEAN_RANGE)
        won, lost = np.log(other / mean), np.log((1 - other) / (1 - mean))
        gain = self.r * won + (self.n - self.r) * lost
        return float((weight * gain).sum()) / self.dispersion


@dataclass(frozen=True, slots=True)
class Alarm:
    """A change, with its evidence."""

    kind: AlarmKind
    from_bucket: int  # when the sum last left 0
    labels: float  # since then
    moved: float  # Σ (reward − expected) since then
    expected: float  # Σ expected reward

    @property
    def mean_residual(self) -> float:
        """By how many sd of a single coin flip each label differed from what was expected."""
        n = max(self.labels, 1.0)
        mean = float(np.clip(self.expected / n, *MEAN_RANGE))
        return float(self.moved / n / (mean * (1 - mean)) ** 0.5)

    @property
    def level(self) -> float:
        """By what factor rewards moved; shrunk to 1."""
        n = max(self.labels, 1.0)
        mean = max(self.expected / n, MEAN_RANGE[0])
        return float(np.clip(1 + self.moved / (n + NO_CHANGE_N) / mean, 0.0, 2.0))


@dataclass(frozen=True, slots=True)
class Sum:
    """A sum that restarts at 0, with what it was made of since it last left 0."""

    value: float = 0.0
    since: int = 0
    count: float = 0.0
    moved: float = 0.0
    expected: float = 0.0

    def add(self, step: float, news: News, *, bucket: int) -> Sum:
        """Return the sum once a bucket was added."""
        begun = self if self.value > 0 else Sum(0.0, bucket)
        return Sum(
            max(0.0, begun.value + step),
            begun.since,
            begun.count + float(news.n.sum()),
            begun.moved + float(news.r.sum()) - news.expected,
            begun.expected + news.expected,
        )


NO_SUMS = (Sum(),) * len(DETECTORS)


@dataclass(frozen=True, slots=True)
class Watch:
    """What the watcher knows of one endpoint: a function of its closed buckets."""

    sums: tuple[Sum, ...] = NO_SUMS  # one a detector
    recall: Sum = Sum()
    suspect: bool = False  # a downward alarm is in force
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


def close_bucket(watch: Watch, bucket: int, news: News, *, level: float) -> Watch:
    """Return the watch once a bucket is folded in.

    Args:
        bucket: its number; rises from call to call.
        level: the factor by which rewards moved at the last alarm.
    """
    sums = watch.sums
    if news.n.any():
        mean, trust = news.mean, news.trust
        steps = [news.ratio(mean, moved_by(mean, logit), trust) for logit, _ in DETECTORS]
        sums = tuple(s.add(step, news, bucket=bucket) for s, step in zip(sums, steps, strict=True))
    recall = Sum()
    if watch.suspect:
        recall = watch.recall.add(_as_before(news, level), news, bucket=bucket)
    gap, next_probe, probing = watch.gap, watch.next_probe, watch.probing
    if probing and bucket + 1 >= next_probe + PROBE_BUCKETS and recall.value < HOPEFUL:
        gap = min(2 * gap, LONGEST_GAP)
        next_probe, probing = bucket + gap, False
    if watch.suspect and not probing and bucket + 1 >= next_probe:
        next_probe, probing = bucket + 1, True
    return replace(watch, sums=sums, recall=recall, gap=gap, next_probe=next_probe, probing=probing)


def _as_before(news: News, level: float) -> float:
    """Return the log likelihood ratio "as before the fall" against "as since"."""
    known = np.isfinite(news.before) & (news.n > 0)
    before = np.clip(np.where(known, news.before, 0.5), *MEAN_RANGE)
    since = np.minimum(before * level, moved_by(before, -LEAST_RECALL_LOGIT))
    return news.ratio(since, before, known.astype(np.float64))


def moved_by(mean: NDArray[np.float64], logit: float) -> NDArray[np.float64]:
    """Return the means whose log odds are higher by `logit`."""
    odds = mean / (1 - mean) * np.exp(logit)
    return np.asarray(odds / (1 + odds))


def alarm(watch: Watch) -> Alarm | None:
    """Return the alarm that the sums raise, if any."""
    found = [(AlarmKind.RESTORED, watch.recall, RECALL_THRESHOLD)]
    for (logit, threshold), one in zip(DETECTORS, watch.sums, strict=True):
        found.append((AlarmKind.DOWN if logit < 0 else AlarmKind.UP, one, threshold))
    for kind, one, threshold in found:
        if one.value > threshold:
            return Alarm(kind, one.since, one.count, one.moved, one.expected)
    return None


def after(raised: Alarm, bucket: int) -> Watch:
    """Return the watch after an alarm: its sums restart; a fall is followed by probes."""
    if raised.kind is not AlarmKind.DOWN:
        return Watch()
    return Watch(suspect=True, next_probe=bucket + 1 + FIRST_GAP)


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
