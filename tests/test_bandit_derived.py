"""Derived labels: calibrated on pairs, worth what they explain, harmless where it is nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit import derived
from bandit.evidence import Evidence
from bandit.families import N_COLUMNS, D, Q, R
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


def test_with_pairs_they_count_for_quality_at_the_reward_their_like_was_given() -> None:
    found = evidence_of([100, 0], 100)
    d = np.repeat([1.0, 0.0], 40)
    found.derived[0, 0] += pairs(d, np.where(d == 1, 0.9, 0.2))

    got = infer(found, ARMS)

    assert got.quality.mean[0, 0] == pytest.approx(0.9, abs=0.06)
    assert got.quality.mean[0, 1] == pytest.approx(0.2, abs=0.06)
    assert 12 < got.labels[0, 0] < 30, "how far endpoints differ beyond it, nobody knows"


def test_the_usable_share_counts_for_less_as_faults_are_graded() -> None:
    counted = []
    for n in (0, 25, 400):
        found = evidence_of([50, 50], 100)
        found.derived[0, 0] += pairs(np.zeros(n), np.full(n, 0.9))
        found.derived[0, 0, D.SEEN] = found.derived[0, 0, D.PAIR_N] * 2 + 100
        counted.append(1 - infer(found, ARMS).reliability.usable[0, 0])

    assert counted[0] == pytest.approx((50 + 100 / 3 + 1) / (200 + 3))
    assert counted[1] == pytest.approx(counted[0] / 2, rel=0.15)
    assert counted[2] < 0.05


def test_one_fault_among_a_thousand_silent_calls_is_one_in_a_thousand() -> None:
    found = evidence_of([0, 0], 0)
    found.derived[0, :, D.SEEN] = 1000
    found.derived[0, 0, D.N] = 1

    usable = infer(found, ARMS).reliability.usable[0]

    assert usable[0] == pytest.approx(0.9992, abs=0.0003)
    assert usable[1] > 0.9995


def test_a_fault_counts_once_whether_its_decision_has_a_stronger_label_or_not() -> None:
    alone, paired = np.zeros(N_COLUMNS), pairs(np.zeros(10), np.linspace(0, 1, 10))
    alone[D.N] = 10
    alone[D.SEEN] = paired[D.SEEN] = 500

    seen, faults = derived.checked(np.stack([alone, paired, alone + paired])[None])

    assert seen.tolist() == [[500, 500, 1000]]
    assert faults.tolist() == [[10, 10, 20]]


def test_a_handful_of_faults_in_a_few_calls_costs_a_few_points() -> None:
    found = evidence_of([7, 10], 10)
    found.derived[0, :, D.SEEN] = 10

    usable = infer(found, ARMS).reliability.usable[0]

    assert 0.94 < usable[0] < usable[1] < 1
    assert usable[1] - usable[0] < 0.03


def test_rows_that_do_not_say_how_many_calls_were_read_count_their_labels() -> None:
    """As written before there was such a count: `N` holds what was checked, good and bad."""
    before = infer(evidence_of([300, 150], 300), ARMS).reliability.usable[0]
    found = evidence_of([300, 150], 300)
    found.derived[0, :, D.SEEN] = 50  # those that came since

    assert 0.55 < before[1] < 0.6 < 0.9 < before[0]
    np.testing.assert_array_equal(infer(found, ARMS).reliability.usable[0], before)


def test_least_squares_agree_with_scipy_and_the_worth_approaches_r2_from_below() -> None:
    from scipy.stats import linregress

    rng = np.random.default_rng(1)
    worth = []
    for n in (20, 200, 20_000):
        d = rng.integers(0, 2, n).astype(float)
        s = np.clip(0.5 + 0.2 * d + rng.normal(0, 0.2, n), 0, 1)
        cells = np.zeros((1, 1, N_COLUMNS))
        cells[0, 0] = pairs(d, s, weight=3.0)

        got, line = derived.calibrate(cells), linregress(d, s)

        assert got.gain[0] == pytest.approx(line.slope)
        assert got.base[0] == pytest.approx(line.intercept)
        assert got.worth[0] < line.rvalue**2
        worth.append(got.worth[0])
    assert worth == sorted(worth)
    assert worth[-1] == pytest.approx(line.rvalue**2, abs=0.02)


def test_labels_without_a_relation_are_worth_nothing_at_19_of_20_looks() -> None:
    rng = np.random.default_rng(2)
    worth = []
    for _ in range(500):
        d, s = rng.random(300) < 0.8, rng.random(300) < 0.7
        cells = pairs(d.astype(float), s.astype(float))[None, None]
        worth.append(derived.calibrate(cells).worth[0])

    assert np.mean(np.array(worth) > 0) < 0.08
    assert max(worth) < 0.03


@pytest.mark.parametrize("faulty", [0.02, 0.3])
@pytest.mark.parametrize("gain", [0.0, 0.6])
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_no_single_label_moves_anything_by_much(faulty: float, gain: float, noise: float) -> None:
    """A stream of labels, one after the other, through every number of pairs."""
    rng = np.random.default_rng(3)
    good = rng.random(300) >= faulty
    rewards = np.clip(0.85 - gain * ~good + rng.normal(0, noise, 300), 0, 1)
    found = evidence_of([98, 90], 100)
    found.derived[0, :, D.SEEN] = 1000
    found.quality[0, :, [Q.LABELS, Q.N]] = 50
    found.quality[0, :, Q.R] = found.quality[0, :, Q.R2] = 40
    figures = []
    for d, s in zip(good.astype(float), rewards, strict=True):
        found.derived[0, 0] += pairs(np.array([d]), np.array([s]))
        found.derived[0, 0, D.SEEN] += 1
        got = infer(found, ARMS)
        worth = got.calibration.worth[0]
        figures.append([*got.reliability.usable[0], *got.quality.mean[0], worth])

    steps = np.abs(np.diff(np.array(figures), axis=0)).max(axis=0)

    assert (steps[:2] < 0.005).all()
    assert (steps[2:4] < 0.05).all()
    assert steps[4] < 0.09


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

    draws = found.reliability.draw(0, n_draws=20_000)

    np.testing.assert_allclose(draws.mean(axis=0), found.reliability.mean[0], atol=0.003)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=20, max_size=20))
def test_no_sums_of_derived_labels_break_a_posterior(values: list[float]) -> None:
    found = Evidence.empty(1, 2)
    found.derived[0, :, :] = np.array(values).reshape(2, 10)

    got = infer(found, ARMS)

    assert np.isfinite(got.quality.mean).all()
    assert ((got.reliability.mean >= 0) & (got.reliability.mean <= 1)).all()
    assert (got.evidence.quality[..., Q.N] >= 0).all()
