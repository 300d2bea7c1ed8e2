"""Draws that are kept are the posterior's, the same for the same evidence, and each arm's own."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bandit import latency, margins, reliability

N = 40_000
"""Draws: an error of a mean of .005 sd is one standard error."""


def answered(ok: list[float], fail: list[float]) -> reliability.Reliability:
    """Return what is believed of one category's arms, of whose answers all can be used."""
    shape = (1, len(ok))
    sums = np.reshape(ok, shape), np.reshape(fail, shape)
    return reliability.fit(*sums, (np.ones(shape), np.zeros(shape)))


def timed(n: list[float], mean: list[float]) -> latency.Latency:
    """Return what is believed of one category's arms that answered n times each."""
    calls, ln = np.array([n]), np.array([mean])
    return latency.fit(calls, calls * ln, calls * (ln**2 + 0.1))


@pytest.mark.parametrize(("a", "b"), [(100.0, 3.1), (137.3, 47.9), (5000.0, 11.0), (103.0, 0.3)])
def test_kept_draws_of_a_share_have_its_posteriors_mean_spread_and_quantiles(
    a: float, b: float
) -> None:
    drawn = margins.betas((0, 1), np.array([0]), np.array([a]), np.array([b]), n_draws=N)[0]

    exact = stats.beta(a, b)
    assert drawn.mean() == pytest.approx(exact.mean(), abs=0.025 * exact.std())
    assert drawn.std() == pytest.approx(exact.std(), rel=0.05)
    for q in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert np.quantile(drawn, q) == pytest.approx(exact.ppf(q), abs=0.08 * exact.std())
    assert (drawn > 0).all()
    assert (drawn <= 1).all()


@pytest.mark.parametrize("half", [2.0, 2.5, 7.3, 400.0])
def test_kept_draws_of_a_time_are_students(half: float) -> None:
    drawn = margins.students((0, 2), np.array([half]), n_draws=N)[0]

    for q in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert np.quantile(drawn, q) == pytest.approx(stats.t.ppf(q, 2 * half), abs=0.05)


def test_what_one_arm_has_learned_changes_no_other_arms_draws() -> None:
    before, after = answered([50, 60, 70], [4, 0, 2]), answered([50, 61, 70], [4, 9, 2])
    slow, slower = timed([20, 20, 20], [0.1, 0.2, 0.3]), timed([20, 21, 20], [0.1, 0.9, 0.3])

    ok = [found.draw(0, n_draws=256) for found in (before, after)]
    assert np.array_equal(ok[0][:, [0, 2]], ok[1][:, [0, 2]])
    assert not np.array_equal(ok[0][:, 1], ok[1][:, 1])
    # The prior of times is the category's mean, which moved: the luck of the others did not.
    ln = [np.log(found.draw(0, n_draws=256)) for found in (slow, slower)]
    spread = [x - x.mean(axis=0) for x in ln]
    ratio = spread[1][:, [0, 2]] / spread[0][:, [0, 2]]
    assert np.allclose(ratio, ratio[0])


def test_arms_and_categories_have_luck_of_their_own() -> None:
    alike = reliability.Reliability(
        np.full((2, 3), 120.0), np.full((2, 3), 6.0), np.ones((2, 3)), np.zeros((2, 3))
    )
    drawn = np.concatenate([alike.draw(category, n_draws=4000) for category in (0, 1)], axis=1)

    assert np.abs(np.corrcoef(drawn.T) - np.eye(6)).max() < 0.07


def test_a_seconds_decay_moves_a_bank_by_what_the_evidence_moved() -> None:
    """Whoever draws a moment later draws in the same shape, moved; a step of the grid is small."""
    weight = 0.5 ** (np.arange(0, 60) / 300)  # a minute of five minutes' half-life
    drawn = np.array(
        [
            margins.betas(
                (0, 1),
                np.array([0]),
                np.array([99.9 + 80 * w]),
                np.array([0.1 + 20 * w]),
                n_draws=256,
            )[0]
            for w in weight
        ]
    )

    sd = drawn.std()
    exact = (0.1 + 20 * weight) / (100 + 100 * weight)
    off = (1 - drawn.mean(axis=1) - exact) / sd
    assert np.abs(off).max() < 4 / np.sqrt(256)
    moved = np.abs(np.diff(np.sort(drawn, axis=1), axis=0)).mean(axis=1) / sd
    assert np.median(moved) < 0.02
    assert moved.max() < 0.2  # a shape of its own, at a step
