"""What opens below a task of the page: its endpoints, the best first, with what is believed. Pure.

A curve is a density on points of its own; faces scale it. Beyond `MOST_CURVES` endpoints none is
drawn: nobody compares more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bandit.report import Interval, Signal, TaskLine

MOST_CURVES = 12
N_POINTS = 32
REACH_SD = 3.5
"""Of a curve on either side: what lies beyond is too low to be seen."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A density: `at` rises; heights are above those of nothing, in no unit: faces scale them."""

    at: tuple[float, ...]
    height: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class EndpointLine:
    """What is believed of an endpoint in a task; None where nothing is."""

    endpoint: str
    quality: Interval | None  # in [0, 1], 90 %
    p_best: float | None
    cost_per_success_usd: float | None
    latency_p50_s: float | None
    latency_p95_s: float | None
    calls: int
    labels: int  # ever given; never fewer as calls grow
    share: float | None  # of the task's calls in the period
    is_inferred: bool  # it has no label of its own here: other tasks and models say so
    is_current: bool = False
    is_incumbent: bool = False
    quality_curve: Curve | None = None
    latency_curve: Curve | None = None  # of the next call, in seconds
    shares: tuple[float | None, ...] = ()  # by day, the oldest first; None: no call that day
    note: str = ""  # one clause: split off, suspended, damaged


@dataclass(frozen=True, slots=True)
class TaskDetail:
    """A task that was opened."""

    line: TaskLine
    endpoints: tuple[EndpointLine, ...]  # the best first
    first_day_ms: int = 0  # the begin of the day of the first of all `shares`
    signals: tuple[Signal, ...] = ()
    notes: tuple[str, ...] = ()


def quality_curve(mean: float, sd: float) -> Curve:
    """Return the density of a quality in [0, 1] by the normal that is believed of it.

    Raises:
        ValueError: sd is not above 0.
    """
    if not sd > 0:
        raise ValueError(f"sd is {sd}; it must be above 0")
    low, high = max(mean - REACH_SD * sd, 0.0), min(mean + REACH_SD * sd, 1.0)
    at = np.linspace(low, max(high, low + 1e-6), N_POINTS)
    return _curve(at, np.exp(-0.5 * ((at - mean) / sd) ** 2))


def latency_curve(ln_mean: float, scale: float, freedom: float) -> Curve:
    """Return the predictive density of a latency over ln(seconds), as Student's t has it.

    Args:
        ln_mean: of ln(seconds).
        scale: of the predictive, in ln(seconds).
        freedom: its degrees of freedom.

    Raises:
        ValueError: scale or freedom is not above 0.
    """
    if not (scale > 0 and freedom > 0):
        raise ValueError(f"scale is {scale}, freedom {freedom}; both must be above 0")
    z = np.linspace(-REACH_SD, REACH_SD, N_POINTS)
    height = (1 + z**2 / freedom) ** (-(freedom + 1) / 2)
    return _curve(np.exp(np.clip(ln_mean + scale * z, -700, 700)), height)


def _curve(at: NDArray[np.float64], height: NDArray[np.float64]) -> Curve:
    """Return a curve of which only what can be told apart is kept: four digits."""
    return Curve(tuple(map(_short, at.tolist())), tuple(round(h, 4) for h in height.tolist()))


def _short(x: float) -> float:
    digits = 3 - math.floor(math.log10(abs(x))) if x else 0
    return round(x, min(max(digits, 0), 12))
