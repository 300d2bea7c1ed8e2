"""What a comparison shows: a gain, a trade, not worth it, or nothing yet. Pure.

Rests on units that chance assigned to a side, and on nothing else. Intervals are confidence
sequences: they hold at every look at once, however often that is.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

COMPARED = np.dtype(
    [
        ("sequence", "<u8"),  # digest of the trial, and of whether it is its hold-out
        ("task", "<u8"),
        ("day", "<i4"),  # since the epoch
        ("bucket", "<u2"),  # of clusters: a whole cluster is in one, by its digest
        ("is_control", "?"),  # served as the incumbent
        ("units", "<u4"),  # that began that day
        ("calls", "<u4"),  # with a price; those that ask the same again count with the first
        ("unpriced", "<u4"),  # calls of which nobody knows what they cost; their labels count
        ("labelled", "<u4"),  # calls with a quality label, or completed episodes
        ("reward", "<f8"),  # Σ over the labelled
        ("cost_usd", "<f8"),  # of all calls, with what came after them
        ("labelled_cost_usd", "<f8"),  # of the labelled alone
        ("wall_s", "<f8"),  # of completed episodes
    ]
)
"""Sums of one side of a stratum (task × day) and bucket of clusters; they add.

Of an app's trial that is judged by episodes each is one call, of task `EPISODES`.
"""
EPISODES = 0
"""In place of a task: an app's whole episodes."""
N_BUCKETS = 4096


class Measure(StrEnum):
    """What two sides are compared by."""

    UTILITY = "utility"  # share of the value of a success
    QUALITY = "quality"  # mean reward, in [0, 1]
    COST_PER_SUCCESS = "cost per success"  # relative: -.12 is 12 % cheaper
    WALL_TIME = "wall time"  # relative


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
