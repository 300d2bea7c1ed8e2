"""Chance constraints: what an endpoint must keep with a given probability, judged by posteriors.

A hard limit is never relaxed. Soft ones give way in a fixed order, latency first, then the cost
cap, then the quality floor, until somebody is left to serve the call; of those who are left, the
nearest to what gave way serve it, and it is reported.

Of whom little is known little is asked, even by a hard limit: one that refused the unknown, for
what is known of others, would never let it be known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from bandit.families import L, Q
from bandit.latency import DEFAULT_S
from bandit.posterior import Posterior
from bandit.special import ndtr

FEW_LABELS = 30.0
"""Below so many labels a floor asks for even odds only, or nothing new would ever be tried."""
FIRST_LABELS = 5.0
"""Below so many labels over all categories no floor is asked of a group. UNVALIDATED."""
FEW_TIMED = 8.0
"""Below so many calls that were timed, or timed out, a latency is asked for with even odds only,
and of the usual first guess if that is less than what others take: where nothing was timed the
predictive 95 % lies at 2.5 times the median. UNVALIDATED."""
EVEN_ODDS = 0.5
GOOD_ODDS = 0.8
NEAR = 0.02
"""What comes this near to the nearest counts as near: probability, share of the cost, points."""


class Limit(StrEnum):
    """A kind of limit, in the order in which soft ones give way."""

    LATENCY = "latency"
    COST = "cost"
    QUALITY = "quality"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a strategy asks of every endpoint; None asks nothing."""

    latency_s: float | None = None
    latency_prob: float = 0.95  # of answering within latency_s
    cost_usd: float | None = None  # upper bound of one call
    quality: float | None = None
    hard: frozenset[Limit] = frozenset()

    @property
    def asked(self) -> list[Limit]:
        """The limits that are set, in the order in which they give way."""
        found = []
        if self.latency_s is not None:
            found.append(Limit.LATENCY)
        if self.cost_usd is not None:
            found.append(Limit.COST)
        if self.quality is not None:
            found.append(Limit.QUALITY)
        return found


NO_LIMITS = Limits()


def merged(a: Limits, b: Limits) -> Limits:
    """Return limits that are nowhere looser than either: of each kind the tighter.

    The shorter time with the greater probability, the lower cost, the higher floor; hard where
    either is hard, at the tighter value.
    """
    return Limits(
        latency_s=_tighter(min, a.latency_s, b.latency_s),
        latency_prob=max((x.latency_prob for x in (a, b) if x.latency_s is not None), default=0.95),
        cost_usd=_tighter(min, a.cost_usd, b.cost_usd),
        quality=_tighter(max, a.quality, b.quality),
        hard=frozenset(kind for x in (a, b) for kind in x.asked if kind in x.hard),
    )


def _tighter(
    choose: Callable[[float, float], float], a: float | None, b: float | None
) -> float | None:
    if a is None or b is None:
        return b if a is None else a
    return choose(a, b)


def broken(posterior: Posterior, category: int, limits: Limits) -> list[Limit | None]:
    """Return by arm the first hard limit that it does not keep; None where it keeps them all."""
    out: list[Limit | None] = [None] * len(posterior.arms.group)
    for kind in limits.asked:
        if kind in limits.hard:
            for arm in np.flatnonzero(~keeps(posterior, category, limits, kind)).tolist():
                out[arm] = out[arm] or kind
    return out


def within(
    posterior: Posterior, category: int, limits: Limits, eligible: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], tuple[Limit, ...]]:
    """Return (n_arms,) the eligible arms that keep the limits, and which soft limits gave way.

    With a hard limit that nobody keeps the mask is empty.
    """
    asked = limits.asked
    relaxed: list[Limit] = []
    mask = eligible
    for kind in asked:
        mask = mask & keeps(posterior, category, limits, kind)
    while not mask.any():
        soft = [kind for kind in asked if kind not in limits.hard and kind not in relaxed]
        if not soft:
            return mask, tuple(relaxed)
        relaxed.append(soft[0])
        mask = eligible
        for kind in asked:
            if kind not in relaxed:
                mask = mask & keeps(posterior, category, limits, kind)
    # What gave way still counts among those that are left: whoever comes nearest to it.
    for kind in relaxed:
        mask = mask & _nearest(posterior, category, limits, kind, mask)
    return mask, tuple(relaxed)


def within_by_category(
    posterior: Posterior, limits: Limits, eligible: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return who keeps the limits in each category: (n_categories, n_arms), or as it was given.

    So a review tries and releases nobody who would not be drawn.
    """
    if not limits.asked or not eligible.any():
        return eligible
    categories = range(len(posterior.labels))
    return np.array([within(posterior, category, limits, eligible)[0] for category in categories])


def _nearest(
    posterior: Posterior, category: int, limits: Limits, kind: Limit, left: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return (n_arms,) who comes nearest to a limit that nobody left keeps."""
    if kind is Limit.LATENCY:
        assert limits.latency_s is not None
        closeness = posterior.latency.within(category, limits.latency_s)
        return closeness >= closeness[left].max() - NEAR
    if kind is Limit.COST:
        usd = posterior.cost_bound_usd[category]
        return usd <= usd[left].min() * (1 + NEAR)
    mean = posterior.quality.mean[category][posterior.arms.group]
    return np.asarray(mean >= mean[left].max() - NEAR)


def keeps(posterior: Posterior, category: int, limits: Limits, kind: Limit) -> NDArray[np.bool_]:
    """Return (n_arms,) which arms keep one limit that is asked."""
    if kind is Limit.LATENCY:
        assert limits.latency_s is not None
        sure = posterior.latency.bound(limits.latency_prob)[category]
        even = posterior.latency.bound(min(limits.latency_prob, EVEN_ODDS))[category]
        even = np.minimum(even, DEFAULT_S)
        counts = posterior.evidence.latency[category]
        few = counts[:, L.N] + counts[:, L.N_CENSORED] < FEW_TIMED
        return np.asarray(np.where(few, even, sure) <= limits.latency_s)
    if kind is Limit.COST:
        assert limits.cost_usd is not None
        return np.asarray(posterior.cost_bound_usd[category] <= limits.cost_usd)
    assert limits.quality is not None
    group = posterior.arms.group
    mean, sd = posterior.quality.mean[category], posterior.quality.sd[category]
    labels = np.bincount(group, posterior.labels[category])
    odds = np.where(labels < FEW_LABELS, EVEN_ODDS, GOOD_ODDS)
    known = np.bincount(group, posterior.evidence.quality[..., Q.N].sum(axis=0)) >= FIRST_LABELS
    return np.asarray((~known | (ndtr((mean - limits.quality) / sd) >= odds))[group])
