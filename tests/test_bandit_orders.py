"""The law of `cheapest` and `fastest`: the user's order, bounded by what is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bandit import incumbent, orders
from bandit.draws import Uniforms, draw, propensities, tabulate
from bandit.evidence import Evidence
from bandit.families import L, Q, R, U
from bandit.ordering import Ordering
from bandit.orders import Departures
from bandit.posterior import Arms, Marked, Posterior, infer
from bandit.utility import Objective, Order, admitted, p_above_floor

CHEAPEST, FASTEST = Objective(Order.CHEAPEST), Objective(Order.FASTEST)
EVERYBODY = np.ones(4, dtype=bool)
DUE, NOT_DUE = np.array([True]), np.array([False])
LISTED = -np.arange(4.0)
NOW_MS, HOUR_MS, DAY_MS = 1_800_000_000_000, 3_600_000, 86_400_000
NEVER = Departures.none(1, 4)


def moved(ago_ms: int) -> Departures:
    """An earlier move of the task, so long ago."""
    return Departures(np.array([NOW_MS - ago_ms]), NEVER.left_at_ms)


def posterior(
    *,
    calls: list[int] | None = None,
    failed: list[int] | None = None,
    seconds: list[float] | None = None,
    quality: list[float | None] | None = None,
    prices: list[float] | None = None,
    labels: list[int] | None = None,
) -> Posterior:
    """One category, four endpoints that are a group each; failures are old ones."""
    evidence = Evidence.empty(1, 4)
    for arm, n in enumerate(calls or []):
        ln = np.log((seconds or [1.0] * 4)[arm])
        evidence.usage[0, arm, [U.CALLS, U.N, U.TOKENS_IN, U.TOKENS_OUT]] = (n, n, n, n)
        evidence.usage[0, arm, U.FAILED] = (failed or [0] * 4)[arm]
        evidence.usage[0, arm, U.N_LOG] = n
        # A token a call in the mean, with an sd of .5 in its logarithm.
        evidence.usage[0, arm, [U.LN_OUT, U.LN_OUT2]] = (0, 0.25 * n)
        evidence.latency[0, arm, [L.N, L.LN, L.LN2]] = (n, n * ln, n * (ln**2 + 0.01))
        evidence.reliability[0, arm, R.OK] = min(n, 10)
    for arm, mean in enumerate(quality or []):
        if mean is not None:
            k = (labels or [200] * 4)[arm]
            columns = (k, k, k * mean, k * mean)
            evidence.quality[0, arm, [Q.LABELS, Q.N, Q.R, Q.R2]] = columns
    usd = np.array(prices or [4.0, 3.0, 2.0, 1.0])
    return infer(evidence, Arms(np.arange(4), np.arange(4), usd, usd))


def reviewed(
    found: Posterior,
    objective: Objective,
    *,
    at: int = 0,
    due=DUE,
    lost: bool = False,
    available=EVERYBODY,
    departures: Departures = NEVER,
):
    standings = replace(incumbent.begin(0, 1), current=np.array([at]))
    after, released, settled = orders.review(
        standings,
        found,
        objective,
        available,
        due,
        lost=np.array([lost]),
        departures=departures,
        now_ms=NOW_MS,
    )
    return int(after.current[0]), released, bool(settled[0])


@pytest.mark.parametrize(("calls", "failed", "serves"), [(19, 0, 0), (20, 0, 3), (25, 6, 0)])
def test_cheapest_is_released_once_the_task_has_twenty_answered_calls(
    calls: int, failed: int, serves: int
) -> None:
    found = posterior(calls=[calls, 0, 0, 0], failed=[failed, 0, 0, 0], prices=[40, 30, 20, 1])

    current, released, settled = reviewed(found, CHEAPEST)

    assert current == serves
    assert settled is (serves == 3)
    assert [(r.before, r.after, r.reason) for r in released] == [
        (0, 3, "first in the order") for _ in range(settled)
    ]
    assert all(r.p_better >= 0.9 and r.gain > 0 for r in released)


def checked(found: Posterior, calls: list[int], failed: list[int] | None = None) -> Posterior:
    """The same where so many of the calls are of a profile or a check."""
    counts = (np.array([n], dtype=float) for n in (calls, failed or [0] * 4))
    return replace(found, marked=Marked(*counts))


@pytest.mark.parametrize(("traffic", "serves"), [(0, 0), (19, 0), (20, 3)])
def test_checks_move_no_choice_of_cheapest_and_their_failures_hold_none_up(
    traffic: int, serves: int
) -> None:
    checks = [30, 30, 30, 40]
    calls = [checks[0] + traffic, *checks[1:]]
    found = posterior(calls=calls, failed=[9] * 4, prices=[40, 30, 20, 1])

    assert reviewed(checked(found, checks, [9] * 4), CHEAPEST)[0] == serves
    assert reviewed(checked(found, checks), CHEAPEST)[0] == 0, "counted before failures were"


@pytest.mark.parametrize(("checks", "serves"), [(100, 0), (57, 0), (56, 1)])
def test_the_bound_of_fastest_is_of_traffic(checks: int, serves: int) -> None:
    found = posterior(calls=[100, 100, 0, 0], seconds=[1.0, 0.1, 1.0, 1.0])

    current, _, settled = reviewed(checked(found, [70, checks, 0, 0]), FASTEST)

    assert (current, settled) == (serves, serves == 1)


def test_fastest_leaves_nobody_for_checks_that_failed() -> None:
    found = posterior(calls=[100] * 4, seconds=[1, 1, 1, 1], failed=[40, 0, 0, 0])
    found.evidence.reliability[0, 0, R.SERVER] = 40
    by_checks = checked(found, [40, 0, 0, 0], [40, 0, 0, 0])

    assert admitted(found, 0, FASTEST, EVERYBODY).tolist() == [False, True, True, True]
    assert admitted(by_checks, 0, FASTEST, EVERYBODY).all()


def test_who_is_least_measured_is_counted_by_traffic() -> None:
    found = posterior(calls=[90, 30, 20, 10], prices=[1.0] * 4)

    assert challengers(found, CHEAPEST) == (3, 2)
    assert challengers(checked(found, [0, 30, 15, 0]), CHEAPEST) == (1, 2)


def test_a_move_waits_until_the_order_surely_holds() -> None:
    """At .9 of the price few calls leave open who is cheaper, many do not."""
    few = posterior(calls=[30, 5, 5, 5], prices=[1.0, 0.9, 1.5, 1.5])
    many = posterior(calls=[300] * 4, prices=[1.0, 0.9, 1.5, 1.5])

    assert reviewed(few, CHEAPEST)[:2] == (0, [])
    assert reviewed(many, CHEAPEST)[0] == 1


@pytest.mark.parametrize(("calls", "serves"), [(43, 0), (44, 1)])
def test_fastest_needs_calls_enough_to_know_the_answered_share(calls: int, serves: int) -> None:
    found = posterior(calls=[30, calls, 0, 0], seconds=[1.0, 0.1, 1.0, 1.0])

    current, _, settled = reviewed(found, FASTEST)

    assert current == serves
    assert settled is (serves == 1)


def test_fastest_passes_over_who_fails() -> None:
    found = posterior(calls=[100] * 4, seconds=[1, 0.1, 0.5, 2], failed=[0, 20, 0, 0])

    assert reviewed(found, FASTEST)[0] == 2


def test_who_is_below_the_floor_yields_at_once_to_the_next_in_the_order() -> None:
    found = posterior(calls=[100] * 4, quality=[0.9, 0.9, 0.9, 0.3])

    assert reviewed(found, CHEAPEST, at=3, due=NOT_DUE)[0] == 2
    assert reviewed(found, CHEAPEST, at=3, due=NOT_DUE)[1][0].reason == "below its floor"


def test_who_fell_yields_to_the_next_that_is_rather_above_the_floor_than_to_the_dearest() -> None:
    """Somebody of whom little is known serves before it is told that only the dearest is good."""
    found = posterior(calls=[100] * 4, quality=[0.9, 0.86, 0.9, 0.3], labels=[400, 400, 6, 400])
    p = p_above_floor(found, 0)

    assert 0.5 < p[2] < 0.7
    assert reviewed(found, CHEAPEST)[0] == 1
    assert reviewed(found, CHEAPEST, at=3, due=NOT_DUE)[0] == 2


@pytest.mark.parametrize(("labels", "serves"), [(19, 3), (20, 2)])
def test_nobody_falls_below_the_floor_on_fewer_than_twenty_labels_of_its_own(
    labels: int, serves: int
) -> None:
    found = posterior(calls=[100] * 4, quality=[0.9, 0.9, 0.9, 0.1], labels=[500, 500, 500, labels])

    assert p_above_floor(found, 0)[3] < 0.01
    assert reviewed(found, CHEAPEST, at=3, due=NOT_DUE)[0] == serves


def test_who_is_probably_below_the_floor_is_not_moved_to() -> None:
    """At P = .3 to .7 of keeping the floor nobody is left, and nobody is moved to."""
    found = posterior(calls=[100] * 4, quality=[0.9, 0.9, 0.81, None])
    p = p_above_floor(found, 0)

    assert 0.3 < p[2] < 0.7
    assert 0.3 < p[3] < 0.7
    assert reviewed(found, CHEAPEST)[0] == 1
    assert reviewed(found, CHEAPEST, at=2)[0] == 2
    assert reviewed(found, CHEAPEST, at=3)[0] == 3


def test_the_odds_of_the_floor_are_those_of_the_difference_to_the_best_known() -> None:
    found = posterior(calls=[100] * 4, quality=[0.9, 0.8, 0.5, None])
    mean, sd = found.quality.difference(0, 0)

    p = p_above_floor(found, 0)

    margin = 0.1 * found.quality.mean[0, 0]
    assert p[0] == 1
    assert p[1:] == pytest.approx(stats.norm.cdf((mean + margin) / np.maximum(sd, 1e-12))[1:])
    assert (p_above_floor(posterior(calls=[100] * 4), 0) == 1).all()


def test_between_reviews_nothing_else_moves() -> None:
    found = posterior(calls=[100] * 4)

    assert reviewed(found, CHEAPEST, due=NOT_DUE) == (0, [], False)
    assert reviewed(found, CHEAPEST)[0] == 3


@pytest.mark.parametrize(("ago_ms", "serves"), [(HOUR_MS - 1, 0), (HOUR_MS, 3)])
def test_a_task_moves_once_an_hour_at_most(ago_ms: int, serves: int) -> None:
    found = posterior(calls=[100] * 4)
    below = posterior(calls=[100] * 4, quality=[0.3, 0.3, 0.3, 0.9])
    departures = moved(ago_ms)

    assert reviewed(found, CHEAPEST, departures=departures)[0] == serves
    assert reviewed(below, CHEAPEST, due=NOT_DUE, departures=departures)[0] == serves


def test_what_is_lost_is_left_within_the_hour_and_is_no_move() -> None:
    found = posterior(calls=[100] * 4)
    there = np.array([True, True, True, False])

    current, released, _ = reviewed(
        found, CHEAPEST, at=3, due=NOT_DUE, lost=True, available=there, departures=moved(1)
    )
    departures = NEVER.after(released, now_ms=NOW_MS)

    assert current == 2
    assert [r.reason for r in released] == ["next after a loss"]
    assert departures.moved_at_ms[0] == NEVER.moved_at_ms[0]
    assert departures.left_at_ms[0, 3] == NOW_MS


def test_what_is_lost_is_left_although_nobody_qualifies() -> None:
    there = np.array([True, True, True, False])
    low = posterior(calls=[100] * 4, quality=[0.5, 0.5, 0.5, 0.9])

    for found in (posterior(), low):
        lost = reviewed(found, CHEAPEST, at=3, due=NOT_DUE, lost=True, available=there)
        assert lost[0] == 2


@pytest.mark.parametrize(("ago_ms", "serves"), [(DAY_MS - 1, 0), (DAY_MS, 1)])
def test_who_was_left_within_a_day_comes_back_at_nineteen_in_twenty_only(
    ago_ms: int, serves: int
) -> None:
    found = posterior(calls=[40, 40, 40, 40], prices=[1.0, 0.91, 1.5, 1.5])
    surely = posterior(calls=[400] * 4, prices=[1.0, 0.91, 1.5, 1.5])
    departures = Departures(NEVER.moved_at_ms, NEVER.left_at_ms.copy())
    departures.left_at_ms[0, 1] = NOW_MS - ago_ms

    assert 0.9 < Ordering(found, CHEAPEST, 0, EVERYBODY).p_ahead(0)[1] < 0.95
    assert reviewed(found, CHEAPEST, departures=departures)[0] == serves
    assert reviewed(surely, CHEAPEST, departures=departures)[0] == 1


def test_fastest_leaves_who_surely_fails_too_often() -> None:
    found = posterior(calls=[400] * 4, seconds=[0.5, 1, 2, 3], failed=[60, 0, 0, 0])

    current, released, _ = reviewed(found, FASTEST)

    assert current == 1
    assert released[0].reason == "fails too often"


def test_the_odds_of_an_order_are_even_between_equals_and_none_where_nobody_is_there() -> None:
    found = posterior(calls=[50] * 4, prices=[1.0, 1.0, 0.0, 0.0])
    available = np.array([True, True, True, False])

    p = Ordering(found, CHEAPEST, 0, available).p_ahead(0)

    assert p.tolist() == [0.5, 0.5, 1.0, 0.0]
    assert Ordering(found, CHEAPEST, 0, EVERYBODY).p_ahead(2).tolist() == [0.0, 0.0, 0.5, 0.5]


def test_the_odds_of_an_order_are_those_of_its_logarithms() -> None:
    found = posterior(calls=[50, 80, 0, 0], seconds=[1.0, 1.3, 1.0, 1.0])
    latency, ok = found.latency, found.reliability
    by = np.log(latency.expected / ok.mean)[0]
    variance = (latency.ln_variance + ok.ln_variance)[0]

    p = Ordering(found, FASTEST, 0, EVERYBODY).p_ahead(1)

    z = (by[1] - by) / np.sqrt(variance + variance[1])
    assert p == pytest.approx(stats.norm.cdf(z))
    assert p[0] > 0.99


means = st.lists(st.one_of(st.none(), st.floats(0.05, 0.98)), min_size=4, max_size=4)
counts = st.lists(st.integers(0, 300), min_size=4, max_size=4)
prices = st.lists(st.floats(0.1, 50), min_size=4, max_size=4)
seconds = st.lists(st.floats(0.1, 20), min_size=4, max_size=4)
days = st.lists(
    st.tuples(counts, prices, seconds, means, counts, st.booleans(), st.integers(1, 4 * HOUR_MS)),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(days, st.sampled_from([CHEAPEST, FASTEST]))
def test_whatever_is_believed_every_move_is_calm(days: list, objective: Objective) -> None:
    """Beliefs that change arbitrarily from look to look move no task against the rules."""
    standings, departures = incumbent.begin(0, 1), NEVER
    at_ms, moves, left = NOW_MS, [], {}
    for calls, usd, slow, quality, labels, due, later_ms in days:
        at_ms += later_ms
        found = posterior(
            calls=calls, prices=usd, seconds=slow, quality=quality, labels=[n + 1 for n in labels]
        )
        now = int(standings.current[0])
        standings, released, _ = orders.review(
            standings,
            found,
            objective,
            EVERYBODY,
            np.array([due]),
            lost=np.array([False]),
            departures=departures,
            now_ms=at_ms,
        )
        departures = departures.after(released, now_ms=at_ms)
        for move in released:
            need = 0.95 if at_ms < left.get(move.after, -DAY_MS) + DAY_MS else None
            p = p_above_floor(found, 0)
            assert p[move.after] >= (need or (0.5 if move.reason == "below its floor" else 0.7))
            if move.reason == "first in the order":
                assert due
                ahead = Ordering(found, objective, 0, EVERYBODY).p_ahead(now)[move.after]
                assert ahead == move.p_better
                assert ahead >= (need or 0.9)
            elif move.reason == "below its floor":
                assert p[now] < 0.3
                assert found.labels[0, now] >= 20
            assert all(at_ms - earlier >= HOUR_MS for earlier in moves)
            moves.append(at_ms)
            left[now] = at_ms


def test_equals_stay_where_they_are() -> None:
    found = posterior(prices=[1.0, 1.0, 2.0, 1.0])

    assert reviewed(found, CHEAPEST)[0] == 0
    assert reviewed(found, CHEAPEST, at=3)[0] == 3


def challengers(found: Posterior, objective: Objective) -> tuple[int, ...]:
    standings = incumbent.begin(0, 1)
    return orders.choose_challengers(standings, found, objective, EVERYBODY, LISTED).challengers[0]


def test_challengers_are_the_least_measured() -> None:
    assert challengers(posterior(calls=[100, 50, 0, 0]), CHEAPEST) == (2, 3)
    assert challengers(posterior(calls=[0, 5, 50, 9]), FASTEST) == (1, 3)


def test_a_challenger_is_above_the_floor() -> None:
    found = posterior(calls=[100, 1, 1, 9], quality=[0.9, 0.2, 0.9, 0.9])

    assert challengers(found, CHEAPEST) == (2, 3)


def test_the_law_bounds_what_others_get() -> None:
    found = posterior(calls=[100] * 4)
    standings = replace(incumbent.begin(0, 1), current=np.array([3]))
    standings = orders.choose_challengers(standings, found, CHEAPEST, EVERYBODY, LISTED)
    law = orders.law(standings, 0)
    bank = found.bank(0, sharpness=1.0)
    table = tabulate(bank, objective=CHEAPEST, law=law, eligible=EVERYBODY)

    p = propensities(law, table)

    assert p.sum() == pytest.approx(1)
    assert p[3] >= 0.98 * orders.STAY
    assert draw(law, table, Uniforms(*[0.5] * 7)).arm == 3
