"""A trade in words: what a success is worth follows from the incumbent's cost, task by task."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit import incumbent
from bandit.evidence import Evidence
from bandit.families import Q, U
from bandit.posterior import Arms, Posterior, infer
from bandit.trade import LEAST_VALUE_USD, SLACK, Trade, with_trade
from bandit.utility import Objective, arm_scores, mean_utility

TRADE = Trade(pay=0.2, gain=0.05)
BOTH = np.ones(2, dtype=bool)


def known(
    quality: tuple[float, float],
    usd: tuple[float, float],
    tokens: tuple[int, ...] = (1000,),
    n: int = 400,
) -> Posterior:
    """Two endpoints of n labelled calls each in as many tasks as token counts are given."""
    evidence = Evidence.empty(len(tokens), 2)
    for task, count in enumerate(tokens):
        for arm, mean in enumerate(quality):
            evidence.quality[task, arm, [Q.LABELS, Q.N, Q.R, Q.R2]] = (n, n, n * mean, n * mean)
            ln = n * np.log(count)
            evidence.usage[task, arm, [U.CALLS, U.N, U.TOKENS_OUT]] = (n, n, n * count)
            evidence.usage[task, arm, [U.N_LOG, U.LN_OUT, U.LN_OUT2]] = (n, ln, ln**2 / n)
    prices = np.array(usd)
    return infer(evidence, Arms(np.arange(2), np.arange(2), 0 * prices, prices))


def objective_of(posterior: Posterior, trade: Trade = TRADE) -> Objective:
    return with_trade(Objective(), trade, posterior, 0)


def test_the_value_of_a_success_is_what_may_be_paid_for_what_is_gained() -> None:
    assert TRADE.value_usd(0.01) == pytest.approx(0.04)  # .002 USD more for .05 successes more


def test_every_task_has_its_own_value_from_the_incumbents_cost_in_it() -> None:
    found = known((0.5, 0.6), (2.0, 9.0), tokens=(1000, 4000))

    objective = objective_of(found)

    assert objective.values_usd == pytest.approx(tuple(4 * found.cost_usd[:, 0]))
    assert objective.at(1).value_usd == pytest.approx(4 * found.cost_usd[1, 0])


def test_before_any_call_the_value_follows_from_list_prices() -> None:
    nothing = infer(
        Evidence.empty(1, 2), Arms(np.arange(2), np.arange(2), *np.array([[1.0, 1]] * 2))
    )

    assert objective_of(nothing).at(0).value_usd == pytest.approx(4 * nothing.cost_usd[0, 0])
    assert nothing.cost_usd[0, 0] > 0


@pytest.mark.parametrize(("dearer", "better"), [(1.19, True), (1.21, False)])
def test_so_much_more_for_so_many_more_successes_is_where_two_are_worth_the_same(
    dearer: float, better: bool
) -> None:
    found = known((0.5, 0.55), (10.0, 10.0 * dearer))
    gained = float(np.diff(found.quality.mean[0])[0])

    utility = mean_utility(found, objective_of(found, Trade(pay=0.2, gain=gained)))[0]

    ok = found.reliability.mean[0]
    assert ok[0] == ok[1]
    paid = (dearer - 1) / 0.2 * gained
    assert utility[1] - utility[0] == pytest.approx(gained * ok[0] - paid)
    assert (gained > paid) is better


@given(st.floats(0.01, 100))
def test_what_moves_all_costs_alike_moves_no_choice(factor: float) -> None:
    before, after = (known((0.5, 0.6), (2.0 * f, 9.0 * f)) for f in (1.0, factor))

    assert mean_utility(after, objective_of(after)) == pytest.approx(
        mean_utility(before, objective_of(before))
    )


def test_draws_and_reviews_of_a_task_go_by_the_same_value() -> None:
    found = known((0.5, 0.6), (2.0, 9.0), tokens=(1000, 4000))
    every = objective_of(found)

    for task in range(2):
        one = every.at(task)
        assert one == Objective(value_usd=4 * float(found.cost_usd[task, 0]))
        assert mean_utility(found, one)[task] == pytest.approx(mean_utility(found, every)[task])
        assert (arm_scores(found.bank(task), one) == arm_scores(found.bank(task), every)).all()


def test_beside_an_incumbent_that_costs_nothing_nothing_that_costs_is_worth_it() -> None:
    found = known((0.1, 0.9), (0.0, 5.0))

    assert TRADE.value_usd(0.0) == LEAST_VALUE_USD
    assert mean_utility(found, objective_of(found))[0].argmax() == 0
    assert arm_scores(found.bank(0), objective_of(found)).argmax(axis=1).max() == 0


def released(found: Posterior, at: int) -> int:
    """Return where a review leaves a task that stands at a group."""
    standings = incumbent.begin(0, 1)
    standings.current[0] = at
    after, _ = incumbent.review(standings, found, objective_of(found), BOTH)
    return int(after.current[0])


def even() -> float:
    """How much dearer the better of .5 and .6 is where both are worth the same."""
    gained = float(np.diff(known((0.5, 0.6), (1.0, 1.0)).quality.mean[0])[0])
    return 1 + gained * TRADE.pay / TRADE.gain


@pytest.mark.parametrize(
    ("extra", "choices"),
    [(0.6, [1, 1]), (0.85, [0, 1]), (1.0, [0, 1]), (1.2, [0, 1]), (1.6, [0, 0])],
)
def test_where_two_are_worth_nearly_the_same_whoever_has_the_task_keeps_it(
    extra: float, choices: list[int]
) -> None:
    """`extra`: the money between them, as a share of what the better one's answers are worth."""
    found = known((0.5, 0.6), (1.0, 1 + (even() - 1) * extra), n=200_000)

    assert [released(found, at) for at in (0, 1)] == choices


def test_a_release_weighs_how_uncertain_costs_are() -> None:
    usd = (1.0, 1 + (even() - 1) * 0.6)
    sure, unsure = known((0.5, 0.6), usd, n=200_000), known((0.5, 0.6), usd, n=200_000)
    unsure.evidence.usage[..., [U.N, U.TOKENS_OUT, U.N_LOG, U.LN_OUT, U.LN_OUT2]] *= 20 / 200_000

    assert unsure.cost_usd == pytest.approx(sure.cost_usd, rel=0.05)
    assert unsure.cost_ln_sd.min() > 10 * sure.cost_ln_sd.max()
    assert [released(found, 0) for found in (sure, unsure)] == [1, 0]


def test_a_release_holds_at_four_fifths_and_at_five_fourths_of_the_value() -> None:
    low, high = objective_of(known((0.5, 0.6), (2.0, 9.0))).extremes()

    assert SLACK == 1.25
    assert low.values_usd is not None
    assert high.values_usd is not None
    assert high.values_usd[0] == pytest.approx(SLACK**2 * low.values_usd[0])
    assert Objective(value_usd=1.0).extremes() == (Objective(value_usd=1.0),)
