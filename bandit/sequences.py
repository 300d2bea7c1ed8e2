"""Intervals that hold at every look at once, and how small a difference they can show. Pure.

A page that is looked at all the time is a test without an end: of a hundred intervals of 95 %, read
every day, far more than five miss once. A confidence sequence misses in 5 of 100 comparisons at
any look at all, however many there are.

Time is counted in units: what both sides together weigh if they were equally large. Nothing is
read before `FIRST_READ` of a side, so the boundary pays for no look before that.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bandit.special import ndtr, ndtri, stdtrit

FIRST_READ = 200
"""Units with a label on each side before anything is read: means of so many are normal enough."""
BEGINS = 2.0 * FIRST_READ
TUNED = 0.3
"""Of `BEGINS`: the variance of the mixture. Of all choices it is the narrowest at 1,800 units,
where 5 to 7 points of quality show; from 800 to 4,000 units, in which a trial is mostly decided, it
is within 2.5 % of the narrowest that there is."""
POWER = 0.8


def effective_units(control: float, treated: float) -> float:
    """Return the units of a comparison of two equal halves that would tell as much."""
    return 4.0 / (1.0 / control + 1.0 / treated) if min(control, treated) > 0 else 0.0


def boundary(units: NDArray[np.float64] | float, alpha: float) -> NDArray[np.float64]:
    """Return how many standard errors to each side an interval reaches, at any look.

    `|W(t)| ≤ √t·boundary(t)` for all t ≥ BEGINS at once with probability 1 − alpha, W a Brownian
    motion, exactly; of means it holds as that of so many units is one (Waudby-Smith and others).

    Args:
        units: effective units at the look; fewer than BEGINS count as that.
        alpha: share of comparisons that may miss at any look.

    Ref: Robbins (1970), the normal mixture; Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2024),
    Annals of Statistics 52, Theorem 2.8: sums of clusters instead of W, and a first look that is
    not the first unit. That no look before it need be paid for, as here, is Bibaut, Kallus and
    Lindon (2022), arXiv:2212.14411.
    """
    t = np.maximum(np.asarray(units, dtype=np.float64) / BEGINS, 1.0)
    level = _mixture_level(alpha)
    return np.asarray(np.sqrt((1 + TUNED / t) * np.log((t + TUNED) / (TUNED * level**2))))


def miss_probability(level: float) -> float:
    """Return how often the mixture of a Brownian motion reaches 1 ÷ level at any t ≥ 1.

    It is there at t = 1 already, or, a martingale that ends at 0, gets there from M with
    probability M·level: the mean of it over what is left is the mixture's own probability.
    """
    reach = (1 + TUNED) * (math.log((1 + TUNED) / TUNED) - 2 * math.log(level))
    edge = math.sqrt(max(reach, 0.0))
    spread = math.sqrt(1 + 1 / TUNED)  # of W(1) under the mixture
    return float(2 * ndtr(-edge) + level * (1 - 2 * ndtr(-edge / spread)))


@lru_cache(maxsize=256)
def _mixture_level(alpha: float) -> float:
    """Return the level at which the mixture is crossed with probability `alpha` from t = 1 on."""
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha is {alpha}; it must lie above 0 and below .5")
    low, high = alpha / 2, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if miss_probability(middle) < alpha else (low, middle)
    return low


def reach(units: NDArray[np.float64] | float, alpha: float, clusters: float) -> NDArray[np.float64]:
    """Return the same where the standard error was itself worked out from few clusters.

    Args:
        clusters: as many equally large ones would tell as much; the tail is that of Student's t.
    """
    tail = ndtr(-boundary(units, alpha))
    return np.asarray(-stdtrit(max(clusters - 1, 1.0), tail))


def smallest_difference(
    labelled_per_day: float,
    variance: float,
    days: float,
    alpha: float = 0.05,
    *,
    power: float = POWER,
    treated: float = 0.5,
) -> float:
    """Return the smallest true difference that is shown by the end with this probability.

    What is shown on the way and lost again counts as well, so the probability is a little higher.

    Args:
        labelled_per_day: units with a label, of both sides together.
        variance: of the reward of a labelled unit, as `unit_variance` has it.
        days: how long the trial lasts.
        treated: share of the units that goes to the challenger.
    Returns:
        In the reward's unit; infinite where a side has too few units in all to be read.
    """
    total = labelled_per_day * days
    sides = (total * (1 - treated), total * treated)
    if min(sides) < FIRST_READ:
        return math.inf
    units = effective_units(*sides)
    error = math.sqrt(4 * variance / units)
    return error * (float(boundary(units, alpha)) + float(ndtri(power)))


def fixed_error(difference: float, alpha: float = 0.05) -> float:
    """Return the standard error of a test that is looked at once, at a time fixed before.

    It shows this difference with power `POWER`; two-sided.
    """
    return float(difference / (ndtri(1 - alpha / 2) + ndtri(POWER)))


def unit_variance(labelled: NDArray[np.float64], reward: NDArray[np.float64]) -> float:
    """Return the variance that a unit's mean reward counts with, its calls being alike.

    Args:
        labelled: (n_units,) labels of each unit.
        reward: (n_units,) their sum.
    Returns:
        Such that variance ÷ n is that of Σ reward ÷ Σ labelled over n units; 0 of none.
    """
    n, total = int((labelled > 0).sum()), float(labelled.sum())
    if n < 2:
        return 0.0
    rest = reward - float(reward.sum()) / total * labelled
    return float((rest**2).sum()) * n / (n - 1) * n / total**2
