"""Streams, figures and baselines, on tables small enough to work out by hand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from bandit.draws import LEARNING, propensities, tabulate
from bandit.limits import Limits
from bandit.replay import baselines, figures
from bandit.replay.baselines import Learning, time_share
from bandit.replay.figures import SeedFigures, measure, summarise
from bandit.replay.loop import Loop, Rules
from bandit.replay.run import Trace, fixed_policy, hindsight, run
from bandit.replay.scenarios import Outcomes, Phase, Scenario, Stream, make_stream
from bandit.utility import Objective, priced

# Three prompts, two endpoints, two categories.
TINY = Outcomes(
    ["a", "b"],
    ["x", "y"],
    np.array([0, 0, 1]),
    np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]),
    np.array([[0.02, 0.01], [0.04, 0.01], [0.06, 0.01]]),
    np.array([[1.0, 3.0], [2.0, 3.0], [3.0, 1.0]]),
)
MEANS = np.array([[0.75, 0.25], [0.0, 1.0]])
BOTH = np.ones(2, dtype=bool)


@dataclass
class Script:
    """A policy that does as it is told and remembers what it was told."""

    arms: list[int]
    learned: list[tuple[int, int, int, float]] = field(default_factory=list)
    decided: int = 0
    seen_before: dict[int, int] = field(default_factory=dict)
    available: list[np.ndarray] = field(default_factory=list)
    categories: list[int] = field(default_factory=list)

    def choose(self, call: int, category: int, available: np.ndarray) -> int:
        self.seen_before[call] = len(self.learned)
        self.available.append(available)
        self.categories.append(category)
        return self.arms[call % len(self.arms)]

    def answered(self, call: int, category: int, arm: int) -> None:
        pass

    def judged(self, call: int, category: int, arm: int, reward: float) -> None:
        self.learned.append((call, category, arm, reward))


def no_time() -> float:
    return 0.0


def tiny(prompts: list[int] | None = None) -> Stream:
    """The tiny table in the order given, stationary."""
    order = np.array(prompts or [0, 1, 2])
    stream = make_stream(TINY, seed=0, scenario=Scenario.STATIONARY, best_single=0, median=0)
    return of_prompts(stream, order)


def of_prompts(stream: Stream, order: np.ndarray) -> Stream:
    n = len(order)
    return replace(
        stream,
        prompt=order,
        category=TINY.category[order],
        seen=TINY.category[order],
        at_ms=np.arange(n) * 1000,
        reward=TINY.quality[order],
        ok=np.ones((n, 2), dtype=bool),
        cost_usd=TINY.cost_usd[order],
        latency_s=TINY.latency_s[order],
        labelled=np.ones((n, 2), dtype=bool),
        phase=np.zeros(n, dtype=int),
    )


def measured(stream: Stream, arms: list[int], rules: Rules | None = None, **kw) -> SeedFigures:
    trace = run(Script(arms), stream, no_time)
    return measure(stream, trace, rules or Rules(), favoured=0, learned=kw.get("learned", False))


# Figures


def test_quality_cost_and_regret_by_hand() -> None:
    found = measured(tiny(), [1, 0, 1])

    assert found.quality == pytest.approx((0 + 0.5 + 1) / 3)
    assert found.quality_second_half == pytest.approx((0.5 + 1) / 2)
    assert found.usd == pytest.approx((0.01 + 0.04 + 0.01) / 3)
    assert found.utility == pytest.approx(found.quality)
    # Means of the category, not the luck of the prompt: .75 − .25, then nothing.
    assert found.regret == pytest.approx(0.5)
    assert found.share_favoured == pytest.approx(1 / 3)


def test_with_a_value_cost_counts_in_utility_and_regret() -> None:
    rules = Rules(objective=Objective(value_usd=0.1))

    found = measured(tiny(), [1, 0, 0], rules)

    assert found.utility == pytest.approx(((0 - 0.1) + (0.5 - 0.4) + (0 - 0.6)) / 3)
    # Values: a: .75 − .3 = .45 and .25 − .1 = .15; b: 0 − .6 and 1 − .1
    assert found.regret == pytest.approx((0.45 - 0.15) + 0 + (0.9 + 0.6))


def test_regret_is_counted_in_the_state_in_force() -> None:
    stream = tiny([0, 0, 0, 0])
    everybody = stream.phases[0]
    swapped = Phase(1, MEANS[:, ::-1].copy(), everybody.cost_usd, np.ones(2), BOTH)
    alone = Phase(2, MEANS, everybody.cost_usd, np.ones(2), np.array([False, True]))
    stream = replace(
        stream, phases=[everybody, swapped, alone, replace(everybody, start=3)],
        phase=np.array([0, 1, 2, 3]),
    )  # fmt: skip

    found = measured(stream, [0, 0, 1, 1])

    # Right, wrong once means are swapped, the only one there is, wrong again.
    assert np.diff(found.curve[[0, 67, 133, 199]]) == pytest.approx([0.5, 0, 0.5])
    assert found.regret == pytest.approx(1.0)


def test_regret_takes_the_true_category_whatever_a_policy_was_told() -> None:
    stream = tiny([2])
    told_wrong = replace(stream, seen=np.array([0]))

    assert measured(told_wrong, [0]).regret == pytest.approx(1.0)


def gaps(arms: list[int], gap: float) -> SeedFigures:
    """Figures on a stream where the second endpoint is so far below the first."""
    stream = tiny([0] * len(arms))
    means = np.array([[0.9, 0.9 - gap], [0.9, 0.9 - gap]])
    return measured(replace(stream, phases=[replace(stream.phases[0], quality=means)]), arms)


@pytest.mark.parametrize(
    ("arms", "gap", "stuck"),
    [
        ([0] * 6 + [1, 1, 0], 0.06, True),  # two of the last three
        ([1] * 6 + [1, 0, 0], 0.06, False),  # whatever was before
        ([0] * 8 + [1, 0, 1, 0], 0.06, False),  # half is not more than half
        ([1] * 9, 0.05, False),  # 5 points are not more than 5 points
        ([1] * 9, 0.04, False),
        ([0] * 9, 0.5, False),
    ],
)
def test_a_stream_is_stuck_when_most_of_its_last_third_is_far_below_the_best(
    arms, gap, stuck
) -> None:
    assert gaps(arms, gap).stuck is stuck


def test_being_stuck_is_judged_in_the_true_task_and_the_state_in_force() -> None:
    stream = tiny([0, 0, 0])
    usual = stream.phases[0]
    swapped = replace(usual, start=2, quality=MEANS[:, ::-1].copy())
    alone = replace(usual, start=2, available=np.array([False, True]))
    at_the_end = {"phase": np.array([0, 0, 1])}

    assert not measured(replace(stream, phases=[usual, swapped], **at_the_end), [0, 0, 1]).stuck
    assert measured(replace(stream, phases=[usual, swapped], **at_the_end), [1, 1, 0]).stuck
    # Where the best is away, the best of those present is nothing to be stuck with.
    assert not measured(replace(stream, phases=[usual, alone], **at_the_end), [0, 0, 1]).stuck
    # Endpoint y is best in b, which is what the policy was told, and .5 below in a.
    assert measured(replace(stream, seen=np.array([1, 1, 1])), [1, 1, 1]).stuck


def test_with_a_value_a_stream_is_stuck_by_utility() -> None:
    # In a: .75 − .03 ÷ v and .25 − .01 ÷ v: equal at v = .04, x dearer by 1.5 at v = .01.
    dear = Rules(objective=Objective(value_usd=0.01))

    assert measured(tiny([0] * 3), [0], dear).stuck
    assert not measured(tiny([0] * 3), [1], dear).stuck
    assert not measured(tiny([0] * 3), [0], Rules(objective=Objective(value_usd=0.04))).stuck


def test_worst_prefix_and_end_against_the_incumbent_by_hand() -> None:
    stream = tiny([2] * 400)
    ours = [0] * 350 + [1] * 50  # against an incumbent that is always right

    found = measured(stream, ours, Rules(incumbent=1))

    assert found.worst_prefix == pytest.approx(-1.0)
    assert found.end == pytest.approx(-350 / 400)
    assert found.incumbent_kept == pytest.approx(50 / 400)


def test_a_prefix_shorter_than_300_calls_is_not_judged() -> None:
    stream = tiny([2] * 400)
    late = [0] * 100 + [1] * 300

    found = measured(stream, late, Rules(incumbent=1))

    assert found.worst_prefix == pytest.approx(-100 / 300)
    assert found.end == pytest.approx(-100 / 400)


def test_without_an_incumbent_nothing_is_said_of_one() -> None:
    found = measured(tiny(), [0])

    assert (found.incumbent_kept, found.worst_prefix, found.end, found.explored) == (None,) * 4


def test_too_slow_is_what_exceeds_the_limit() -> None:
    rules = Rules(limits=Limits(latency_s=2.0))

    assert measured(tiny(), [0, 0, 0], rules).slo_violations == pytest.approx(1 / 3)
    assert measured(tiny(), [0], Rules()).slo_violations is None


def test_the_curve_ends_at_the_regret() -> None:
    found = measured(tiny([0, 1, 2] * 50), [1])

    assert len(found.curve) == figures.CURVE_POINTS
    assert found.curve[-1] == pytest.approx(found.regret)
    assert (np.diff(found.curve) >= 0).all()


def of_quality(quality: float, **kw) -> SeedFigures:
    return replace(measured(tiny(), [0]), quality=quality, **kw)


def summary(found, single, per_category, **kw):
    given = {"usual": None, "budget_usd": None} | kw
    return summarise(found, single=single, per_category=per_category, **given)


@pytest.mark.parametrize(("gap", "share"), [(0.0049, None), (0.0051, 0.5), (0.2, 0.5)])
def test_a_share_of_a_gap_below_half_a_point_means_nothing(gap, share) -> None:
    single, per_category = [of_quality(0.5)] * 2, [of_quality(0.5 + gap)] * 2

    found = summary([of_quality(0.5 + gap / 2)] * 2, single, per_category)

    assert found["gap_share"] == (None if share is None else pytest.approx(share))


def test_means_and_intervals_over_seeds_by_hand() -> None:
    seeds = [of_quality(x) for x in (0.4, 0.5, 0.9)]

    found = summary(seeds, seeds, seeds)

    assert found["quality"] == pytest.approx(0.6)
    assert found["quality_ci"] == pytest.approx(1.96 * np.std([0.4, 0.5, 0.9], ddof=1) / 3**0.5)
    assert summary(seeds[:1], seeds[:1], seeds[:1])["quality_ci"] is None


def test_the_worst_tenth_and_the_stuck_are_told_beside_the_mean() -> None:
    regrets = [*range(10), 200]  # the tenth of eleven is the 90th percentile
    seeds = [of_quality(0.5, regret=float(r), stuck=r == 200) for r in regrets]

    found = summary(seeds, seeds, seeds)

    assert found["regret"] == pytest.approx(245 / 11)
    assert found["regret_p90"] == pytest.approx(9)
    assert found["stuck_share"] == pytest.approx(1 / 11)


def test_spend_is_told_as_mean_and_as_the_worst_seed() -> None:
    seeds = [of_quality(0.5, usd=0.9), of_quality(0.5, usd=1.2)]

    found = summary(seeds, seeds, seeds, budget_usd=1.0)

    assert found["spend_over_budget"] == pytest.approx(1.05)
    assert found["spend_over_budget_worst"] == pytest.approx(1.2)
    assert found["usd_per_1k"] == pytest.approx(1050)


def test_the_worst_prefix_is_the_fifth_percentile_over_seeds_and_the_loss_is_in_successes() -> None:
    worst = np.linspace(-0.2, 0, 21)
    seeds = [of_quality(0.5, worst_prefix=w, end=-0.1, n_calls=50) for w in worst.tolist()]

    found = summary(seeds, seeds, seeds)

    assert found["incumbent_worst_prefix"] == pytest.approx(-0.19)
    assert found["incumbent_loss"] == pytest.approx(0.1 * 50)


def test_moved_share_is_against_our_own_stationary_run() -> None:
    biased, usual = [of_quality(0.5, share_favoured=0.4)], [of_quality(0.5, share_favoured=0.1)]

    assert summary(biased, biased, biased, usual=usual)["share_moved"] == pytest.approx(0.3)


def test_a_recovery_is_the_share_after_over_the_share_before() -> None:
    seeds = [of_quality(0.5, share_before=0.8, share_recovered=0.2)] * 2
    never = [of_quality(0.5, share_before=0.0, share_recovered=0.2)]

    assert summary(seeds, seeds, seeds)["recovered_share"] == pytest.approx(0.25)
    assert summary(never, never, never)["recovered_share"] is None


def changed_stream(n: int, starts: list[int]) -> Stream:
    stream = tiny([0] * n)
    usual = stream.phases[0]
    phases = [usual, *(replace(usual, start=s) for s in starts)]
    number = np.searchsorted([p.start for p in phases], np.arange(n), side="right") - 1
    return replace(stream, phases=phases, phase=number, changed=0)


def traced(stream: Stream, arms: np.ndarray, alarms: list[tuple[int, int]]) -> Trace:
    trace = run(Script(arms.tolist()), stream, no_time)
    trace.alarms = alarms
    return trace


@pytest.mark.parametrize(
    ("alarms", "n_false", "delay"),
    [
        ([], 0, 3000),  # never: the whole of what lasted
        ([(1100, 0)], 0, 100),
        ([(1100, 1)], 1, 3000),  # another arm
        ([(900, 0)], 1, 3000),  # too early
        ([(3000, 0)], 0, 2000),
        ([(3001, 0)], 1, 3000),  # too late
        ([(4100, 0)], 0, 3000),  # true, of the recovery
        ([(500, 0), (1200, 0), (1300, 0)], 1, 200),
    ],
)
def test_alarms_are_true_within_2000_calls_of_a_change(alarms, n_false, delay) -> None:
    stream = changed_stream(6000, [1000, 4000])
    trace = traced(stream, np.zeros(6000, dtype=int), alarms)

    found = measure(stream, trace, Rules(), favoured=0, learned=True)

    assert (found.alarms, found.false_alarms) == (len(alarms), n_false)
    assert found.detect_delay == delay


def test_onset_regret_and_shares_before_and_after_by_hand() -> None:
    stream = changed_stream(6000, [2000, 3500])
    arms = np.zeros(6000, dtype=int)
    arms[1000:1500] = 1  # half of the thousand calls before onset
    arms[2000:2100] = 1  # regret .5 each, at onset
    arms[3200:3300] = 1  # regret of later
    arms[5000:5400] = 1  # 400 of the 500 calls from 1500 after the recovery

    found = measure(stream, traced(stream, arms, []), Rules(), favoured=0, learned=True)

    assert found.onset_regret == pytest.approx(50)
    assert found.share_before == pytest.approx(0.5)
    assert found.share_recovered == pytest.approx(0.2)


# Streams


def table(n: int = 60, n_arms: int = 3) -> Outcomes:
    rng = np.random.default_rng(9)
    return Outcomes(
        ["a", "b"],
        [f"e{i}" for i in range(n_arms)],
        np.arange(n) % 2,
        (rng.random((n, n_arms)) < 0.6).astype(float),
        rng.uniform(0.001, 0.01, (n, n_arms)),
        rng.uniform(0.5, 2.0, (n, n_arms)),
    )


def stream_of(scenario: Scenario = Scenario.STATIONARY, *, seed: int = 0, **kw) -> Stream:
    given = {"best_single": 1, "median": 2} | kw
    return make_stream(given.pop("outcomes", table()), seed=seed, scenario=scenario, **given)


def test_a_stream_plays_every_prompt_once_with_its_own_outcomes() -> None:
    outcomes, stream = table(), stream_of()

    assert sorted(stream.prompt.tolist()) == list(range(60))
    assert np.array_equal(stream.reward, outcomes.quality[stream.prompt])
    assert np.array_equal(stream.cost_usd, outcomes.cost_usd[stream.prompt])
    assert np.array_equal(stream.category, outcomes.category[stream.prompt])
    assert stream.labelled.all()


def test_a_seed_names_a_stream() -> None:
    assert np.array_equal(stream_of(seed=3).prompt, stream_of(seed=3).prompt)
    assert not np.array_equal(stream_of(seed=3).prompt, stream_of(seed=4).prompt)


@pytest.mark.parametrize("repeat", [None, 500])
@pytest.mark.parametrize("scenario", Scenario)
def test_graded_prompts_are_in_no_stream(scenario: Scenario, repeat: int | None) -> None:
    outcomes = table()
    stream = stream_of(scenario, profile=5, repeat=repeat)

    assert not np.isin(stream.profile, stream.prompt).any()
    assert np.bincount(outcomes.category[stream.profile]).tolist() == [5, 5]
    assert len(set(stream.profile.tolist())) == 10
    assert len(stream) == (repeat or 50)


def test_the_graded_prompts_of_a_seed_are_the_same_in_every_scenario() -> None:
    graded = {tuple(stream_of(s, profile=5, seed=2).profile.tolist()) for s in Scenario}

    assert len(graded) == 1


def test_at_most_half_of_a_category_is_graded() -> None:
    stream = stream_of(profile=1000)

    assert len(stream.profile) == 30
    assert len(stream) == 30


@pytest.mark.parametrize("delay", [0, 200])
def test_a_label_is_known_exactly_so_many_calls_later(delay: int) -> None:
    stream = stream_of(Scenario.DELAY if delay else Scenario.STATIONARY, repeat=450)
    policy = Script([0])

    run(policy, stream, no_time)

    assert stream.delay == delay
    assert all(policy.seen_before[call] == max(call - delay, 0) for call in range(450))
    assert [call for call, *_ in policy.learned] == list(range(450 - 1 - delay))


@pytest.mark.parametrize("sharpness", [None, 1.0])
def test_learning_draws_are_as_sharp_as_the_rules_say(sharpness: float | None) -> None:
    loop = Loop(
        n_categories=1, n_arms=2, rules=Rules(sharpness=sharpness), rng=np.random.default_rng(0)
    )
    for call in range(40):
        arm = loop.choose(call, 0, BOTH)
        loop.answered(0, arm, ok=True, cost_usd=0.01, latency_s=None)
        loop.judged(call, 0, arm, float(call % 3 > 0), call)
    loop.choose(40, 0, BOTH)

    bank = loop.posterior.bank(0, sharpness=sharpness)
    table = tabulate(bank, objective=Objective(), law=LEARNING, eligible=BOTH)

    assert loop.propensities() == pytest.approx(propensities(LEARNING, table))
    assert 0 < loop.propensities()[0] < 1


def test_a_policy_learns_the_reward_of_its_own_choice_only() -> None:
    policy = Script([1, 0, 1])

    run(policy, tiny([0, 1, 2, 0]), no_time)

    assert policy.learned == [(0, 0, 1, 0.0), (1, 0, 0, 0.5), (2, 1, 1, 1.0)]


def test_the_newcomer_is_away_for_the_first_third_and_not_graded() -> None:
    stream = stream_of(Scenario.NEWCOMER, repeat=90)
    policy = Script([0])

    run(policy, stream, no_time)

    present = np.array(policy.available)
    assert not present[:30, 1].any()
    assert present[30:].all()
    assert present[:, [0, 2]].all()
    assert stream.profiled.tolist() == [True, False, True]
    assert stream.changed == 1


def test_an_outage_fails_every_call_of_300() -> None:
    stream = stream_of(Scenario.OUTAGE, repeat=1200)

    out = np.arange(1200)
    out = (out >= 400) & (out < 700)
    assert np.array_equal(~stream.ok[:, 1], out)
    assert not stream.reward[out, 1].any()
    assert stream.ok[:, [0, 2]].all()
    assert not stream.phases[1].quality[:, 1].any()


def test_a_degraded_endpoint_keeps_six_tenths_of_its_rewards_in_the_middle_third() -> None:
    outcomes = table()
    stream = stream_of(Scenario.DEGRADATION, repeat=12_000)
    before, middle, after = (stream.phase == k for k in range(3))
    plain = outcomes.quality[stream.prompt]

    kept = stream.reward[middle, 1].sum() / plain[middle, 1].sum()

    assert [p.start for p in stream.phases] == [0, 4000, 8000]
    assert kept == pytest.approx(0.6, abs=4 * np.sqrt(0.24 / plain[middle, 1].sum()))
    assert np.array_equal(stream.reward[before | after], plain[before | after])
    assert stream.phases[1].quality[:, 1] == pytest.approx(0.6 * stream.phases[0].quality[:, 1])


def test_a_price_rise_multiplies_the_cost_of_one_by_four_in_the_middle_third() -> None:
    outcomes = table()
    stream = stream_of(Scenario.PRICE, repeat=90)

    factor = stream.cost_usd / outcomes.cost_usd[stream.prompt]
    expected = np.ones((90, 3))
    expected[30:60, 1] = 4
    assert factor == pytest.approx(expected)
    assert stream.phases[1].price.tolist() == [1, 4, 1]
    assert stream.phases[1].cost_usd[:, 1] == pytest.approx(4 * stream.phases[0].cost_usd[:, 1])


def test_biased_labels_favour_the_successes_of_the_median_endpoint() -> None:
    stream = stream_of(Scenario.BIASED_LABELS, repeat=20_000)
    won = stream.reward[:, 2] >= 0.5

    shares = {
        "of success": (stream.labelled[won, 2], 0.9),
        "of failure": (stream.labelled[~won, 2], 0.3),
        "of others": (stream.labelled[:, 0], 0.6),
        "of others too": (stream.labelled[:, 1], 0.6),
    }
    for labelled, p in shares.values():
        assert labelled.mean() == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / len(labelled)))


@pytest.mark.parametrize(("scenario", "share"), [(Scenario.LABELS, 0.3), (Scenario.NO_LABELS, 0.0)])
def test_a_share_of_calls_is_labelled_whoever_serves_them(scenario, share) -> None:
    stream = stream_of(scenario, repeat=20_000)

    assert (stream.labelled == stream.labelled[:, [0]]).all()
    assert stream.labelled.mean() == pytest.approx(
        share, abs=4 * np.sqrt(share * (1 - share) / 20_000)
    )


def test_category_noise_tells_a_random_category_for_15_percent_of_calls() -> None:
    stream = stream_of(Scenario.CATEGORY_NOISE, repeat=20_000)

    wrong = (stream.seen != stream.category).mean()
    assert wrong == pytest.approx(0.15 / 2, abs=4 * np.sqrt(0.075 / 20_000))


def test_calls_arrive_by_the_clock_or_as_recorded() -> None:
    by_clock = stream_of(repeat=5, calls_per_second=4.0)
    recorded = stream_of(repeat=5, at_ms=np.array([100, 150, 400]))

    assert by_clock.at_ms.tolist() == [0, 250, 500, 750, 1000]
    assert recorded.at_ms.tolist() == [0, 50, 300, 301, 351]


# Hindsight and baselines


def test_hindsight_of_the_tiny_table_by_hand() -> None:
    known = hindsight(TINY, Rules())

    assert known.quality == pytest.approx(MEANS)
    assert known.overall == pytest.approx([0.5, 0.5])
    assert known.ranking == [0, 1]  # a tie goes by name
    assert hindsight(TINY, Rules(objective=Objective(value_usd=0.1))).overall == pytest.approx(
        [0.5 - 0.4, 0.5 - 0.1]
    )


def test_hindsight_keeps_the_latency_limit_or_comes_closest() -> None:
    known = hindsight(TINY, Rules(limits=Limits(latency_s=1.5, latency_prob=0.9)))

    # Category a: half of x and none of y in time; b: only y. Over all: a third each.
    assert known.allowed.tolist() == [[True, False], [False, True]]
    assert known.allowed_single.tolist() == [True, True]


@pytest.mark.parametrize(
    ("name", "arms"), [("best-per-category", [0, 0, 1]), ("best-single", [0, 0, 0])]
)
def test_fixed_policies_choose_as_they_are_called(name: str, arms: list[int]) -> None:
    policy = fixed_policy(name, hindsight(TINY, Rules()), None, np.random.default_rng(0))

    trace = run(policy, tiny(), no_time)

    assert trace.arm.tolist() == arms


def test_a_fixed_policy_goes_to_the_next_best_while_its_own_is_away() -> None:
    policy = fixed_policy("best-single", hindsight(TINY, Rules()), None, np.random.default_rng(0))

    assert policy.choose(0, 0, np.array([False, True])) == 1


@given(st.integers(0, 10_000), st.floats(0.05, 1.2))
def test_time_share_is_the_best_mix_that_linprog_finds(seed: int, level: float) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 7))
    cost, value = rng.uniform(0.001, 0.1, n), rng.uniform(0, 1, n)
    budget = float(cost.min() + level * (cost.max() - cost.min())) + 1e-9
    best = linprog(-value, A_ub=[cost], b_ub=[budget], A_eq=[np.ones(n)], b_eq=[1])

    first, second, share = time_share(cost, value, budget)

    assert (1 - share) * value[first] + share * value[second] == pytest.approx(-best.fun, abs=1e-7)
    assert (1 - share) * cost[first] + share * cost[second] <= budget * (1 + 1e-9)


def test_below_the_cheapest_the_mix_is_the_cheapest_alone() -> None:
    assert time_share(np.array([0.2, 0.1]), np.array([0.9, 0.1]), 0.05) == (1, 1, 0.0)


def test_a_mix_serves_its_second_for_its_share() -> None:
    policy = baselines.Mix(0, 1, 0.3, np.random.default_rng(0))

    share = np.mean([policy.choose(t, 0, BOTH) for t in range(10_000)])

    assert share == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / 10_000))
    assert policy.choose(0, 0, np.array([False, True])) == 1


def learner(name: str, known: np.ndarray | None = None, **kw) -> Learning:
    """Σr = (3, 1, 0) and n = (4, 2, 0) in the one category."""
    score = baselines.LEARNERS[name]
    found = Learning(score, np.random.default_rng(0), known, (1, 3), **kw)
    found.n[0], found.total[0] = (4, 2, 0), (3, 1, 0)
    return found


PROFILE = np.array([[0.6, np.nan, 1.0]])


def test_greedy_scores_by_hand() -> None:
    cold = baselines.mean_score(learner("greedy"), 0)
    warm = baselines.mean_score(learner("greedy", PROFILE), 0)

    assert cold == pytest.approx([4 / 5, 2 / 3, 1])
    assert warm == pytest.approx([(3 + 25 * 0.6) / 29, 2 / 3, 0.98])


def test_ucb_scores_by_hand() -> None:
    cold = baselines.ucb_score(learner("ucb"), 0)
    warm = baselines.ucb_score(learner("ucb", PROFILE), 0)

    assert cold[:2] == pytest.approx(
        [3 / 4 + 0.5 * np.sqrt(np.log(6) / 8), 1 / 2 + 0.5 * np.sqrt(np.log(6) / 4)]
    )
    assert cold[2] > 1e8
    n = 29 + 2 + 25
    assert warm == pytest.approx(
        [
            18 / 29 + 0.5 * np.sqrt(np.log(n) / 58),
            1 / 2 + 0.5 * np.sqrt(np.log(n) / 4),
            0.98 + 0.5 * np.sqrt(np.log(n) / 50),
        ]
    )


@pytest.mark.parametrize(
    ("known", "a", "b"),
    [(None, (4, 2, 1), (2, 2, 1)), (PROFILE, (18, 2, 24.5), (11, 2, 0.5))],
)
def test_beta_draws_have_their_moments(known, a, b) -> None:
    policy = learner("beta-ts", known)
    drawn = np.array([baselines.beta_score(policy, 0) for _ in range(4000)])

    first, second = np.array(a), np.array(b)
    n = first + second
    sd = np.sqrt(first * second / (n**2 * (n + 1)))
    assert (np.abs(drawn.mean(axis=0) - first / n) <= 4 * sd / np.sqrt(4000)).all()
    assert drawn.std(axis=0) == pytest.approx(sd, rel=0.1)


def test_epsilon_greedy_is_greedy_for_nine_calls_of_ten() -> None:
    policy = learner("epsilon-greedy", np.array([[0.9, 0.1, 0.1]]))

    chosen = np.array([policy.choose(t, 0, np.ones(3, dtype=bool)) for t in range(6000)])

    p = 0.9 + 0.1 / 3
    assert (chosen == 0).mean() == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / 6000))


def test_random_is_uniform_over_those_available() -> None:
    policy = learner("random")

    chosen = [policy.choose(t, 0, np.array([True, False, True])) for t in range(4000)]

    assert set(chosen) == {0, 2}
    assert np.mean(chosen) == pytest.approx(1, abs=4 / np.sqrt(4000))


def test_a_learner_pays_for_cost_where_a_success_has_a_value() -> None:
    policy = learner("greedy", price=np.array([[0.0, 0.0, 0.5]]))

    assert policy.choose(0, 0, np.ones(3, dtype=bool)) == 0


def test_ties_are_broken_at_random() -> None:
    fresh = Learning(baselines.mean_score, np.random.default_rng(0), None, (1, 3))

    chosen = {fresh.choose(t, 0, np.ones(3, dtype=bool)) for t in range(60)}

    assert chosen == {0, 1, 2}


def test_a_learner_counts_its_labels() -> None:
    policy = learner("greedy")

    policy.judged(0, 0, 2, 0.25)
    policy.answered(0, 0, 2)

    assert policy.n.tolist() == [[4, 2, 1]]
    assert policy.total.tolist() == [[3, 1, 0.25]]


def test_waiting_takes_its_price_off_utility_where_it_was_measured() -> None:
    cost, latency = np.array([[0.01, 0.02]]), np.array([[4.0, 1.0]])
    objective = Objective(value_usd=0.05, latency_usd_per_s=0.0005)

    assert priced(cost, latency, objective) == pytest.approx(np.array([[0.24, 0.41]]))
    assert priced(cost, None, objective) == pytest.approx(np.array([[0.2, 0.4]]))
    assert priced(cost, latency, Objective(latency_usd_per_s=0.0005)).tolist() == [[0, 0]]
