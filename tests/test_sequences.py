"""Intervals that hold at every look: their boundary, and what a trial can show under it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm, t

from bandit.sequences import (
    BEGINS,
    FIRST_READ,
    POWER,
    TUNED,
    boundary,
    effective_units,
    fixed_error,
    miss_probability,
    reach,
    smallest_difference,
    unit_variance,
)


def paths(n: int, drift: float, times: np.ndarray, seed: int) -> np.ndarray:
    """Brownian motion with drift at these times, (n, n_times)."""
    steps = np.diff(times, prepend=0.0)
    moves = np.random.default_rng(seed).normal(size=(n, len(times))) * np.sqrt(steps)
    return np.asarray(moves.cumsum(axis=1) + drift * times)


@pytest.mark.parametrize("alpha", [0.05, 0.025, 0.05 / 12])
def test_the_boundary_is_crossed_as_often_as_is_said(alpha: float) -> None:
    """The mixture's own integral is the referee, then paths that are looked at without end."""
    units = BEGINS * np.geomspace(1, 200, 3000)
    edge = boundary(units, alpha)
    level = math.sqrt(TUNED / (1 + TUNED)) * math.exp(float(edge[0]) ** 2 / (2 * (1 + TUNED)))

    inside = quad(
        lambda w: math.sqrt(TUNED / (1 + TUNED)) * math.exp(w**2 / (2 * (1 + TUNED))) * norm.pdf(w),
        -edge[0],
        edge[0],
    )[0]
    crossed = (abs(paths(4000, 0.0, units, 3)) > edge * np.sqrt(units)).any(axis=1).mean()

    assert 2 * norm.sf(edge[0]) + inside / level == pytest.approx(alpha, rel=1e-6)
    assert miss_probability(1 / level) == pytest.approx(alpha, rel=1e-6)
    # Of an endless look two hundred times as long as the first one, at 3,000 of its moments.
    assert 0.5 * alpha < crossed < alpha + 3 * math.sqrt(alpha / 4000)


def test_the_boundary_lies_above_a_single_look_and_rises_as_less_may_miss() -> None:
    units = np.array([400.0, 1000.0, 1800.0, 20000.0])

    assert (boundary(units, 0.05) > norm.isf(0.025) + 1).all()
    assert (boundary(units, 0.025) > boundary(units, 0.05)).all()
    assert boundary(1.0, 0.05) == boundary(BEGINS, 0.05)
    assert boundary(1800.0, 0.05) == pytest.approx(3.02, abs=0.02)
    for alpha in (0.0, 0.5, math.nan):
        with pytest.raises(ValueError, match="alpha is"):
            boundary(1000.0, alpha)


def test_of_few_clusters_it_reaches_further_by_students_t() -> None:
    edge = float(boundary(1000.0, 0.05))

    assert reach(1000.0, 0.05, 41.0) == pytest.approx(t.isf(norm.sf(edge), 40))
    assert reach(1000.0, 0.05, 1e7) == pytest.approx(edge, rel=1e-4)


def test_a_trial_shows_its_smallest_difference_as_often_as_is_said() -> None:
    per_day, variance, days = 150.0, 0.2, 14.0
    smallest = smallest_difference(per_day, variance, days)

    units = np.arange(BEGINS, per_day * days + 1, 10.0)
    drift = smallest / math.sqrt(4 * variance)
    seen = paths(4000, drift, units, 5) > boundary(units, 0.05) * np.sqrt(units)

    assert 0.04 < smallest < 0.08
    assert seen[:, -1].mean() == pytest.approx(POWER, abs=0.02)
    assert POWER < seen.any(axis=1).mean() < POWER + 0.12
    assert smallest_difference(4 * per_day, variance, days) < smallest
    assert smallest_difference(per_day, variance, days, 0.025) > smallest
    assert smallest_difference(per_day, variance, days, treated=0.9) > smallest
    assert smallest_difference(2 * FIRST_READ / days - 1, variance, days) == math.inf


def test_variance_of_units_counts_calls_that_go_together() -> None:
    ones = np.array([1.0, 0.0, 1.0, 1.0, 0.0])

    assert unit_variance(np.ones(5), ones) == pytest.approx(ones.var(ddof=1))
    assert unit_variance(np.full(5, 8.0), 8 * ones) == pytest.approx(ones.var(ddof=1))
    assert unit_variance(np.zeros(3), np.zeros(3)) == 0.0
    assert effective_units(300, 300) == pytest.approx(600)
    assert effective_units(200, 1e9) == pytest.approx(800)
    assert effective_units(0, 500) == 0.0
    assert fixed_error(0.05) == pytest.approx(0.05 / (norm.isf(0.025) + norm.isf(0.2)))
