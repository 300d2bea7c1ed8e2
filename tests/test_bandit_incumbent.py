"""An incumbent keeps the traffic until another is shown better; exploring stays in its room."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from bandit import incumbent
from bandit.evidence import Evidence
from bandit.families import Q
from bandit.incumbent import Books, Standings
from bandit.posterior import Arms, Posterior
from bandit.quality import Quality
from bandit.reliability import Reliability
from bandit.replay.loop import Loop, Rules
from bandit.replay.run import Pointsman, run
from bandit.replay.scenarios import Outcomes, Scenario, make_stream
from bandit.utility import Objective, enough_labels

QUALITY = Objective()
PRICED = Objective(value_usd=0.1)


def known(
    mean: list[list[float]],
    sd: float | list[list[float]] = 0.05,
    *,
    labels: float | list[list[float]] = 100.0,
    cost_usd: list[float] | None = None,
) -> Posterior:
    """A posterior of exactly these means and sds; (n_tasks, n_groups), every call answered."""
    theta = np.array(mean)
    spread = np.broadcast_to(np.array(sd, dtype=float), theta.shape)
    n_tasks, n = theta.shape
    evidence = Evidence.empty(n_tasks, n)
    evidence.quality[..., Q.LABELS] = labels
    arms = Arms(np.arange(n), np.arange(n), np.ones(n), np.ones(n))
    found = Posterior(arms, evidence, np.zeros((n_tasks, n), dtype=bool), evidence.derived)
    vars(found)["quality"] = Quality(
        base=np.zeros(n_tasks),
        base_cov=np.zeros((n_tasks, n_tasks)),
        skill=np.zeros(n),
        skill_var=np.zeros(n),
        skill_per_base=np.zeros((n_tasks, n)),
        noise=np.full((n_tasks, n), 0.2),
        tau2=np.full(n_tasks, 1e15),
        precision=1 / spread**2,
        pull=theta / spread**2,
    )
    vars(found)["reliability"] = Reliability(
        *(full(theta.shape) for full in (np.ones, np.zeros, np.ones, np.zeros))
    )
    usd = np.array(cost_usd or [0.01] * n)
    vars(found)["cost_usd"] = np.repeat(usd[None, :], n_tasks, axis=0)
    return found


def books(
    routed: float, labelled: list[float], reward: list[float], unlabelled: list[float]
) -> Books:
    """The books of one task."""
    return Books(
        np.array([routed]), np.array([labelled]), np.array([reward]), np.array([unlabelled])
    )


# The room


def test_an_empty_book_leaves_three_successes_less_the_reserve() -> None:
    empty = books(0, [0, 0], [0, 0], [0, 0])

    assert incumbent.room(empty, known([[0.8, 0.6]]), QUALITY, 0) == pytest.approx(3 - 2)


def test_room_in_successes_by_hand() -> None:
    # .01·1000 + (18 − 20·.8) + 5·(.6 − .8) − 1.65·√(25·.16) − 2
    found = incumbent.room(
        books(1000, [0, 20], [0, 18], [0, 5]), known([[0.8, 0.6]]), QUALITY, incumbent=0
    )

    assert found == pytest.approx(10 + 2 - 1 - 3.3 - 2)


def test_room_in_successes_of_a_value_by_hand() -> None:
    # Prices ÷ value are .1 and .3, utilities .7 and .3: 18 − 20·(.3 + .7) and 5·(.3 − .7)
    found = incumbent.room(
        books(1000, [0, 20], [0, 18], [0, 5]),
        known([[0.8, 0.6]], cost_usd=[0.01, 0.03]),
        PRICED,
        incumbent=0,
    )

    assert found == pytest.approx(10 - 2 - 2 - 3.3 - 2)


def test_room_is_shared_by_all_tasks() -> None:
    both = Books(
        np.array([400.0, 600.0]),
        labelled=np.array([[0.0, 10], [0, 10]]),
        reward=np.array([[0.0, 9], [0, 2]]),
        unlabelled=np.zeros((2, 2)),
    )

    # .01·1000 + (9 − 8) + (2 − 5) − 1.65·√(10·.16 + 10·.25) − 2
    found = incumbent.room(both, known([[0.8, 0.8], [0.5, 0.5]]), QUALITY, incumbent=0)
    assert found == pytest.approx(10 + 1 - 3 - 1.65 * np.sqrt(4.1) - 2)


@pytest.mark.parametrize(("mean", "variance"), [(1.0, 0.01), (0.0, 0.01), (0.5, 0.25), (0.9, 0.09)])
def test_a_calls_variance_is_that_of_a_coin_within_bounds(mean: float, variance: float) -> None:
    found = incumbent.room(
        books(300, [0, 100], [0, 100 * mean], [0, 0]), known([[mean, mean]]), QUALITY, incumbent=0
    )

    assert found == pytest.approx(3 - 1.65 * np.sqrt(100 * variance) - 2)


counts = st.lists(st.integers(0, 500).map(float), min_size=3, max_size=3)
shares = st.lists(st.floats(0, 1), min_size=3, max_size=3)


@given(counts, shares, counts, shares, st.integers(1, 2), st.integers(0, 5000))
def test_an_unlabelled_call_never_leaves_more_room_than_the_incumbents(
    labelled, won, unlabelled, mean, arm, routed
) -> None:
    reward = [n * share for n, share in zip(labelled, won, strict=True)]
    found = known([mean])
    before = books(routed, labelled, reward, unlabelled)
    one_more = [u + (a == arm) for a, u in enumerate(unlabelled)]

    theirs = incumbent.room(books(routed + 1, labelled, reward, unlabelled), found, QUALITY, 0)
    tried = incumbent.room(books(routed + 1, labelled, reward, one_more), found, QUALITY, 0)
    not_counted = incumbent.room(books(routed, labelled, reward, one_more), found, QUALITY, 0)

    assert tried <= theirs
    assert not_counted <= incumbent.room(before, found, QUALITY, 0)


@given(counts, shares, st.integers(1, 2))
def test_a_lost_trial_takes_room_and_a_won_one_gives_it(labelled, won, arm) -> None:
    reward = [n * share for n, share in zip(labelled, won, strict=True)]
    found = known([[0.7, 0.7, 0.7]])
    n = [x + (a == arm) for a, x in enumerate(labelled)]
    more = [x + (a == arm) for a, x in enumerate(reward)]

    lost = incumbent.room(books(300, n, reward, [0] * 3), found, QUALITY, 0)
    gained = incumbent.room(books(300, n, more, [0] * 3), found, QUALITY, 0)

    assert gained - lost == pytest.approx(1)
    assert lost < incumbent.room(books(300, labelled, reward, [0] * 3), found, QUALITY, 0)


# Who is tried


@pytest.mark.parametrize(
    ("mean", "sd"),
    [(0.05, 0.1), (-0.2, 0.1), (0.3, 0.02), (0.0, 0.4), (0.1, 0.001), (-0.01, 0.3)],
)
@pytest.mark.parametrize("reference", [0.5, 0.9, 0.97, 0.999])
def test_expected_gain_is_the_integral_of_the_clipped_difference(mean, sd, reference) -> None:
    found = known([[reference, reference + mean]], [[1e-9, sd]])
    most = max(1 - reference, 0.01)

    gain = incumbent.expected_gain(found, QUALITY, 0, 0)

    law = stats.norm(mean, sd)
    inside, _ = integrate.quad(lambda x: x * law.pdf(x), 0, most, points=[np.clip(mean, 0, most)])
    assert gain[1] == pytest.approx(inside + most * law.sf(most), abs=1e-8)
    assert gain[0] == 0


@pytest.mark.parametrize(("labels", "enough"), [([20, 0], [1, 0]), ([19, 11], [1, 1])])
def test_a_verdict_takes_20_labels_here_or_30_over_all_tasks(labels, enough) -> None:
    over_tasks = np.array(labels, dtype=float)[:, None]

    assert enough_labels(over_tasks)[:, 0].tolist() == enough


def test_29_labels_over_all_tasks_are_too_few() -> None:
    assert not enough_labels(np.array([[19.0], [10.0]])).any()


def test_challengers_are_the_two_of_most_expected_gain() -> None:
    found = known([[0.6, 0.65, 0.75, 0.7, 0.2]])

    stand = incumbent.choose_challengers(
        incumbent.begin(0, 1), found, QUALITY, np.ones(5, dtype=bool), np.zeros(5)
    )

    assert stand.challengers == ((2, 3),)
    assert stand.version == 1


def test_neither_choice_nor_incumbent_nor_the_absent_are_challengers() -> None:
    found = known([[0.6, 0.65, 0.75, 0.7, 0.62]])
    stand = Standings(0, np.array([2]), ((),))

    chosen = incumbent.choose_challengers(
        stand, found, QUALITY, np.array([1, 1, 1, 0, 1], dtype=bool), np.zeros(5)
    )

    assert set(chosen.challengers[0]) == {1, 4}


def test_among_the_unknown_the_given_order_decides() -> None:
    found = known([[0.6, 0.6, 0.6, 0.6]], [[0.05, 0.2, 0.2, 0.2]])

    chosen = incumbent.choose_challengers(
        incumbent.begin(0, 1), found, QUALITY, np.ones(4, dtype=bool), np.array([0.0, 1, 3, 2])
    )

    assert chosen.challengers == ((2, 3),)


def test_unchanged_challengers_are_no_new_version() -> None:
    found, everybody = known([[0.6, 0.65, 0.75]]), np.ones(3, dtype=bool)
    first = incumbent.choose_challengers(
        incumbent.begin(0, 1), found, QUALITY, everybody, np.zeros(3)
    )

    assert incumbent.choose_challengers(first, found, QUALITY, everybody, np.zeros(3)) is first


def test_nothing_is_explored_with_too_few_labels() -> None:
    found = known([[0.5, 0.9], [0.5, 0.9]], labels=[[10, 100], [9, 100]])
    stand = Standings(0, np.zeros(2, dtype=int), ((1,), (1,)))

    a_day = np.array([1e4, 1e4])
    assert not incumbent.explored_tasks(stand, found, QUALITY, a_day, room=1e9).any()


def lost_a_day(sd: float) -> float:
    """Successes that 100 calls cost where the choice's .6 is tried against an unsure .55."""
    both = float(np.hypot(1e-9, sd))
    inside, _ = integrate.quad(
        lambda x: -x * stats.norm(-0.05, both).pdf(x), -0.05 - 9 * both, 0, points=[-0.05]
    )
    return 100 * (1 - 0.98 * 0.4) * inside


@pytest.mark.parametrize(
    ("room", "explored"), [(1.001, [True, True, False]), (0.999, [True, False, False])]
)
def test_a_room_that_covers_a_days_loss_is_spent_everywhere_one_that_does_not_where_it_pays(
    room: float, explored: list[bool]
) -> None:
    found = known([[0.6, 0.55]] * 3, [[1e-9, 0.1]] * 3)
    stand = Standings(0, np.zeros(3, dtype=int), ((1,), (1,), ()))
    a_day = np.array([100.0, 89.0, 1e6])  # below nine tenths; the last has no challenger

    found_room = room * lost_a_day(0.1) * 1.89

    assert (
        incumbent.explored_tasks(stand, found, QUALITY, a_day, room=found_room).tolist() == explored
    )


def test_who_is_surely_better_costs_nothing_to_try() -> None:
    found = known([[0.6, 0.8, 0.75], [0.6, 0.5, 0.75]], 0.001)
    stand = Standings(0, np.zeros(2, dtype=int), ((1, 2), (1, 2)))

    lost = incumbent.expected_loss(stand, found, QUALITY)

    # in the second task as if all that the choice does not keep went to the worst
    assert lost == pytest.approx([0.0, (1 - 0.98 * 0.4) * 0.1])


def test_after_a_release_the_incumbent_may_be_what_a_trial_costs() -> None:
    found = known([[0.6, 0.8, 0.85]], 0.001)

    (lost,) = incumbent.expected_loss(Standings(0, np.array([1]), ((2,),)), found, QUALITY)

    assert lost == pytest.approx((1 - 0.98 * 0.97) * 0.2)


# The law that follows


def stood_at(current: int) -> Standings:
    return Standings(0, np.array([current]), ((2,),))


@pytest.mark.parametrize(("room", "explored"), [(0.0, True), (-1.0, True), (5.0, False)])
def test_without_room_or_reason_the_choice_stays_and_nobody_is_tried(room, explored) -> None:
    law = incumbent.law(
        stood_at(0), known([[0.5, 0.6, 0.7]]), QUALITY, 0, room=room, explored=explored
    )

    assert (law.stay, law.floor, law.challengers, law.current) == (1.0, 0.0, (), 0)


@pytest.mark.parametrize(("current", "stay"), [(0, 0.4), (1, 0.97)])
def test_with_room_the_challengers_are_tried(current: int, stay: float) -> None:
    law = incumbent.law(
        stood_at(current), known([[0.5, 0.6, 0.7]]), QUALITY, 0, room=1.0, explored=True
    )

    assert (law.stay, law.floor, law.challengers) == (stay, incumbent.FLOOR, (2,))
    assert (law.incumbent, law.current) == (0, current)


@pytest.mark.parametrize(("p", "current"), [(0.979, 0), (0.981, 1)])
@pytest.mark.parametrize("room", [0.0, 1.0])
def test_a_choice_that_is_not_surely_better_yields_once_the_room_is_spent(p, current, room) -> None:
    sd = float(np.hypot(0.05, 0.05))
    found = known([[0.5, 0.5 + sd * stats.norm.ppf(p), 0.5]])

    law = incumbent.law(stood_at(1), found, QUALITY, 0, room=room, explored=True)

    assert law.current == (current if room <= 0 else 1)


# Reviews


def reviewed(found: Posterior, stand: Standings | None = None, present=None):
    n = found.arms.n_groups
    everybody = np.ones(n, dtype=bool) if present is None else np.array(present, dtype=bool)
    start = incumbent.begin(0, len(found.labels)) if stand is None else stand
    return incumbent.review(start, found, QUALITY, everybody)


@pytest.mark.parametrize(("p", "released"), [(0.899, False), (0.901, True)])
def test_a_release_takes_nine_in_ten(p: float, released: bool) -> None:
    sd = float(np.hypot(0.05, 0.05))
    found = known([[0.5, 0.5 + sd * stats.norm.ppf(p)]])

    stand, releases = reviewed(found)

    assert bool(releases) is released
    assert stand.current.tolist() == [int(released)]
    assert stand.version == int(released)


@pytest.mark.parametrize(
    ("labels", "released"),
    [
        ([[20, 20], [0, 0]], True),
        ([[20, 19], [0, 0]], False),
        ([[19, 20], [0, 0]], False),
        ([[19, 20], [11, 0]], True),
        ([[20, 10], [0, 19]], False),
        ([[20, 10], [0, 20]], True),
    ],
)
def test_a_release_takes_labels_on_both_sides(labels, released: bool) -> None:
    found = known([[0.5, 0.9], [0.5, 0.5]], labels=labels)

    stand, releases = reviewed(found)

    assert [r.task for r in releases] == [0] * released
    assert stand.current[0] == int(released)


def test_the_release_goes_to_the_best_of_the_better_and_says_why() -> None:
    found = known([[0.5, 0.8, 0.9, 0.95]], [[0.05, 0.05, 0.05, 0.6]])

    _, (release,) = reviewed(found)

    assert (release.before, release.after, release.reason) == (0, 2, "better")
    assert release.gain == pytest.approx(0.4)
    assert release.p_better == pytest.approx(stats.norm.cdf(0.4 / np.hypot(0.05, 0.05)))


def test_whoever_is_away_is_not_released() -> None:
    stand, releases = reviewed(known([[0.5, 0.9, 0.8]]), present=[1, 0, 1])

    assert stand.current.tolist() == [2]
    assert len(releases) == 1


def test_a_choice_may_go_back_to_the_incumbent() -> None:
    stand, (release,) = reviewed(known([[0.9, 0.5]]), Standings(0, np.array([1]), ((),)))

    assert stand.current.tolist() == [0]
    assert (release.before, release.after) == (1, 0)


def test_a_cost_that_eats_the_gain_is_no_improvement() -> None:
    found = known([[0.6, 0.75]], cost_usd=[0.01, 0.03])

    _, by_quality = reviewed(found)
    _, by_value = incumbent.review(incumbent.begin(0, 1), found, PRICED, np.ones(2, dtype=bool))

    assert by_quality
    assert not by_value


# Between reviews


def at_once(found: Posterior, stand: Standings | None = None, asked=None, present=None):
    n_tasks, n = found.labels.shape[0], found.arms.n_groups
    return incumbent.certain(
        incumbent.begin(0, n_tasks) if stand is None else stand,
        found,
        QUALITY,
        np.ones(n, dtype=bool) if present is None else np.array(present, dtype=bool),
        np.ones(n_tasks, dtype=bool) if asked is None else np.array(asked, dtype=bool),
    )


@pytest.mark.parametrize(("mean", "sd"), [(0.02, 0.01), (0.1, 0.03), (0.01, 0.02)])
@pytest.mark.parametrize("rivals", [1, 7])
def test_odds_that_last_are_those_of_the_evidence_for_better_against_equal(
    mean, sd, rivals
) -> None:
    spread = incumbent.TELLING
    variance = 1 / (1 / sd**2 - 1 / spread**2)  # of what was seen, where this is the posterior
    seen = mean * variance / sd**2

    p = incumbent.p_lasting(np.array([mean, -mean, 0.1]), np.array([sd, sd, 0.0]), rivals)

    points = [0, mean, 10 * spread]
    better, _ = integrate.quad(
        lambda d: 2 * stats.norm(0, spread).pdf(d) * stats.norm(d, variance**0.5).pdf(seen),
        0,
        10 * spread,
        points=points,
    )
    odds = better / stats.norm(0, variance**0.5).pdf(seen) / rivals
    assert p == pytest.approx([odds / (1 + odds), 0, 0], rel=1e-6)


@pytest.mark.parametrize(
    ("labels", "released"),
    [
        ([[200, 200], [0, 0]], True),
        ([[200, 199], [0, 500]], False),
        ([[199, 200], [500, 0]], False),
    ],
)
def test_what_is_certain_takes_200_labels_in_this_task_on_each_side(labels, released) -> None:
    found = known([[0.5, 0.9], [0.5, 0.5]], 0.03, labels=labels)

    stand, releases = at_once(found)

    assert [(r.task, r.reason) for r in releases] == [(0, "certain")] * released
    assert stand.current.tolist() == [int(released), 0]
    assert stand.version == int(released)


@pytest.mark.parametrize(("z", "released"), [(3.1, False), (5.0, True)])
def test_three_sds_between_two_that_are_looked_at_all_the_time_are_not_certain(z, released) -> None:
    sd = float(np.hypot(0.02, 0.02))

    _, releases = at_once(known([[0.5, 0.5 + z * sd]], 0.02, labels=1000))

    assert bool(releases) is released
    assert stats.norm.cdf(3.1) > 0.999


def test_of_several_that_are_certain_the_best_takes_over_and_the_unsure_wait() -> None:
    found = known(
        [[0.5, 0.8, 0.9, 0.95, 0.99]],
        [[0.02, 0.02, 0.02, 0.02, 0.3]],
        labels=[[500, 500, 500, 199, 500]],
    )

    _, (release,) = at_once(found)

    assert (release.before, release.after) == (0, 2)
    assert release.p_better > 0.999


def test_tasks_that_are_not_asked_and_groups_that_are_away_wait() -> None:
    found = known([[0.5, 0.9, 0.8], [0.5, 0.9, 0.8]], 0.02, labels=500)

    stand, releases = at_once(found, asked=[0, 1], present=[1, 0, 1])

    assert stand.current.tolist() == [0, 2]
    assert len(releases) == 1


# In the loop


def outcomes() -> Outcomes:
    rng = np.random.default_rng(2)
    rate = np.array([[0.3, 0.9, 0.5], [0.4, 0.5, 0.95]])
    category = np.arange(200) % 2
    quality = (rng.random((200, 3)) < rate[category]).astype(float)
    cost = np.repeat(np.array([[0.02, 0.001, 0.002]]), 200, axis=0)
    return Outcomes(["a", "b"], ["x", "y", "z"], category, quality, cost, None)


def replayed(scenario: Scenario, objective: Objective, n: int, *, seed: int = 0):
    table = outcomes()
    stream = make_stream(table, seed=seed, scenario=scenario, best_single=1, median=2, repeat=n)
    rules = Rules(objective=objective, incumbent=0, floor=incumbent.FLOOR)
    loop = Loop(
        n_categories=2,
        n_arms=3,
        rules=rules,
        rng=np.random.default_rng([seed, 1]),
        n_calls=n,
    )
    return run(Pointsman(loop, stream), stream, lambda: 0.0)


@pytest.mark.parametrize("objective", [QUALITY, Objective(value_usd=0.05)])
def test_without_a_label_the_incumbent_keeps_every_call(objective: Objective) -> None:
    trace = replayed(Scenario.NO_LABELS, objective, 500)

    assert (trace.arm == 0).all()
    assert trace.releases == 0
    assert (trace.propensity == 1).all()


def test_a_much_better_challenger_takes_over_after_a_review() -> None:
    trace = replayed(Scenario.STATIONARY, QUALITY, 900)

    assert (trace.arm[:20] == 0).all()  # fewer labels than a verdict takes
    assert trace.releases >= 2
    assert (trace.arm[-200:] == 0).mean() < 0.2


def test_between_reviews_a_task_moves_to_who_is_certain_once_in_200_calls() -> None:
    table = outcomes()
    stream = make_stream(
        table, seed=3, scenario=Scenario.STATIONARY, best_single=1, median=2, repeat=2500
    )
    rules = Rules(incumbent=0, release_every=10**6, floor=incumbent.FLOOR)
    rng = np.random.default_rng(3)
    loop = Loop(n_categories=2, n_arms=3, rules=rules, rng=rng, n_calls=2500)

    trace = run(Pointsman(loop, stream), stream, lambda: 0.0)

    assert {r.reason for _, r in loop.releases} == {"certain"}
    for task, best in ((0, 1), (1, 2)):
        at = [call for call, r in loop.releases if r.task == task]
        assert all(late - early >= 200 for early, late in pairwise(at))
        last = stream.seen[-300:] == task
        assert (trace.arm[-300:][last] == best).mean() > 0.9


def test_the_books_hold_what_others_served_and_move_it_when_a_label_comes() -> None:
    loop = Loop(n_categories=2, n_arms=3, rules=Rules(incumbent=0), rng=np.random.default_rng(0))
    everybody = np.ones(3, dtype=bool)
    for call, arm in enumerate((0, 0, 1, 2)):
        loop.choose(call, 1, everybody)
        loop.answered(1, arm, ok=True, cost_usd=0.001, latency_s=None)

    loop.judged(0, 1, 0, 1.0, 0)
    loop.judged(3, 1, 2, 0.25, 0)

    books = loop._books  # private: only what is made of them shows, and that of much besides
    assert books.routed.tolist() == [0, 4]
    assert books.unlabelled.tolist() == [[0, 0, 0], [0, 1, 0]]
    assert books.labelled.tolist() == [[0, 0, 0], [0, 0, 1]]
    assert books.reward.tolist() == [[0, 0, 0], [0, 0, 0.25]]
