"""What a profile advises: bounds that hold, and advice that does not hang on order or company."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from bandit.contrasts import allowed_lead
from bandit.intervals import amount_interval, mean_interval, quantile_interval
from bandit.profile_answers import Answers, amounts, least_variance, qualities
from bandit.profiled import AdviceKind, Profiled, profiled
from bandit.taskmap import Scores, best_map
from bandit.utility import BALANCED, Objective, Order

QUALITY = Objective()


def answers_of(quality: NDArray[np.float64], n_tasks: int) -> Answers:
    """Equal tasks, one after the other; cost and time are those of an endpoint."""
    n, k = quality.shape
    usd = np.tile(0.001 * np.arange(1, k + 1), (n, 1))
    return Answers(
        task=np.repeat(np.arange(n_tasks), n // n_tasks).astype(np.intp),
        quality=quality,
        cost_usd=usd,
        latency_s=1000 * usd,
        weight=np.full(n_tasks, 1 / n_tasks),
    )


def tossed(rates: list[list[float]], seed: int, n: int = 25) -> Answers:
    """Answers of endpoints (columns) whose success rates in each task (rows) are known."""
    rng = np.random.default_rng(seed)
    rate = np.repeat(np.array(rates), n, axis=0)
    return answers_of((rng.random(rate.shape) < rate).astype(float), len(rates))


def advise(answers: Answers, objective: Objective = QUALITY, now: int | None = None) -> Profiled:
    return profiled(answers, objective, now, np.random.default_rng(0))


SPECIAL = [[0.95, 0.3, 0.7], [0.3, 0.95, 0.7], [0.4, 0.4, 0.8]]


@given(n=st.integers(1, 60), share=st.floats(0, 1))
def test_an_interval_of_successes_is_clopper_and_pearsons(n: int, share: float) -> None:
    ones = round(n * share)
    values = np.r_[np.ones(ones), np.zeros(n - ones)]

    exact = stats.binomtest(ones, n).proportion_ci(0.9, method="exact")

    assert mean_interval(values) == pytest.approx((exact.low, exact.high), abs=1e-9)


@pytest.mark.parametrize("n", [5, 25])
@pytest.mark.parametrize(("a", "b"), [(8, 2), (20, 0.5), (0.5, 5)])
def test_an_interval_of_grades_covers(n: int, a: float, b: float) -> None:
    rng = np.random.default_rng(3)
    found = [mean_interval(rng.beta(a, b, n)) for _ in range(400)]

    covered = np.mean([low <= a / (a + b) <= high for low, high in found])

    assert covered >= 0.9 - 2 * (0.9 * 0.1 / 400) ** 0.5


def test_an_interval_of_grades_that_agree_is_narrow() -> None:
    low, high = mean_interval(np.full(25, 0.8) + np.tile([0.01, -0.01], 13)[:25])

    assert 0.7 < low < 0.8 < high < 0.83


@pytest.mark.parametrize("n", [8, 25, 50])
def test_an_interval_of_skewed_costs_covers(n: int) -> None:
    rng = np.random.default_rng(4)
    found = [amount_interval(rng.lognormal(0, 0.8, n)) for _ in range(400)]

    covered = np.mean([low <= np.exp(0.32) <= high for low, high in found])

    assert covered >= 0.87


@pytest.mark.parametrize("q", [0.5, 0.95])
def test_an_interval_of_a_quantile_covers(q: float) -> None:
    rng = np.random.default_rng(5)
    found = [quantile_interval(rng.exponential(size=25), q) for _ in range(500)]

    true = -np.log(1 - q)
    covered = np.mean([low <= true and (high is None or true <= high) for low, high in found])

    assert covered >= 0.88


def test_too_few_values_bound_no_high_quantile() -> None:
    assert quantile_interval(np.arange(25.0), 0.95)[1] is None
    assert quantile_interval(np.arange(100.0), 0.95)[1] is not None
    assert quantile_interval(np.array([]), 0.5) == (0.0, None)


def test_of_two_endpoints_the_bound_is_that_of_a_paired_t_test() -> None:
    answers = tossed([[0.8, 0.6]], 1, n=200)
    d = answers.quality[:, 1] - answers.quality[:, 0]
    estimates = replace(qualities(answers), least_variance=0.0)

    bound = allowed_lead(estimates, 0, np.random.default_rng(1))

    upper = d.mean() + stats.t.ppf(0.95, 199) * stats.sem(d)
    assert bound == pytest.approx(max(upper, 0), abs=0.006)


def test_nothing_is_better_by_more_than_is_said() -> None:
    rates = [[0.80, 0.78, 0.76, 0.80, 0.70]] * 3
    true = np.array(rates).mean(axis=0)

    found = [advise(tossed(rates, seed)).advice for seed in range(40)]

    held = [true.max() - true[a.pin] <= (a.lead or 0) for a in found if a.pin is not None]
    assert np.mean(held) >= 0.92


def test_tasks_are_routed_where_endpoints_are_specialists() -> None:
    found = [advise(tossed(SPECIAL, seed)).advice for seed in range(20)]

    routed = [a for a in found if a.kind is AdviceKind.ROUTE]
    assert len(routed) >= 15
    rates, held = np.array(SPECIAL), []
    for a in routed:
        gain = np.mean(rates[range(3), list(a.map)] - rates[:, a.pin])
        assert a.gain is not None
        assert 0 < a.gain.low < a.gain.high
        held.append(a.gain.low <= gain <= a.gain.high)
    assert np.mean(held) >= 0.9 - 2 * (0.9 * 0.1 / len(held)) ** 0.5


@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_the_order_of_endpoints_does_not_matter(seed: int) -> None:
    answers = tossed(SPECIAL, seed)
    order = np.random.default_rng(seed).permutation(3)
    turned = answers.part(range(3), order)

    first, second = advise(answers).advice, advise(turned).advice

    assert first.kind is second.kind
    assert second.pin is not None
    assert order[second.pin] == first.pin
    assert [order[k] for k in second.map] == list(first.map)
    assert second.lead == pytest.approx(first.lead, abs=0.01)  # drawn anew


@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_who_is_worse_at_everything_changes_no_pin(seed: int) -> None:
    answers = tossed(SPECIAL, seed)
    worse = answers_of(np.c_[answers.quality, np.zeros(len(answers.task))], 3)

    assert advise(worse).advice.pin == advise(answers).advice.pin


@given(seed=st.integers(0, 10_000), copies=st.integers(2, 6))
@settings(max_examples=15, deadline=None)
def test_copies_of_an_endpoint_are_never_routed(seed: int, copies: int) -> None:
    one = tossed([[0.7], [0.5], [0.9]], seed).quality
    advice = advise(answers_of(np.repeat(one, copies, axis=1), 3)).advice

    assert advice.kind in (AdviceKind.PIN, AdviceKind.UNCLEAR)
    assert advice.pin == 0  # the cheapest of equals
    assert (advice.lead or 0) >= 0


def test_equals_are_seldom_routed() -> None:
    kinds = [advise(tossed([[0.7] * 6] * 4, seed)).advice.kind for seed in range(30)]

    assert kinds.count(AdviceKind.ROUTE) <= 3


def test_a_map_departs_from_the_pin_only_where_another_is_ahead() -> None:
    quality = np.zeros((50, 2))
    quality[:25, 0] = quality[25:, 1] = 1.0
    answers = answers_of(quality, 2)

    chosen = best_map(Scores(answers.task, quality, answers.weight), pin=0)

    assert chosen.tolist() == [0, 1]


def test_cost_decides_between_equals_under_a_value() -> None:
    answers = tossed([[0.8, 0.8]], 2, n=400)
    same = replace(answers, quality=np.repeat(answers.quality[:, :1], 2, axis=1))
    dear = replace(same, cost_usd=np.tile([0.02, 0.001], (400, 1)))

    advice = advise(dear, BALANCED, now=0).advice

    assert (advice.kind, advice.pin) == (AdviceKind.PIN, 1)
    assert advice.beside_incumbent is not None
    assert advice.beside_incumbent.cost_ratio == pytest.approx(0.05)
    low, high = advice.beside_incumbent.quality
    assert low <= 0 <= high


def test_no_difference_of_shares_exceeds_all_or_nothing() -> None:
    quality = np.tile([0.0, 1.0], (6, 1))

    beside = advise(answers_of(quality, 1), now=0).advice.beside_incumbent

    assert beside is not None
    assert -1 <= beside.quality[0] <= beside.quality[1] == 1


@pytest.mark.parametrize("order", [Order.CHEAPEST, Order.FASTEST])
def test_an_order_takes_its_first_that_is_not_shown_to_be_too_bad(order: Order) -> None:
    advice = advise(tossed([[0.3, 0.9, 0.9]] * 3, 1), Objective(order)).advice

    assert advice.below_floor == (0,)
    assert (advice.kind, advice.pin) == (AdviceKind.PIN, 1)


def test_who_was_not_asked_everything_is_not_compared() -> None:
    answers = tossed(SPECIAL, 5)
    stopped = answers.quality.copy()
    stopped[40:, 0] = np.nan

    advice = advise(replace(answers, quality=stopped)).advice

    assert advice.compared == (1, 2)
    assert 0 not in advice.map


@pytest.mark.parametrize(
    ("keep", "reason"),
    [
        (lambda q: q * np.nan, "nothing_graded"),
        (lambda q: np.where(np.arange(len(q))[:, None] % 25 < 3, q, np.nan), "few_prompts"),
        (lambda q: q[:, :1], "one_endpoint"),
    ],
)
def test_what_cannot_be_compared_gives_no_advice(keep, reason: str) -> None:
    answers = tossed(SPECIAL, 5)
    quality = keep(answers.quality)
    k = quality.shape[1]
    some = Answers(answers.task, quality, answers.cost_usd[:, :k], answers.latency_s[:, :k],
                   answers.weight)  # fmt: skip

    advice = advise(some).advice

    assert (advice.kind, advice.reason, advice.pin) == (AdviceKind.NONE, reason, None)


def test_few_prompts_say_how_many_more() -> None:
    advice = advise(tossed([[0.5, 0.5, 0.5]], 4, n=12)).advice

    assert advice.kind is AdviceKind.UNCLEAR
    assert advice.more_prompts > 12


def test_two_that_never_differed_may_still_differ() -> None:
    quality = np.ones((25, 2))

    advice = advise(answers_of(quality, 1)).advice

    assert least_variance(answers_of(quality, 1)) == pytest.approx(1 / 27**2)
    assert 0.04 < (advice.lead or 0) < 0.12


@pytest.mark.parametrize("grade", [0.8, 0.9, 1.0])
def test_a_judge_that_says_the_same_of_all_proves_no_tie(grade: float) -> None:
    advice = advise(answers_of(np.full((8, 2), grade), 1), now=0).advice

    assert advice.kind is AdviceKind.UNCLEAR
    assert (advice.lead or 0) == pytest.approx(grade * 0.22, abs=0.02)


def test_a_missing_answer_moves_nobody() -> None:
    quality = np.array([[1.0, 0.0], [0.0, np.nan], [1.0, 1.0]])
    estimates = amounts(answers_of(quality, 1), quality)

    assert estimates.value.tolist() == pytest.approx([2 / 3, 0.5])
    assert estimates.influence[1, 1] == 0
