"""What a comparison shows: two sides' sums, their difference, and the words in their order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bandit.compared import COMPARED, LEAST_CLUSTERS, MOST_RELATIVE, SUMS, Measure, two_sides
from bandit.strata import LEAST_IN_BLOCK
from bandit.verdict import (
    WORTH,
    Basis,
    Difference,
    Lack,
    VerdictKind,
    compared,
    kind_of,
    row_alpha,
    verdict,
)

PLACE = ["task", "day", "bucket", "is_control"]
THREE = (Measure.QUALITY, Measure.COST_PER_SUCCESS, Measure.WALL_TIME)


def sessions(n: int, seed: int = 0, *, gain: float = 0.0, **columns: Any) -> NDArray[np.void]:
    """Sessions of one to six calls in three tasks over ten days, each a cluster."""
    rng = np.random.default_rng(seed)
    out = np.zeros(n, dtype=COMPARED)
    usual = {"task": rng.integers(0, 3, n), "day": rng.integers(0, 10, n), "units": 1}
    usual |= {"bucket": rng.integers(0, 4096, n), "is_control": rng.random(n) < 0.5}
    usual |= {"calls": rng.integers(1, 7, n)}
    for name, values in {**usual, **columns}.items():
        out[name] = values
    out["labelled"] = out["calls"]
    out["reward"] = rng.binomial(
        out["calls"], 0.5 + 0.1 * (out["task"] % 3) + gain * ~out["is_control"]
    )
    out["cost_usd"] = out["labelled_cost_usd"] = out["calls"] * rng.lognormal(-5, 1, n)
    out["wall_s"] = out["calls"] * rng.lognormal(1, 0.5, n)
    for name in {*columns} - {*PLACE}:
        out[name] = columns[name]
    return out


def added(rows: NDArray[np.void]) -> NDArray[np.void]:
    """One row a place, as the job keeps them."""
    places, first, inverse = np.unique(rows[PLACE], return_index=True, return_inverse=True)
    out = rows[first]
    for name in SUMS:
        out[name] = np.bincount(inverse, rows[name], len(places))
    return out


def figures(rows: NDArray[np.void], **more: Any) -> NDArray[np.float64]:
    """Mean and error of every measure."""
    measures = (Measure.UTILITY, *THREE)
    found = two_sides(rows, measures, value_usd=0.05, **more).differences
    assert [one.measure for one in found] == [*measures]
    return np.array([(one.mean, one.error) for one in found])


def test_sums_add_in_any_order_and_swapped_sides_change_the_sign() -> None:
    rows = sessions(3000, gain=0.05, bucket=np.arange(3000) % 300)
    swapped = rows.copy()
    swapped["is_control"] = ~rows["is_control"]

    whole = figures(rows)

    assert figures(added(rows)) == pytest.approx(whole)
    assert figures(np.random.default_rng(1).permutation(rows)) == pytest.approx(whole)
    assert figures(swapped) == pytest.approx(whole * [[-1, 1]])


def test_one_stratum_is_the_difference_of_two_means_with_welchs_error() -> None:
    one: dict[str, Any] = {"task": 7, "day": 3, "calls": 1, "bucket": np.arange(2000)}
    rows = sessions(2000, gain=0.1, **one)
    sides = [rows[rows["is_control"]], rows[~rows["is_control"]]]
    rewards = [side["reward"] for side in sides]
    logs = [np.log(s["cost_usd"].mean()) - np.log(s["reward"].mean()) for s in sides]

    found = figures(rows)

    assert found[1, 0] == pytest.approx(rewards[1].mean() - rewards[0].mean())
    welch = np.sqrt(sum(reward.var(ddof=1) / len(reward) for reward in rewards))
    assert found[1, 1] == pytest.approx(welch, rel=1e-6)
    assert found[2, 0] == pytest.approx(logs[1] - logs[0])
    spent = [side["cost_usd"].mean() / 0.05 for side in sides]
    assert found[0, 0] == pytest.approx(found[1, 0] - spent[1] + spent[0])


def test_a_task_that_one_side_had_more_of_by_chance_is_no_gain() -> None:
    rows = sessions(4000)
    hard = rows["task"] == 0
    rows["is_control"] = np.random.default_rng(2).random(4000) < np.where(hard, 0.8, 0.3)
    rows["reward"] = rows["calls"] * np.where(hard, 0.2, 0.9)

    (quality,) = two_sides(rows, [Measure.QUALITY]).differences

    assert quality.mean == pytest.approx(0.0, abs=1e-12)


def test_calls_of_a_user_that_go_together_widen_the_error() -> None:
    alone = sessions(2000, task=1, day=1, calls=1, bucket=np.arange(2000))
    four = np.repeat(alone, 4)

    (once,) = two_sides(alone, [Measure.QUALITY]).differences
    (often,) = two_sides(four, [Measure.QUALITY]).differences

    assert often.mean == pytest.approx(once.mean)
    assert often.error == pytest.approx(once.error, rel=1e-2)
    assert often.clusters == pytest.approx(once.clusters)


def test_days_with_few_labels_are_joined_and_tasks_without_any_are_left_out() -> None:
    rows = sessions(3000, gain=0.05)
    rows["labelled"] *= (rows["day"] < 8) | ~rows["is_control"]  # one side's come late
    rows["reward"] *= rows["labelled"] > 0
    silent = sessions(3000, 5, task=9, labelled=0, reward=0.0)
    rare = sessions(LEAST_IN_BLOCK, 6, task=10)

    whole, more = figures(rows), figures(np.concatenate([rows, silent]))
    sides = two_sides(np.concatenate([rows, rare]), [Measure.QUALITY])

    assert more == pytest.approx(whole)
    assert sum(sides.readable) == sum(two_sides(rows, [Measure.QUALITY]).readable) + len(rare)
    assert sides.differences[0].mean == pytest.approx(whole[1, 0], abs=0.01)


def test_nothing_is_read_of_too_few_units_labels_or_clusters() -> None:
    def lacks(rows: NDArray[np.void]) -> tuple[Lack | None, int | None]:
        said = verdict(rows, basis=Basis.TRIAL, value_usd=1.0)
        assert said.kind is VerdictKind.NOT_SHOWN
        assert said.differences == ()
        return said.lacks, said.needed

    half = {"is_control": np.arange(300) % 2 == 0}
    assert lacks(np.zeros(0, COMPARED)) == (Lack.UNITS, 400)
    assert lacks(sessions(300, gain=0.25, **half)) == (Lack.UNITS, 100)
    unlabelled = sessions(3000, labelled=0, reward=0.0)
    assert lacks(unlabelled) == (Lack.LABELS, None)
    one_user = sessions(4000, gain=0.25, bucket=np.arange(4000) % (LEAST_CLUSTERS // 2))
    assert lacks(one_user) == (Lack.CLUSTERS, None)


def test_a_side_that_is_free_or_never_succeeds_still_has_an_interval() -> None:
    rows = sessions(4000)
    free, hopeless, both = rows.copy(), rows.copy(), rows.copy()
    free["cost_usd"][~rows["is_control"]] = 0.0
    hopeless["reward"][~rows["is_control"]] = 0.0
    both["cost_usd"] = 0.0

    _, (quality, cost) = compared(free)
    assert cost.low <= cost.mean <= cost.high <= -0.99
    assert quality.low < 0 < quality.high
    said = verdict(hopeless, basis=Basis.TRIAL)
    assert said.kind is VerdictKind.KEEP
    assert 10 < said.differences[1].low < said.differences[1].high <= MOST_RELATIVE
    assert [one.measure for one in compared(both)[1]] == [Measure.QUALITY]


def interval(measure: Measure, low: float, high: float) -> Difference:
    """A gain from low to high, in parts of what is worth a change."""
    better = measure in (Measure.UTILITY, Measure.QUALITY)
    low, high = sorted(x * WORTH[measure] * (1 if better else -1) for x in (low, high))
    return Difference(measure, (low + high) / 2, low, high, better)


KEEP, GAINS, TRADE, NOT = (
    VerdictKind.KEEP,
    VerdictKind.GAINS,
    VerdictKind.TRADE,
    VerdictKind.NOT_SHOWN,
)


@pytest.mark.parametrize(
    ("ends", "kind"),
    [
        ([(-5, 0.9)], KEEP),
        ([(0.1, 0.9)], KEEP),  # above 0 for sure, and not worth a change
        ([(0.1, 1.1)], GAINS),
        ([(-0.1, 1.1)], NOT),
        ([(-5, 0.9), (-5, 0.9)], KEEP),
        ([(-5, 0.9), (-5, 1.1)], NOT),  # both are needed
        ([(0.1, 1.1), (-0.9, 5)], GAINS),
        ([(-0.9, 0.9), (3, 5)], GAINS),
        ([(0.1, 1.1), (-1.1, 5)], NOT),  # it may cost more than is worth it
        ([(3, 5), (-4, -2)], TRADE),
        ([(-4, -2), (3, 5)], TRADE),
        ([(-4, 0.1), (3, 5)], NOT),
        ([(-0.9, -0.1), (3, 5)], GAINS),  # worse, but by less than is worth it
        ([(-0.9, 3), (-0.9, 3), (0.1, 3)], GAINS),
        ([(-0.9, 3), (-1.1, 3), (0.1, 3)], NOT),
        ([(-3, -2), (-0.5, 0.5), (1, 3)], TRADE),
        ([], NOT),
    ],
)
def test_words_come_in_their_order(ends: list[tuple[float, float]], kind: VerdictKind) -> None:
    measures = [Measure.UTILITY] if len(ends) == 1 else THREE

    assert kind_of(tuple(interval(m, *e) for m, e in zip(measures, ends, strict=False))) is kind


def test_with_a_value_utility_decides_alone_else_measures_share_alpha() -> None:
    rows = sessions(3000, gain=0.15)

    valued, plain = (verdict(rows, basis=Basis.TRIAL, value_usd=v) for v in (1.0, None))
    app = verdict(rows, basis=Basis.HOLDOUT, is_of_app=True, value_usd=1.0, checked=0.1, at_ms=7)

    assert [one.measure for one in valued.differences] == [Measure.UTILITY]
    assert valued.kind is VerdictKind.GAINS
    assert valued.needed is None
    assert sum(valued.units) == 3000
    assert [one.measure for one in plain.differences] == [*THREE[:2]]
    assert [one.measure for one in app.differences] == [*THREE]
    assert (app.basis, app.checked, app.at_ms) == (Basis.HOLDOUT, 0.1, 7)
    width = [v.differences[0].high - v.differences[0].low for v in (plain, app)]
    alone = compared(rows, alpha=0.025, value_usd=1e9)[1][0]
    assert width[0] == pytest.approx(alone.high - alone.low, rel=1e-3)
    assert width[1] > width[0]
    assert row_alpha(4) == pytest.approx(0.05 / 4)
    assert row_alpha(0) == 0.05
    with pytest.raises(ValueError, match="above 0"):
        two_sides(rows, [Measure.UTILITY])


def test_an_apps_episodes_are_compared_by_what_a_whole_one_costs() -> None:
    """One side makes twice the calls: each is as cheap, an episode is not."""
    rows = sessions(3000)
    rows["labelled"], rows["reward"] = 1, np.random.default_rng(4).random(3000) < 0.7
    rows["calls"] = np.where(rows["is_control"], 2, 4)
    rows["cost_usd"] = rows["labelled_cost_usd"] = 0.01 * rows["calls"]

    by_call, by_episode = (
        two_sides(rows, [Measure.COST_PER_SUCCESS], by_episode=way).differences[0].mean
        for way in (False, True)
    )

    assert by_episode - by_call == pytest.approx(np.log(2))


def test_about_as_many_more_as_said_are_needed() -> None:
    rows = sessions(1200, 3, gain=0.08, calls=1, task=1)
    said = verdict(rows, basis=Basis.TRIAL, value_usd=1e9)
    assert said.kind is VerdictKind.NOT_SHOWN
    assert said.needed is not None

    def kind_after(copies: int) -> VerdictKind:
        more = np.concatenate([rows] * copies)
        more["bucket"] = np.arange(len(more)) % 4096
        return verdict(more, basis=Basis.TRIAL, value_usd=1e9).kind

    enough = int(np.ceil((said.needed + 1200) / 1200))
    assert enough > 1
    assert kind_after(enough) is VerdictKind.GAINS
    assert kind_after(enough - 1) is VerdictKind.NOT_SHOWN


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_users", "share_labelled", "swing"),
    [(10_000, 1.0, 0.0), (400, 1.0, 0.0), (10_000, 0.3, 0.0), (400, 0.3, 0.2)],
)
def test_intervals_hold_at_every_look(n_users: int, share_labelled: float, swing: float) -> None:
    """Users of many sessions on both sides, labels that come late, days of another level."""
    missed, naive, n = 0, 0, 5000
    for seed in range(60):
        rng = np.random.default_rng([seed, n_users])
        user = rng.integers(0, n_users, n)
        rows = sessions(n, seed, day=np.arange(n) * 10 // n, bucket=user % 4096)
        taste = rng.normal(0, 0.15, n_users)[user] + swing * np.sin(2.0 * rows["day"])
        rows["labelled"] = rng.binomial(rows["calls"], share_labelled)
        rows["reward"] = rng.binomial(rows["labelled"], np.clip(0.6 + taste, 0, 1))
        late = np.arange(n) + rng.exponential(300, n)
        is_missed = is_naive = False
        for look in range(400, n + 1, 200):
            seen = rows[:look].copy()
            for name in ("labelled", "reward"):
                seen[name][late[:look] > look] = 0
            sides, found = compared(seen, value_usd=1e9)
            for one, side in zip(found, sides.differences, strict=True):
                is_missed |= not one.low <= 0 <= one.high
                is_naive |= abs(side.mean) > 1.96 * side.error
        missed, naive = missed + is_missed, naive + is_naive

    assert missed <= 7, "3 of 60 are expected at most; more than 7 in 1 of 100 tries"
    assert naive >= 9
