"""Cost: what a call costs, and how many tokens to expect."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit import cost
from bandit.draws import LEARNING, propensities, tabulate
from bandit.evidence import Evidence
from bandit.families import Q, R, U
from bandit.posterior import Arms, infer
from bandit.utility import Objective, Order


def two_endpoints(objective: Objective, usd: list[float], ok: list[float], quality: list[float]):
    """Shares in learning mode of endpoints with these costs and answered shares."""
    evidence = Evidence.empty(1, 2)
    n = 5000.0
    for arm in range(2):
        mean = quality[arm]
        evidence.quality[0, arm, [Q.LABELS, Q.N, Q.R, Q.R2]] = (n, n, n * mean, n * mean)
        evidence.usage[0, arm, [U.CALLS, U.N, U.TOKENS_OUT]] = (n, n, n * 100)
        evidence.reliability[0, arm, [R.OK, R.SERVER]] = (n * ok[arm], n * (1 - ok[arm]))
    per_mtok = np.array(usd) * 1e4
    found = infer(evidence, Arms(np.arange(2), np.arange(2), np.zeros(2), per_mtok))
    mask = np.ones(2, dtype=bool)
    return propensities(
        LEARNING, tabulate(found.bank(0), objective=objective, law=LEARNING, eligible=mask)
    )


def test_with_a_value_an_endpoint_that_often_fails_loses_though_it_is_cheap() -> None:
    priced = Objective(value_usd=0.05)

    shares = two_endpoints(priced, usd=[0.010, 0.021], ok=[1 / 2.2, 1.0], quality=[0.9, 0.9])

    # .05 · .45 · .9 − .010 against .05 · .9 − .021
    assert shares[1] > 0.99


def test_with_a_small_value_the_cheap_one_wins_again() -> None:
    priced = Objective(value_usd=0.015)

    shares = two_endpoints(priced, usd=[0.010, 0.021], ok=[1 / 2.2, 1.0], quality=[0.9, 0.9])

    assert shares[0] > 0.99


@pytest.mark.parametrize(("dear", "winner"), [(0.021, 1), (0.023, 0)])
def test_cheapest_counts_the_tries_of_a_success(dear: float, winner: int) -> None:
    """2.2 tries at .010 cost .022 a success."""
    order = Objective(Order.CHEAPEST)

    shares = two_endpoints(order, usd=[0.010, dear], ok=[1 / 2.2, 1.0], quality=[0.9, 0.9])

    assert shares[winner] > 0.9


# Tokens


def test_wordiness_carries_over_to_categories_never_called() -> None:
    n = np.array([[100.0, 100, 100], [100, 100, 0]])
    tokens = n * np.array([[100.0, 100, 400], [1000, 1000, 0]])

    expected = cost.expected_tokens(n, tokens, default=200)

    # The third uses twice the mean of the first category, so about twice 1000 in the second.
    assert expected[1, 2] == pytest.approx(2000, rel=0.05)
    assert expected[1, 0] == pytest.approx(1000, rel=0.1)


def test_terseness_carries_over_as_well() -> None:
    n = np.array([[100.0, 100], [100, 0]])
    tokens = n * np.array([[300.0, 100], [900, 0]])

    expected = cost.expected_tokens(n, tokens, default=200)

    assert expected[1, 1] < 0.6 * expected[1, 0]


def test_own_calls_soon_outweigh_what_was_expected() -> None:
    n = np.array([[100.0, 100, 100], [100, 100, 60]])
    tokens = n * np.array([[100.0, 100, 400], [1000, 1000, 500]])

    assert cost.expected_tokens(n, tokens, default=200)[1, 2] == pytest.approx(500, rel=0.2)


def test_where_nothing_was_called_the_default_holds_for_all() -> None:
    nothing = np.zeros((2, 3))

    assert cost.expected_tokens(nothing, nothing, default=200) == pytest.approx(
        np.full((2, 3), 200.0)
    )


@given(
    st.lists(st.tuples(st.integers(0, 50), st.floats(0, 1e4)), min_size=6, max_size=6),
)
def test_expected_tokens_are_finite_and_never_negative(cells) -> None:
    n = np.array([float(c) for c, _ in cells]).reshape(2, 3)
    tokens = n * np.array([x for _, x in cells]).reshape(2, 3)

    expected = cost.expected_tokens(n, tokens, default=200)

    assert np.isfinite(expected).all()
    assert (expected >= 0).all()


def test_nine_calls_of_ten_cost_less_than_the_bound() -> None:
    rng = np.random.default_rng(6)
    ln = rng.normal(5, 0.7, size=4000)
    sums = [np.array([[x]]) for x in (len(ln), ln.sum(), (ln**2).sum())]

    bound = cost.bound_factor(*sums)[0, 0] * np.exp(ln).mean()

    assert (np.exp(ln) < bound).mean() == pytest.approx(0.9, abs=0.02)
