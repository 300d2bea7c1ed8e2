"""Quality, latency, reliability and cost: hand-checkable figures, scipy as referee."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bandit import cost, latency, quality, reliability

RNG_SEED = 1


def cell(shape: tuple[int, int], **at: tuple[float, float]) -> list[np.ndarray]:
    n, r, r2 = (np.zeros(shape) for _ in range(3))
    for place, (count, mean) in at.items():
        c, g = map(int, place.strip("_").split("_"))
        n[c, g], r[c, g], r2[c, g] = count, count * mean, count * mean
    return [n, r, r2]


def test_without_labels_every_group_is_alike_and_in_the_middle() -> None:
    fitted = quality.fit(*cell((3, 4)), family=np.arange(4))

    assert fitted.mean == pytest.approx(np.full((3, 4), 0.5))
    assert (fitted.sd > 0.2).all()


def test_many_labels_outweigh_the_prior() -> None:
    fitted = quality.fit(*cell((1, 2), _0_0=(5000, 0.9), _0_1=(5000, 0.2)), family=np.arange(2))

    assert fitted.mean[0] == pytest.approx([0.9, 0.2], abs=0.01)
    assert fitted.sd[0, 0] < 0.02


def test_a_group_good_elsewhere_is_expected_to_be_good_here() -> None:
    seen = {f"_{c}_0": (60, 0.95) for c in range(4)} | {f"_{c}_1": (60, 0.4) for c in range(4)}
    fitted = quality.fit(*cell((5, 2), **seen), family=np.arange(2))

    assert fitted.mean[4, 0] > fitted.mean[4, 1] + 0.3


def test_a_second_setting_of_a_model_starts_from_the_first() -> None:
    seen = {f"_{c}_0": (200, 0.95) for c in range(3)} | {f"_{c}_2": (200, 0.5) for c in range(3)}
    fitted = quality.fit(*cell((3, 4), **seen), family=np.array([0, 0, 1, 2]))

    newcomer_of_good_model, newcomer = fitted.mean[0, 1], fitted.mean[0, 3]
    assert newcomer_of_good_model > newcomer + 0.05


def test_graded_rewards_are_known_sooner_than_coin_flips() -> None:
    n, r = np.full((1, 2), 40.0), np.full((1, 2), 20.0)
    steady = quality.fit(n, r, np.full((1, 2), 20 * 0.5 + 0.1), family=np.arange(2))
    flips = quality.fit(n, r, r, family=np.arange(2))

    assert steady.sd[0, 0] < flips.sd[0, 0]


@given(st.floats(1, 64))
def test_draws_have_the_posterior_mean_and_a_sharpened_spread(sharpness: float) -> None:
    fitted = quality.fit(*cell((1, 2), _0_0=(30, 0.8), _0_1=(30, 0.5)), family=np.arange(2))
    rng = np.random.default_rng(RNG_SEED)
    normals = rng.standard_normal((2, 20_000, 2))

    drawn = fitted.draw(0, (normals[0], normals[1]), sharpness=sharpness)

    base_free = np.sqrt(fitted.sd[0] ** 2) / np.sqrt(sharpness)
    assert drawn.mean(axis=0) == pytest.approx(fitted.mean[0], abs=5 * 0.3 / np.sqrt(20_000))
    assert (drawn.std(axis=0) <= base_free * 1.03).all()


def test_latency_posterior_is_the_normal_inverse_gamma_of_scipy() -> None:
    x = np.log([0.5, 0.7, 1.1, 0.9, 0.6])
    fitted = latency.fit(np.array([[5.0]]), np.array([[x.sum()]]), np.array([[(x**2).sum()]]))
    k0, a0, b0 = latency.KAPPA0, latency.ALPHA0, latency.BETA0
    m0 = (x.sum() + (x.sum() + 0.0) / 6) / 6  # the category's own mean, shrunk
    k, a = k0 + 5, a0 + 2.5
    m = (k0 * m0 + x.sum()) / k
    b = b0 + 0.5 * ((x - x.mean()) ** 2).sum() + k0 * 5 * (x.mean() - m0) ** 2 / (2 * k)

    referee = stats.t(df=2 * a, loc=m, scale=np.sqrt(b * (1 + 1 / k) / a))

    assert fitted.quantile(0.95)[0, 0] == pytest.approx(np.exp(referee.ppf(0.95)))
    assert fitted.within(0, 1.0)[0] == pytest.approx(referee.cdf(0.0))


def test_predictive_latency_quantiles_are_calibrated() -> None:
    rng = np.random.default_rng(3)
    missed = 0
    for _ in range(400):
        x = rng.normal(0.2, 0.5, size=25)
        fitted = latency.fit(
            np.array([[24.0]]), np.array([[x[:24].sum()]]), np.array([[(x[:24] ** 2).sum()]])
        )
        missed += bool(np.exp(x[24]) > fitted.quantile(0.95)[0, 0])

    assert missed / 400 == pytest.approx(0.05, abs=3.5 * np.sqrt(0.05 * 0.95 / 400))


def test_time_outs_make_an_endpoint_slower_never_faster() -> None:
    n, ln, ln2 = np.array([[10.0, 10.0]]), np.array([[0.0, 0.0]]), np.array([[2.0, 2.0]])
    cut = np.array([[0.0, 4.0]])
    fitted = latency.fit(n, ln, ln2, n_censored=cut, ln_censored=cut * np.log(10))

    assert fitted.mean[0, 1] > fitted.mean[0, 0] + 0.3


def test_reliability_bounds_are_those_of_scipys_beta() -> None:
    ok, fail = np.array([45.0]), np.array([0.0])

    assert reliability.lower_bound(ok, fail, level=0.9) == pytest.approx(stats.beta(46, 1).ppf(0.1))
    assert reliability.upper_bound(ok, fail, level=0.9) == pytest.approx(stats.beta(46, 1).ppf(0.9))


def test_about_45_calls_in_a_row_show_95_percent() -> None:
    calls = np.arange(200)
    bound = reliability.lower_bound(calls.astype(float), np.zeros(200), level=0.9)

    assert 40 <= int(np.argmax(bound >= 0.95)) <= 50


def test_cost_is_tokens_times_price() -> None:
    usd = cost.expected_cost(
        np.array([[1000.0]]),
        np.array([[500.0]]),
        input_usd_per_mtok=np.array([2.0]),
        output_usd_per_mtok=np.array([8.0]),
    )

    assert usd[0, 0] == pytest.approx(0.006)


def test_an_unpriced_endpoint_costs_as_the_dearest() -> None:
    usd = cost.expected_cost(
        np.full((1, 3), 1e6),
        np.zeros((1, 3)),
        input_usd_per_mtok=np.array([1.0, np.nan, 5.0]),
        output_usd_per_mtok=np.array([0.0, np.nan, 0.0]),
    )

    assert usd[0].tolist() == [1.0, 5.0, 5.0]


def test_a_newcomer_is_taken_to_use_its_categorys_tokens() -> None:
    mean = cost.expected_tokens(np.array([[10.0, 0.0]]), np.array([[900.0, 0.0]]), default=200)

    assert mean[0, 1] == pytest.approx(90, rel=0.02)
