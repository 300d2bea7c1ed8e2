"""What a comparison shows: a gain, a trade, not worth it, or nothing yet. Pure.

Rests on units that chance assigned to a side, and on nothing else. Intervals are confidence
sequences: they hold at every look at once, however often that is.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from bandit.compared import (
    LEAST_CLUSTERS,
    MOST_RELATIVE,
    RELATIVE,
    Measure,
    SideDifference,
    TwoSides,
    two_sides,
)
from bandit.sequences import FIRST_READ, reach

ALPHA = 0.05
"""Share of verdicts that may claim at some look what is not so: of the sentence on top."""
WORTH = {
    Measure.UTILITY: 0.005,
    Measure.QUALITY: 0.005,
    Measure.COST_PER_SUCCESS: 0.02,
    Measure.WALL_TIME: 0.02,
}
"""A gain below this is not worth a change."""
FURTHEST = 100.0
"""Times the units so far: who needs more is told nothing of how many."""


class VerdictKind(StrEnum):
    """What a verdict says."""

    KEEP = "keep"  # not worth it here
    GAINS = "gains"
    TRADE = "trade"  # one measure better, another worse, both shown
    NOT_SHOWN = "not shown yet"


class Basis(StrEnum):
    """What a verdict rests on."""

    TRIAL = "trial"
    HOLDOUT = "hold-out"
    NOTHING = "nothing"  # no trial, and no hold-out


class Lack(StrEnum):
    """Why nothing is read yet."""

    UNITS = "units"  # fewer than FIRST_READ on a side
    LABELS = "labels"  # fewer units than that have one
    CLUSTERS = "clusters"  # a few users are nearly all that there is


@dataclass(frozen=True, slots=True)
class Difference:
    """The challenger's side less the incumbent's, by one measure, with its sequence's interval."""

    measure: Measure
    mean: float
    low: float
    high: float
    is_better_higher: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is shown of one comparison, or of several together."""

    kind: VerdictKind
    basis: Basis
    differences: tuple[Difference, ...] = ()  # none below 200 units a side
    units: tuple[int, int] = (0, 0)  # the incumbent's side, the other's
    labelled: tuple[int, int] = (0, 0)
    needed: int | None = None  # units more, about, until something is shown; None: not known
    checked: float | None = None  # the same difference in quality, doubly robust; None: not known
    at_ms: int = 0
    ended_ms: int = 0  # of a trial that is over
    lacks: Lack | None = None  # why there are no differences


def verdict(
    rows: NDArray[np.void],
    *,
    basis: Basis,
    alpha: float = ALPHA,
    value_usd: float | None = None,
    is_of_app: bool = False,
    checked: float | None = None,
    at_ms: int = 0,
    ended_ms: int = 0,
) -> Verdict:
    """Return what two sides show, at any look.

    Args:
        rows: (n,) of COMPARED, of one sequence.
        alpha: for all measures together; each has an equal share of it.
        value_usd: what a success is worth. With one, utility alone decides.
        is_of_app: quality, cost per success and wall time decide together, with or without a value.
        checked: the difference in quality by another estimator; carried along, decides nothing.
    """
    sides, found = compared(rows, alpha=alpha, value_usd=value_usd, is_of_app=is_of_app)
    kind = kind_of(found)
    share = alpha / len(measures_of(value_usd, is_of_app=is_of_app))
    return Verdict(
        kind=kind,
        basis=basis,
        differences=found,
        units=sides.units,
        labelled=sides.labelled,
        needed=_needed(sides, share) if kind is VerdictKind.NOT_SHOWN else None,
        checked=checked,
        at_ms=at_ms,
        ended_ms=ended_ms,
        lacks=None if found else _lack(sides),
    )


def compared(
    rows: NDArray[np.void],
    *,
    alpha: float = ALPHA,
    value_usd: float | None = None,
    is_of_app: bool = False,
) -> tuple[TwoSides, tuple[Difference, ...]]:
    """Return what there is of two sides, and the intervals of what decides; arguments as above."""
    measures = measures_of(value_usd, is_of_app=is_of_app)
    sides = two_sides(rows, measures, value_usd=value_usd, by_episode=is_of_app)
    return sides, intervals(sides, alpha / len(measures))


def row_alpha(n_compared: int) -> float:
    """Return the alpha of one task's row: what the rows share, by those that have a comparison.

    A row without a trial or hold-out claims nothing, so it takes no share.
    """
    return ALPHA / max(n_compared, 1)


def measures_of(value_usd: float | None, *, is_of_app: bool) -> tuple[Measure, ...]:
    """Return what decides; each has a sequence at an equal share of alpha."""
    if is_of_app:
        return Measure.QUALITY, Measure.COST_PER_SUCCESS, Measure.WALL_TIME
    if value_usd:
        return (Measure.UTILITY,)
    return Measure.QUALITY, Measure.COST_PER_SUCCESS


def intervals(sides: TwoSides, alpha: float, times: float = 1.0) -> tuple[Difference, ...]:
    """Return each difference with the interval of its own sequence.

    A measure that rests on too few clusters has the whole range.

    Args:
        times: as of so many times the units, if all went on as it did.
    """
    return tuple(_interval(one, sides.effective, alpha, times) for one in sides.differences)


def _interval(one: SideDifference, units: float, alpha: float, times: float) -> Difference:
    half = float(np.inf)
    if one.clusters * times >= LEAST_CLUSTERS:
        errors = float(reach(units * times, alpha, one.clusters * times))
        half = one.error / times**0.5 * errors
    ends = [one.mean, one.mean - half, one.mean + half]
    lowest, highest = -MOST_RELATIVE, MOST_RELATIVE
    if one.measure in RELATIVE:
        lowest = -1.0
        ends = [float(np.expm1(min(end, np.log1p(highest)))) for end in ends]
    elif one.measure is Measure.QUALITY:
        lowest, highest = -1.0, 1.0
    mean, low, high = (min(max(end, lowest), highest) for end in ends)
    return Difference(one.measure, mean, low, high, is_better_higher=one.measure not in RELATIVE)


def kind_of(differences: tuple[Difference, ...]) -> VerdictKind:
    """Return what intervals carry, in the order in which it is said.

    Not worth it, if even the best that each measure may be is not worth a change, although some
    may be above 0 for sure. A gain, if one is above 0 for sure and no other may be worse than by
    what is not worth a change. A trade, if one is better for sure and another worse.
    """
    ends = [
        (one.low, one.high, WORTH[one.measure])
        if one.is_better_higher
        else (-one.high, -one.low, WORTH[one.measure])
        for one in differences
    ]
    if ends and all(high < worth for _, high, worth in ends):
        return VerdictKind.KEEP
    is_better = any(low > 0 for low, _, _ in ends)
    if is_better and all(low >= -worth for low, _, worth in ends):
        return VerdictKind.GAINS
    if is_better and any(high < 0 for _, high, _ in ends):
        return VerdictKind.TRADE
    return VerdictKind.NOT_SHOWN


def _lack(sides: TwoSides) -> Lack:
    if min(sides.units) < FIRST_READ:
        return Lack.UNITS
    return Lack.LABELS if min(sides.readable) < FIRST_READ else Lack.CLUSTERS


def _needed(sides: TwoSides, alpha: float) -> int | None:
    """Return about how many units more, if all goes on as it did; None: nobody knows."""
    total = sum(sides.units)
    if not sides.differences:
        if _lack(sides) is Lack.CLUSTERS:
            return None
        least = min(sides.readable)
        if least:
            return int(np.ceil(total * (FIRST_READ - least) / least))
        return max(2 * FIRST_READ - total, 0) or None
    for times in np.geomspace(1.0, FURTHEST, 60)[1:].tolist():
        if kind_of(intervals(sides, alpha, times)) is not VerdictKind.NOT_SHOWN:
            return int(np.ceil(total * (times - 1)))
    return None
