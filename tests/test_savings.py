"""What routing saved: figures by hand, intervals that hold, and why something is not known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bandit.carried import LEAST_UNITS, SliceSums, Uncertain, carry
from bandit.foretold import learned_prices
from bandit.incumbent_quality import incumbent_quality
from bandit.ope import Log, doubly_robust, doubly_robust_of_arm
from bandit.saving_parts import Amount, Why
from bandit.saving_sums import CALL, SUMS, added, sums_of
from bandit.savings import DOUBLY_ROBUST, LABELS_ALONE, AppSavings, figures, savings

INC, OTHER = 10, 11
DAYS = range(100, 110)


def calls(n: int, **columns: Any) -> NDArray[np.void]:
    """Calls of one app and task that the incumbent served for a cent each, each a unit."""
    out = np.zeros(n, dtype=CALL)
    usual = {"app": 1, "task": 2, "strategy": 3, "release": 4, "endpoint": INC, "day": 100}
    usual |= {"by_incumbent": True, "propensity": 0.5, "predicted": 0.5, "reward": np.nan}
    usual |= {"cost_usd": 0.01, "attempts": 1, "is_priced": True, "unit": np.arange(n)}
    usual |= {"tokens_in": 1000.0, "tokens_out": 100.0}
    for name, values in {**usual, **columns}.items():
        out[name] = values
    return out


def others(n: int, **columns: Any) -> NDArray[np.void]:
    usual = {"endpoint": OTHER, "by_incumbent": False, "unit": 10_000 + np.arange(n)}
    return calls(n, **{**usual, **columns})


def saved(*parts: NDArray[np.void], **more: Any) -> AppSavings:
    (app,) = savings(sums_of(np.concatenate(parts)), days=DAYS, **more)
    return app


def told(found: AppSavings) -> dict[str, Any]:
    return figures(found.part, found.checked, limit=found.limit, limit_usd=found.limit_usd)


def slices(*values: list[float]) -> SliceSums:
    """Units of one call each, by slice."""
    n = np.array([float(len(of)) for of in values])
    y = np.array([sum(of) for of in values])
    return SliceSums(n, n, n, y, y, np.array([sum(x * x for x in of) for of in values]))


# -- from the calls of one to those of another ----------------------------------------------------


def test_calls_all_alike_are_carried_over_exactly() -> None:
    found = carry(slices([0.5] * 30), np.array([10.0]))

    assert found == Uncertain(5.0)
    assert found is not None
    assert found.half == 0.0


def test_of_few_units_nothing_is_carried_over() -> None:
    assert carry(slices([1.0] * (LEAST_UNITS - 1)), np.array([5.0])) is None
    assert carry(slices([1.0]), np.array([0.0])) == Uncertain(), "there is nothing to say"


def test_days_that_differ_go_by_their_own_calls() -> None:
    cheap, dear = [1.0, 1.2] * 20, [9.0, 9.2] * 20

    found = carry(slices(cheap, dear), np.array([0.0, 10.0]))

    assert found is not None
    assert found.value == pytest.approx(91.0, abs=2)


def test_days_that_do_not_differ_tell_of_each_other() -> None:
    rng = np.random.default_rng(1)
    days = [list(rng.normal(5, 1, 10)) for _ in range(10)]
    onto = np.eye(10)[3] * 100

    found = carry(slices(*days), onto)
    alone = carry(slices(*(days[3:4] * 2)), np.array([100.0, 0.0]))

    assert found is not None
    assert alone is not None
    assert found.half < 0.8 * alone.half


@pytest.mark.parametrize(("rise", "least", "most_off"), [(1.0, 184, 0.01), (1.5, 166, 0.05)])
def test_intervals_hold_where_traffic_and_shares_move(
    rise: float, least: int, most_off: float
) -> None:
    """The incumbent's share falls from .6 to .1 over eight days, in which calls may grow dearer."""
    hits, errors = 0, []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        level = np.linspace(1.0, rise, 8) * np.exp(0.05 * rng.standard_normal(8))
        own = rng.binomial(60, np.linspace(0.6, 0.1, 8))
        costs = [level[d] * rng.lognormal(0, 0.7, 60) for d in range(8)]
        found = carry(slices(*(list(costs[d][: own[d]]) for d in range(8))), 60.0 - own)
        assert found is not None
        truth = sum(float(costs[d][own[d] :].sum()) for d in range(8))
        hits += abs(found.value - truth) <= found.half
        errors.append(found.value / truth - 1)
    assert hits >= least
    assert abs(np.mean(errors)) <= most_off


def test_calls_of_one_unit_are_one_draw() -> None:
    rng = np.random.default_rng(5)
    cost = np.repeat(rng.lognormal(0, 1, 40), 10)
    alone = saved(calls(400, cost_usd=cost), others(400))
    together = saved(calls(400, cost_usd=cost, unit=np.arange(400) // 10), others(400))

    one, many = (app.part.amounts[Amount.SAVED_USD] for app in (alone, together))
    assert one.value == pytest.approx(many.value)
    assert many.half > 2.5 * one.half, "ten calls that share a draw tell as much as one"


# -- sums -----------------------------------------------------------------------------------------


def test_sums_of_parts_add_up_to_those_of_all_in_any_order() -> None:
    rng = np.random.default_rng(2)
    whole = calls(
        200,
        unit=np.arange(200) // 4,
        endpoint=np.repeat(rng.integers(10, 13, 50), 4),
        day=np.repeat(rng.integers(100, 103, 50), 4),
        cost_usd=rng.random(200),
        reward=np.where(rng.random(200) < 0.5, rng.random(200), np.nan),
        is_priced=rng.random(200) < 0.9,
    )
    units = whole["unit"] % 3

    parts = added([sums_of(rng.permutation(whole[units == k])) for k in range(3)])

    at_once = sums_of(whole)
    assert len(parts) == len(at_once) == len(np.unique(whole[["endpoint", "day"]]))
    for name in SUMS:
        assert parts[name] == pytest.approx(at_once[name]), name
    assert at_once["calls"].sum() + at_once["unpriced"].sum() == 200
    assert len(sums_of(whole[:0])) == len(added([])) == 0


def test_the_estimate_by_sums_is_that_of_the_log() -> None:
    rng = np.random.default_rng(3)
    n, p = 2000, rng.uniform(0.3, 0.9, 2000)
    arm = (rng.random(n) > p).astype(np.intp)  # 0 is the incumbent
    reward = (rng.random(n) < np.where(arm == 0, 0.7, 0.4)).astype(float)
    log = Log(
        np.zeros(n, dtype=np.intp), arm, reward, np.stack([p, 1 - p], axis=1), np.full((n, 2), 0.6)
    )
    target = np.tile([1.0, 0.0], (n, 1))
    w = np.where(arm == 0, 1 / p, 0.0)
    sums = [w, w**2, w * reward, w**2 * reward, w**2 * reward**2]
    from bandit.ope import ArmSums

    found = doubly_robust_of_arm(
        ArmSums(np.array([n]), np.array([0.6]), *(np.array([s.sum()]) for s in sums))
    )

    wanted = doubly_robust(log, target)
    assert found.value == pytest.approx(wanted.value)
    assert found.high - found.low == pytest.approx(wanted.high - wanted.low, rel=0.05)
    assert found.refused is None
    few = doubly_robust_of_arm(ArmSums(*(np.array([1.0]) for _ in range(7))))
    assert few.refused == "effective sample size 1 < 200"


# -- what calls had cost the incumbent, by their tokens -------------------------------------------

SMALL, LARGE = {"choice": INC}, {"choice": OTHER, "tokens_in": 6000.0, "tokens_out": 600.0}


def varied(rng: np.random.Generator, part: NDArray[np.void]) -> NDArray[np.void]:
    """Calls of many sizes, at 1 USD a thousand tokens in and 4 out with the incumbent."""
    size = rng.lognormal(0, 0.5, len(part))
    part["tokens_in"] *= size
    part["tokens_out"] *= size * rng.lognormal(0, 0.2, len(part))
    usd = (part["tokens_in"] + 4 * part["tokens_out"]) / 1000
    part["cost_usd"] = np.where(part["by_incumbent"], usd, 0.1 * usd)
    return part


def test_calls_that_grew_after_a_release_had_cost_the_incumbent_more() -> None:
    """On one day: 600 calls, 252 of them the incumbent's; then 1,200 six times as long, none."""
    rng = np.random.default_rng(4)
    parts = [varied(rng, part) for part in (calls(252, **SMALL), others(348, **SMALL))]
    late = varied(rng, others(1200, **LARGE))

    found = told(saved(*parts, late))["money"]
    early = told(saved(*parts))["money"]

    truth = sum(float((p["tokens_in"] + 4 * p["tokens_out"]).sum()) / 1000 for p in (*parts, late))
    incumbent = found["incumbent_usd"]
    assert incumbent["value"] == pytest.approx(truth, rel=0.08)
    assert incumbent["low"] < truth < incumbent["high"]
    assert incumbent["high"] - incumbent["value"] > 0.15 * truth, "it goes far beyond what was seen"
    assert (found["n"], found["by_tokens"], found["unknown"]) == (1800, 1200, [])
    assert early["by_tokens"] == 0
    assert early["incumbent_usd"]["high"] < 1.2 * early["incumbent_usd"]["value"]


def test_how_two_endpoints_count_the_same_is_learned_where_both_were_drawn() -> None:
    """The other's tokenizer makes twice as many of a prompt; its answers are half as long."""
    rng = np.random.default_rng(8)
    size, later = rng.lognormal(0, 0.3, 600), rng.lognormal(0, 0.3, 300)
    own = calls(300, **SMALL, tokens_in=1000 * size[:300], tokens_out=200 * size[:300])
    own["cost_usd"] = (own["tokens_in"] + 4 * own["tokens_out"]) / 1e5
    mine = {"tokens_in": 2000 * size[300:], "tokens_out": 100 * size[300:]}
    late = {"tokens_in": 6000 * later, "tokens_out": 100 * later, "choice": OTHER, "day": 101}

    money = told(saved(own, others(300, **SMALL, **mine), others(300, **late)))["money"]

    truth = float(own["cost_usd"].sum() + 1800 * size[300:].sum() / 1e5)
    truth += float((3000 + 800) * later.sum() / 1e5)
    assert money["incumbent_usd"]["value"] == pytest.approx(truth, rel=0.06)


def test_calls_of_a_day_with_another_price_had_cost_the_incumbent_that() -> None:
    prices = {INC: [(0, 1e-5, 1e-4), (101, 2e-5, 2e-4)]}  # a cent by 100, of usual calls two
    own = calls(60, cost_usd=0.02)

    money = told(saved(own, others(60), others(100, day=101), prices=prices))["money"]

    assert money["incumbent_usd"]["value"] == pytest.approx(1.2 + 1.2 + 4.0)


def test_prices_are_learned_from_what_calls_came_to() -> None:
    tokens_in, tokens_out = np.array([1000.0, 2000.0, 500.0]), np.array([10.0, 300.0, 400.0])

    found = learned_prices(2e-6 * tokens_in + 7e-6 * tokens_out, tokens_in, tokens_out)
    alike = learned_prices(np.array([1.4]), np.array([1000.0]), np.array([100.0]))

    assert found == pytest.approx((2e-6, 7e-6), rel=0.01)
    assert alike == pytest.approx((0.001, 0.004)), "what one call cannot tell apart"
    assert min(learned_prices(np.zeros(1), np.zeros(1), np.zeros(1))) > 0


def test_units_that_stayed_with_the_incumbent_do_not_stand_for_longer_calls() -> None:
    """A release cuts the day, but short sessions of before go on beside long new ones."""
    stayed = calls(60, choice=OTHER, unit=20_000 + np.arange(60))

    money = told(saved(calls(300, **SMALL), others(300, **SMALL), stayed, others(500, **LARGE)))

    incumbent = money["money"]["incumbent_usd"]
    assert incumbent["value"] == pytest.approx(6.6 + 500 * 0.01 * 6, rel=0.06)


def test_without_tokens_calls_beside_which_the_incumbent_was_not_drawn_are_unknown() -> None:
    bare = {"tokens_in": 0.0, "tokens_out": 0.0}

    found = told(saved(calls(40), others(60, **bare), others(50, day=101, cost_usd=0.004, **bare)))

    assert found["money"]["n"] == 100
    assert found["money"]["saved_usd"]["value"] == pytest.approx(0, abs=1e-9)
    assert found["money"]["served_usd"] == pytest.approx(1.0)
    (unknown,) = found["money"]["unknown"]
    assert (unknown["reason"], unknown["calls"]) == (Why.NO_TOKENS, 50)


# -- what is said ---------------------------------------------------------------------------------


def test_a_cheaper_endpoint_saved_what_the_incumbent_costs_more() -> None:
    found = told(saved(calls(50), others(100, cost_usd=0.004)))

    money = found["money"]
    assert money["n"] == 150
    assert money["served_usd"] == pytest.approx(0.9)
    assert money["incumbent_usd"]["value"] == pytest.approx(1.5)
    assert money["saved_usd"] == {name: pytest.approx(0.6) for name in ("value", "low", "high")}
    assert money["saved_share"]["value"] == pytest.approx(0.4)
    assert found["quality"]["gained"] is None
    assert found["quality"]["unknown"] == [
        {"reason": "no_quality_signal", "said": "no quality signal", "calls": 150}
    ]


def test_other_days_tell_of_the_incumbent_but_are_not_counted() -> None:
    before = calls(40, day=90), others(500, day=90)

    found = told(saved(*before, others(10, cost_usd=0.004)))

    assert found["calls"] == found["money"]["n"] == 10
    assert found["incumbent_calls"] == 0
    assert found["money"]["saved_usd"]["value"] == pytest.approx(0.06)


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ([others(100)], Why.NO_INCUMBENT),
        ([calls(5), others(100)], Why.FEW_CALLS),
        ([calls(60, is_priced=False), others(100)], Why.NO_PRICE),
    ],
)
def test_what_cannot_be_known_says_why(parts: list[NDArray[np.void]], why: Why) -> None:
    found = told(saved(*parts))

    assert found["money"]["saved_usd"] is None
    assert [row["reason"] for row in found["money"]["unknown"]] == [why]


def test_calls_without_a_price_are_counted_and_left_out() -> None:
    found = told(saved(calls(50), others(10, is_priced=False), others(20, unit=5)))

    assert (found["calls"], found["unpriced"], found["money"]["n"]) == (80, 10, 70)


def test_quality_is_compared_on_the_calls_of_others_with_an_interval() -> None:
    rng = np.random.default_rng(14)
    parts = (
        calls(300, reward=(rng.random(300) < 0.6).astype(float)),
        others(300, reward=(rng.random(300) < 0.9).astype(float)),
    )

    quality = told(saved(*parts))["quality"]

    assert (quality["signal"], quality["n"], quality["labels"]) == ("labels", 600, 600)
    gained = quality["gained"]
    assert gained["low"] < 0.15 < gained["high"], "half of the calls gained .3"
    assert gained["low"] > 0.08
    checked = quality["doubly_robust"]
    assert checked["low"] < 0.6 < checked["high"]
    few = told(saved(calls(300, reward=np.where(np.arange(300) < 9, 1.0, np.nan)), parts[1]))
    assert few["quality"]["unknown"][0]["reason"] == Why.FEW_LABELS


def test_where_the_incumbent_was_never_drawn_its_quality_is_not_doubly_robust() -> None:
    """One task drew it and says .8; beside half as many calls of another it was never drawn."""
    good = (np.arange(300) % 5 > 0).astype(float)
    drawn = calls(300, reward=good, predicted=0.8, propensity=1.0)
    never = others(150, release=5, task=6, reward=0.5, propensity=1.0)
    few = others(12, release=5, task=6, reward=0.5, propensity=1.0)

    found, nearly, whole = (
        incumbent_quality(sums_of(np.concatenate(parts)), DAYS)
        for parts in ([drawn, never], [drawn, few], [drawn])
    )

    assert found is not None
    assert nearly is not None
    assert whole is not None
    assert found.refused == "the incumbent was hardly ever drawn beside 33% of the calls"
    assert found.value == pytest.approx(0.8)
    assert (nearly.refused, whole.refused) == (None, None)
    assert nearly.value == pytest.approx(0.8)
    assert nearly.high - nearly.low > whole.high - whole.low
    assert incumbent_quality(sums_of(calls(30)), DAYS) is None
    left_over = calls(3, release=5, task=6, unit=20_000 + np.arange(3), reward=1.0, propensity=0.6)
    stayed = incumbent_quality(sums_of(np.concatenate([drawn, never, left_over])), DAYS)
    assert stayed is not None
    assert stayed.refused == "the incumbent was hardly ever drawn beside 34% of the calls"


def test_quality_is_the_doubly_robust_estimate_where_it_is_sound_else_says_why_not() -> None:
    rng = np.random.default_rng(3)
    own = calls(400, reward=(rng.random(400) < 0.6).astype(float))
    other = others(400, reward=(rng.random(400) < 0.9).astype(float))
    after = others(400, reward=0.9, choice=OTHER)

    sound, unsound = told(saved(own, other))["quality"], told(saved(own, other, after))["quality"]

    assert (sound["method"], sound["why"]) == (DOUBLY_ROBUST, None)
    assert sound["incumbent"]["value"] == sound["doubly_robust"]["value"]
    gained = sound["served"]["value"] - sound["incumbent"]["value"]
    assert sound["gained"]["value"] == pytest.approx(gained)
    assert sound["gained"]["low"] < 0.15 < sound["gained"]["high"], "half of the calls gained .3"
    assert unsound["method"] == LABELS_ALONE
    assert unsound["why"] == "the incumbent was hardly ever drawn beside 33% of the calls"
    assert unsound["incumbent"]["value"] == pytest.approx(0.6, abs=0.05)


def test_learning_costs_dearer_draws_second_starts_and_worse_answers_up_to_a_limit() -> None:
    tried = others(40, explored=True, cost_usd=0.03, reward=0.5, beside_usd=0.001)
    kept = calls(160, reward=1.0)

    found = told(saved(kept, tried, values_usd={3: 2.0}))["learning"]
    unvalued = told(saved(kept, tried))["learning"]

    assert found["n"] == found["labels"] == 40
    assert found["second_starts_usd"] == pytest.approx(0.04)
    assert found["dearer_draws_usd"]["value"] == pytest.approx(0.8)
    assert found["extra_usd"]["value"] == pytest.approx(0.84)
    assert found["worse_answers"]["value"] == pytest.approx(20)
    assert found["worse_answers"]["low"] < 20 < found["worse_answers"]["high"], "never seen: 0"
    assert found["worse_answers_usd"]["value"] == pytest.approx(40)
    assert found["usd"]["value"] == pytest.approx(40.84)
    assert (found["limit"], found["limit_usd"]) == (3.0, 6.0)
    assert (unvalued["usd"], unvalued["limit_usd"]) == (None, None)


def test_failures_and_repeats_that_the_incumbent_would_have_had_are_avoided() -> None:
    failing = np.arange(100) < 20
    parts = (
        calls(100, is_failed=failing, failed_usd=np.where(failing, 0.01, 0.0)),
        others(200),
    )

    found = told(saved(*parts, values_usd={3: 0.5}))["reliability"]

    assert found["failed"] == 20
    assert found["failed_avoided"]["value"] == pytest.approx(40)
    assert found["failed_avoided"]["low"] < 40 < found["failed_avoided"]["high"]
    assert found["failed_avoided_usd"]["value"] == pytest.approx(20)
    assert found["repeats_usd"] == pytest.approx(0.2)
    assert found["repeats_avoided_usd"]["value"] == pytest.approx(0.4)


def test_apps_and_tasks_add_up_with_their_errors() -> None:
    rng = np.random.default_rng(6)
    parts = [
        part
        for task in (2, 5)
        for part in (
            calls(60, task=task, release=task, cost_usd=rng.random(60)),
            others(90, task=task, release=task, cost_usd=0.1),
        )
    ]

    found = saved(*parts)

    one, two = (task.part.amounts[Amount.SAVED_USD] for task in found.tasks)
    whole = found.part.amounts[Amount.SAVED_USD]
    assert whole.value == pytest.approx(one.value + two.value)
    assert whole.variance == pytest.approx(one.variance + two.variance)
    assert whole.half < one.half + two.half
