"""The cross-check of a comparison: what propensities alone say of the same calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bandit.checked import checked_difference
from bandit.saving_sums import CALL, sums_of

INC, OTHER, SECOND = 1, 2, 3


def drawn(n: int, **more: Any) -> NDArray[np.void]:
    """Return `n` labelled calls of a unit each, drawn with probability ½ and believed to be .5."""
    out = np.zeros(n, dtype=CALL)
    told = {"task": 5, "propensity": 0.5, "predicted": 0.5, "is_priced": True, "cost_usd": 0.0}
    for name, value in (told | more).items():
        out[name] = value
    out["by_incumbent"] = out["endpoint"] == INC
    out["unit"] = np.arange(n) + 10_000 * more["endpoint"] + 100_000 * out["task"]
    return out


def rewards(n: int, mean: float, seed: int = 1) -> NDArray[np.float64]:
    return (np.random.default_rng(seed).random(n) < mean).astype(float)


def test_of_a_pair_it_is_the_difference_of_both_whatever_was_believed() -> None:
    calls = [
        drawn(1000, endpoint=INC, reward=rewards(1000, 0.4), predicted=0.9),
        drawn(1000, endpoint=OTHER, reward=rewards(1000, 0.7), predicted=0.1),
    ]
    apart = np.concatenate(calls)["reward"].reshape(2, -1).mean(axis=1)

    found = checked_difference(sums_of(np.concatenate(calls)), control=0.5, is_pair=True)

    assert found == pytest.approx(apart[1] - apart[0], abs=1e-6)


def test_several_hosts_of_one_side_weigh_as_one() -> None:
    calls = [
        drawn(1000, endpoint=INC, reward=rewards(1000, 0.4), predicted=0.9),
        drawn(500, endpoint=OTHER, reward=rewards(500, 0.7), propensity=0.25, predicted=0.1),
        drawn(500, endpoint=SECOND, reward=rewards(500, 0.7), propensity=0.25, predicted=0.1),
    ]
    found = checked_difference(sums_of(np.concatenate(calls)), control=0.5, is_pair=True)
    assert found == pytest.approx(0.3, abs=0.05)


def test_beside_a_hold_out_the_incumbents_own_draws_stand_against_the_mean_of_all() -> None:
    """Routing gives the incumbent .2 of its units, and chance .03 of all: its p is .224."""
    n, control, by_law = 20_000, 0.03, 0.2
    p = control + (1 - control) * by_law
    own = round(n * p)
    calls = [
        drawn(own, endpoint=INC, reward=rewards(own, 0.5), propensity=p),
        drawn(n - own, endpoint=OTHER, reward=rewards(n - own, 0.8), propensity=1 - p),
    ]
    found = checked_difference(sums_of(np.concatenate(calls)), control=control, is_pair=False)
    assert found == pytest.approx((1 - by_law) * 0.3, abs=0.02)


@pytest.mark.parametrize("is_pair", [True, False])
def test_of_too_little_nothing_is_said(is_pair: bool) -> None:
    few = [drawn(50, endpoint=INC, reward=1.0), drawn(500, endpoint=OTHER, reward=0.0)]
    elsewhere = [
        drawn(500, endpoint=INC, reward=1.0),
        drawn(500, endpoint=OTHER, reward=0.0),
        drawn(500, endpoint=OTHER, reward=0.0, task=6),  # the incumbent was never drawn there
    ]
    unlabelled = [drawn(500, endpoint=INC, reward=np.nan)]
    for calls in (few, elsewhere, unlabelled):
        rows = sums_of(np.concatenate(calls))
        assert checked_difference(rows, control=0.5, is_pair=is_pair) is None
