"""Derived labels: calibrated on pairs, worth what they explain, harmless where it is nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit import derived
from bandit.cells import N_COLUMNS, D, Evidence, Q, R
from bandit.posterior import Arms, infer

ARMS = Arms(np.arange(2), np.arange(2), np.ones(2), np.full(2, 4.0))


def pairs(d: np.ndarray, s: np.ndarray, *, weight: float = 1.0) -> np.ndarray:
    """Return the columns of one cell with these pairs."""
    out = np.zeros(N_COLUMNS)
    out[D.PAIRS] = len(d)
    sums = [len(d), d.sum(), (d * d).sum(), s.sum(), (d * s).sum(), (s * s).sum()]
    out[D.PAIR_N : D.PAIR_S2 + 1] = weight * np.array(sums)
    return out


def evidence_of(good: list[int], n: int) -> Evidence:
    found = Evidence.empty(1, 2)
    found.derived[0, :, D.N] = n
    found.derived[0, :, D.GOOD] = good
    found.reliability[0, :, R.OK] = n
    return found


def test_without_a_stronger_label_derived_ones_order_reliability_and_not_quality() -> None:
    found = infer(evidence_of([90, 60], 100), ARMS)

    assert found.reliability.mean[0, 0] > found.reliability.mean[0, 1] + 0.14
    assert not found.labels.any()
    assert found.quality.mean[0, 0] == found.quality.mean[0, 1]


def test_from_fifty_pairs_they_count_for_quality_at_the_reward_their_like_was_given() -> None:
    found = evidence_of([100, 0], 100)
    d = np.repeat([1.0, 0.0], 40)
    found.derived[0, 0] += pairs(d, np.where(d == 1, 0.9, 0.2))

    got = infer(found, ARMS)

    assert (got.reliability.usable == 1).all()
    assert got.quality.mean[0, 0] == pytest.approx(0.9, abs=0.05)
    assert got.quality.mean[0, 1] == pytest.approx(0.2, abs=0.05)
    assert got.labels[0, 0] == pytest.approx(100, rel=0.01)


def test_least_squares_and_adjusted_r2_agree_with_scipy() -> None:
    from scipy.stats import linregress

    rng = np.random.default_rng(1)
    d = rng.integers(0, 2, 200).astype(float)
    s = np.clip(0.5 + 0.2 * d + rng.normal(0, 0.2, 200), 0, 1)
    cells = np.zeros((1, 1, N_COLUMNS))
    cells[0, 0] = pairs(d, s, weight=3.0)

    got, line = derived.calibrate(cells), linregress(d, s)

    assert got.gain[0] == pytest.approx(line.slope)
    assert got.base[0] == pytest.approx(line.intercept)
    assert got.worth[0] == pytest.approx(1 - (1 - line.rvalue**2) * 199 / 198)


def test_a_signal_against_the_stronger_labels_is_worth_nothing() -> None:
    d = np.repeat([1.0, 0.0], 40)
    cells = np.zeros((1, 1, N_COLUMNS))
    cells[0, 0] = pairs(d, np.where(d == 1, 0.1, 0.9))

    assert derived.calibrate(cells).worth[0] == 0


def test_where_nothing_was_read_off_every_answer_is_usable() -> None:
    found = infer(Evidence.empty(3, 2), ARMS)

    assert (found.reliability.usable == 1).all()


def test_draws_of_the_usable_share_have_its_mean() -> None:
    found = infer(evidence_of([80, 40], 100), ARMS)

    draws = found.reliability.draw(0, np.random.default_rng(0), n_draws=20_000)

    np.testing.assert_allclose(draws.mean(axis=0), found.reliability.mean[0], atol=0.003)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=18, max_size=18))
def test_no_sums_of_derived_labels_break_a_posterior(values: list[float]) -> None:
    found = Evidence.empty(1, 2)
    found.derived[0, :, :9] = np.array(values).reshape(2, 9)

    got = infer(found, ARMS)

    assert np.isfinite(got.quality.mean).all()
    assert ((got.reliability.mean >= 0) & (got.reliability.mean <= 1)).all()
    assert (got.evidence.quality[..., Q.N] >= 0).all()
