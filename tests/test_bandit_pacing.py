"""Pacing: the price at which what is left of a budget lasts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from bandit.pacing import Price, affordable, solve, spend
from bandit.replay.loop import Loop, Rules
from bandit.replay.run import Pointsman, run
from bandit.replay.scenarios import Outcomes, Scenario, make_stream


def instance(seed: int):
    """Return scores, costs and traffic of a random market."""
    rng = np.random.default_rng(seed)
    n_categories, n_arms = rng.integers(1, 6), rng.integers(2, 7)
    cost = 10 ** rng.uniform(-5, -1, size=(n_categories, n_arms))
    mean = rng.uniform(0.2, 0.9, size=(n_categories, n_arms)) + 0.1 * np.log10(cost)
    scores = mean + rng.normal(0, 0.08, size=(32, n_categories, n_arms))
    traffic = rng.dirichlet(np.ones(n_categories))
    return scores, cost, traffic


def paid(price: Price, scores, cost, traffic) -> float:
    low, high = (spend(p, scores, cost, traffic) for p in (price.low, price.high))
    return price.p_low * low + (1 - price.p_low) * high


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_at_the_solved_price_the_target_is_spent(seed: int, share: float) -> None:
    scores, cost, traffic = instance(seed)
    free = spend(0.0, scores, cost, traffic)
    least = float(traffic @ cost.min(axis=1))
    target = least + share * (free - least)

    price = solve(scores, cost, traffic, target=target)

    assert paid(price, scores, cost, traffic) == pytest.approx(target, rel=1e-3)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("slack", [1.0, 1.5, 100.0])
def test_money_is_free_where_the_budget_does_not_bind(seed: int, slack: float) -> None:
    scores, cost, traffic = instance(seed)

    price = solve(scores, cost, traffic, target=slack * spend(0.0, scores, cost, traffic))

    assert price == Price(0.0, 0.0, 1.0)


@pytest.mark.parametrize("seed", range(10))
def test_a_budget_below_the_cheapest_buys_the_cheapest(seed: int) -> None:
    scores, cost, traffic = instance(seed)
    least = float(traffic @ cost.min(axis=1))

    price = solve(scores, cost, traffic, target=0.5 * least)

    assert paid(price, scores, cost, traffic) == pytest.approx(least, rel=0.05)


@given(st.integers(0, 500), st.floats(0, 1e4), st.floats(0, 1e4))
def test_a_higher_price_never_spends_more(seed, one, other) -> None:
    scores, cost, traffic = instance(seed)
    low, high = sorted((one, other))

    assert spend(high, scores, cost, traffic) <= spend(low, scores, cost, traffic) * (1 + 1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_what_the_money_buys_is_the_best_that_it_can_buy(seed: int) -> None:
    """The linear programme over all rows is the referee of the dual."""
    scores, cost, traffic = instance(seed)
    scores = scores[:8]
    n, n_categories, n_arms = scores.shape
    weight = np.repeat(traffic[None, :, None] / n, n, axis=0)
    least = float(traffic @ cost.min(axis=1))
    target = 0.5 * (least + spend(0.0, scores, cost, traffic))
    each = np.kron(np.eye(n * n_categories), np.ones(n_arms))
    best = linprog(
        -(weight * scores).ravel(),
        A_ub=(weight * cost).ravel()[None, :],
        b_ub=[target],
        A_eq=each,
        b_eq=np.ones(len(each)),
    )

    price = solve(scores, cost, traffic, target=target)

    value = 0.0
    for p, share in ((price.low, price.p_low), (price.high, 1 - price.p_low)):
        arm = (scores - p * cost).argmax(axis=2)
        won = np.take_along_axis(scores, arm[..., None], axis=2)[..., 0]
        value += share * float(won.mean(axis=0) @ traffic)
    assert value == pytest.approx(-best.fun, abs=1e-4)


def test_the_unit_of_money_does_not_matter() -> None:
    scores, cost, traffic = instance(3)
    target = 0.6 * spend(0.0, scores, cost, traffic)

    dollars = solve(scores, cost, traffic, target=target)
    cents = solve(scores, 100 * cost, traffic, target=100 * target)

    assert cents.high * 100 == pytest.approx(dollars.high, rel=1e-4)


@given(
    st.integers(0, 300),
    st.floats(-10, 10),
    st.integers(1, 10_000),
    st.floats(0, 5),
)
def test_somebody_is_always_affordable(seed, left_usd, left_calls, dearest) -> None:
    _, cost, traffic = instance(seed)
    rng = np.random.default_rng(seed)

    for category in range(len(cost)):
        fits = affordable(
            category,
            cost_usd=cost,
            dearest_usd=dearest * rng.random(cost.shape[1]),
            traffic=traffic,
            left_usd=left_usd,
            left_calls=left_calls,
        )

        assert fits[cost[category].argmin()]


@pytest.mark.parametrize(
    ("left_usd", "fits"),
    # Nine more calls at the cheapest cost 9; the dear one was seen to cost 5 at most.
    [(13.9, [True, False, False]), (14.1, [True, True, False]), (30.0, [True, True, True])],
)
def test_the_dearest_call_seen_must_leave_enough_for_the_rest(left_usd, fits) -> None:
    found = affordable(
        0,
        cost_usd=np.array([[1.0, 3.0, 20.0]]),
        dearest_usd=np.array([2.0, 5.0, 4.0]),
        traffic=np.array([1.0]),
        left_usd=left_usd,
        left_calls=10,
    )

    assert found.tolist() == fits


# In the loop


def market(n: int = 120) -> Outcomes:
    rng = np.random.default_rng(5)
    category = np.arange(n) % 2
    rate = np.array([[0.4, 0.9, 0.6], [0.5, 0.9, 0.7]])
    quality = (rng.random((n, 3)) < rate[category]).astype(float)
    cost = np.array([0.001, 0.010, 0.003]) * rng.uniform(0.8, 1.2, size=(n, 3))
    return Outcomes(["a", "b"], ["cheap", "dear", "middle"], category, quality, cost, None)


def replayed(outcomes: Outcomes, budget_usd: float, scenario: Scenario, best_single: int, n: int):
    stream = make_stream(
        outcomes, seed=1, scenario=scenario, best_single=best_single, median=2, repeat=n
    )
    loop = Loop(
        n_categories=2,
        n_arms=3,
        rules=Rules(budget_usd=budget_usd),
        rng=np.random.default_rng(4),
        n_calls=n,
    )
    trace = run(Pointsman(loop, stream), stream, lambda: 0.0)
    return stream, trace


def test_a_stream_ends_within_its_budget_and_uses_it() -> None:
    stream, trace = replayed(market(), 0.005, Scenario.STATIONARY, 1, 600)

    usd = stream.cost_usd[np.arange(600), trace.arm].mean()
    assert 0.9 * 0.005 < usd <= 1.001 * 0.005


@pytest.mark.parametrize("budget_usd", [0.0002, 0.003])
def test_a_budget_outlasts_the_absence_of_the_cheapest(budget_usd: float) -> None:
    _, trace = replayed(market(), budget_usd, Scenario.NEWCOMER, best_single=0, n=240)

    assert (trace.arm[:80] != 0).all()


def test_a_budget_that_nobody_fits_buys_the_cheapest_there_is() -> None:
    _, trace = replayed(market(), 1e-7, Scenario.STATIONARY, 1, 200)

    assert (trace.arm[-150:] == 0).all()
