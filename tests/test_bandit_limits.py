"""Chance constraints: hard ones hold, soft ones give way in order, probabilities are scipy's."""

from __future__ import annotations

from itertools import chain, combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bandit import latency, limits
from bandit.evidence import Evidence
from bandit.families import L, Q, U
from bandit.limits import Limit, Limits, broken, keeps, merged, within, within_by_category
from bandit.posterior import Arms, Posterior, infer

# arm: quality, median seconds, USD of a million tokens
FAST = (0.5, 0.2, 5.0)
CHEAP = (0.5, 3.0, 0.1)
GOOD = (0.95, 3.0, 5.0)
TOKENS = 100


def known(*arms: tuple[float, float, float], n: int = 500) -> Posterior:
    evidence = Evidence.empty(1, len(arms))
    for arm, (quality, seconds, _) in enumerate(arms):
        ln, ln_out = np.log(seconds), np.log(TOKENS)
        evidence.quality[0, arm, [Q.LABELS, Q.N, Q.R, Q.R2]] = (n, n, n * quality, n * quality)
        evidence.latency[0, arm, [L.N, L.LN, L.LN2]] = (n, n * ln, n * (ln**2 + 0.04))
        evidence.usage[0, arm, [U.CALLS, U.N, U.TOKENS_OUT]] = (n, n, n * TOKENS)
        evidence.usage[0, arm, [U.N_LOG, U.LN_OUT, U.LN_OUT2]] = (n, n * ln_out, n * ln_out**2)
    usd = np.array([price for *_, price in arms])
    return infer(evidence, Arms(np.arange(len(arms)), np.arange(len(arms)), 0 * usd, usd))


THREE = known(FAST, CHEAP, GOOD)
ALL = np.ones(3, dtype=bool)
KEPT = {
    Limit.LATENCY: {"latency_s": 1.0},
    Limit.COST: {"cost_usd": 0.0001},
    Limit.QUALITY: {"quality": 0.8},
}
WHO_KEEPS = {Limit.LATENCY: 0, Limit.COST: 1, Limit.QUALITY: 2}


def asked(*kinds: Limit, hard: frozenset[Limit] = frozenset()) -> Limits:
    values: dict[str, float] = {}
    for kind in kinds:
        values |= KEPT[kind]
    return Limits(**values, hard=hard)


@pytest.mark.parametrize("kind", Limit)
@pytest.mark.parametrize("hard", [False, True])
def test_a_limit_that_somebody_keeps_leaves_those_who_do(kind: Limit, hard: bool) -> None:
    mask, gave_way = within(THREE, 0, asked(kind, hard=frozenset([kind] * hard)), ALL)

    assert np.flatnonzero(mask).tolist() == [WHO_KEEPS[kind]]
    assert gave_way == ()


def test_no_limit_leaves_everybody() -> None:
    mask, gave_way = within(THREE, 0, Limits(), ALL)

    assert mask.all()
    assert gave_way == ()


def test_soft_limits_give_way_latency_first_then_cost() -> None:
    mask, gave_way = within(THREE, 0, asked(*Limit), ALL)

    assert gave_way == (Limit.LATENCY, Limit.COST)
    assert np.flatnonzero(mask).tolist() == [WHO_KEEPS[Limit.QUALITY]]


def test_a_floor_that_nobody_keeps_gives_way_last() -> None:
    nobody = Limits(latency_s=1e-4, cost_usd=1e-9, quality=0.999)

    mask, gave_way = within(THREE, 0, nobody, ALL)

    nearest = THREE.latency.within(0, 1e-4).argmax()
    assert gave_way == (Limit.LATENCY, Limit.COST, Limit.QUALITY)
    assert mask.any()
    assert mask[nearest] or THREE.latency.within(0, 1e-4).max() < 0.02


SUBSETS = [frozenset(s) for s in chain.from_iterable(combinations(Limit, k) for k in (1, 2, 3))]


@pytest.mark.parametrize("hard", SUBSETS, ids=lambda s: "+".join(sorted(s)))
def test_a_hard_limit_never_gives_way(hard: frozenset[Limit]) -> None:
    mask, gave_way = within(THREE, 0, asked(*Limit, hard=hard), ALL)

    keepers = [WHO_KEEPS[kind] for kind in hard]
    assert not hard & set(gave_way)
    assert np.flatnonzero(mask).tolist() == (keepers if len(hard) == 1 else [])


def test_whoever_is_not_eligible_stays_out() -> None:
    mask, gave_way = within(THREE, 0, asked(Limit.QUALITY), np.array([True, True, False]))

    assert mask.tolist() == [True, True, False]
    assert gave_way == (Limit.QUALITY,)


def test_a_hard_limit_that_only_the_ineligible_keep_leaves_nobody() -> None:
    quality = asked(Limit.QUALITY, hard=frozenset([Limit.QUALITY]))

    mask, _ = within(THREE, 0, quality, np.array([True, True, False]))

    assert not mask.any()


@pytest.mark.parametrize("prob", [0.5, 0.9, 0.95, 0.99])
def test_the_probability_of_answering_in_time_is_that_of_students_t(prob: float) -> None:
    rng = np.random.default_rng(8)
    n = np.array([[1.0, 4, 12, 40, 200]])
    samples = [
        rng.normal(mean, 0.6, int(k)) for mean, k in zip((0, 0.3, -1, 0.2, 0.1), n[0], strict=True)
    ]
    ln = np.array([[s.sum() for s in samples]])
    ln2 = np.array([[(s**2).sum() for s in samples]])
    fitted = latency.fit(n, ln, ln2)

    scale = np.sqrt(fitted.beta * (fitted.kappa + 1) / (fitted.kappa * fitted.alpha))
    referee = stats.t(df=2 * fitted.alpha, loc=fitted.mean, scale=scale)
    for limit_s in (0.3, 1.0, 2.5, 20.0):
        assert fitted.within(0, limit_s) == pytest.approx(referee.cdf(np.log(limit_s))[0])
    assert fitted.quantile(prob) == pytest.approx(np.exp(referee.ppf(prob)))


@pytest.mark.parametrize("step", [-1e-3, 1e-3])
def test_latency_is_kept_exactly_from_its_probability_on(step: float) -> None:
    p = float(THREE.latency.within(0, 3.2)[1])
    limit = Limits(latency_s=3.2, latency_prob=p + step, hard=frozenset([Limit.LATENCY]))

    mask, _ = within(THREE, 0, limit, ALL)

    assert bool(mask[1]) is (step < 0)


@pytest.mark.parametrize("step", [-1e-3, 1e-3])
def test_a_known_endpoint_keeps_a_floor_with_good_odds_only(step: float) -> None:
    quality = THREE.quality
    floor = quality.mean[0, 2] - quality.sd[0, 2] * stats.norm.ppf(0.8 + step)

    mask, _ = within(THREE, 0, Limits(quality=floor, hard=frozenset([Limit.QUALITY])), ALL)

    assert bool(mask[2]) is (step > 0)


@pytest.mark.parametrize(("labels", "kept"), [(29, True), (30, False)])
def test_a_newcomer_keeps_a_floor_with_even_odds(labels: int, kept: bool) -> None:
    found = known(FAST, CHEAP, GOOD)
    found.evidence.quality[0, 2, Q.LABELS] = labels
    floor = found.quality.mean[0, 2] - 0.1 * found.quality.sd[0, 2]

    mask, _ = within(found, 0, Limits(quality=floor, hard=frozenset([Limit.QUALITY])), ALL)

    assert bool(mask[2]) is kept
    assert limits.FEW_LABELS == 30


def test_the_cost_limit_is_on_the_bound_not_on_the_mean() -> None:
    mean, bound = THREE.cost_usd[0, 1], THREE.cost_bound_usd[0, 1]
    between = Limits(cost_usd=(mean + bound) / 2, hard=frozenset([Limit.COST]))

    mask, _ = within(THREE, 0, between, ALL)

    assert mean < bound
    assert not mask.any()


def some_limits() -> st.SearchStrategy[Limits]:
    def optional(least: float, most: float) -> st.SearchStrategy[float | None]:
        return st.none() | st.floats(least, most)

    return st.builds(
        Limits,
        latency_s=optional(0.05, 10),
        latency_prob=st.sampled_from([0.5, 0.8, 0.95, 0.99]),
        cost_usd=optional(1e-6, 1e-3),
        quality=optional(0.05, 0.99),
        hard=st.frozensets(st.sampled_from(Limit)),
    )


SEVERAL = known(FAST, CHEAP, GOOD, (0.7, 1.0, 1.0), (0.6, 0.5, 0.4), n=60)


@given(some_limits(), some_limits())
def test_merged_limits_are_nowhere_looser_than_any_part(a: Limits, b: Limits) -> None:
    both = merged(a, b)

    everybody = np.ones(5, dtype=bool)
    assert set(both.asked) == set(a.asked) | set(b.asked)
    for part in (a, b):
        assert part.hard & set(part.asked) <= both.hard
        for kind in part.asked:
            tighter, own = keeps(SEVERAL, 0, both, kind), keeps(SEVERAL, 0, part, kind)
            assert not (tighter & ~own).any()
        alone = Limits(*(getattr(part, f) for f in FIELDS), hard=part.hard & set(part.asked))
        served, _ = within(SEVERAL, 0, both, everybody)
        allowed = [one is None for one in broken(SEVERAL, 0, alone)]
        assert not (served & ~np.array(allowed)).any()


FIELDS = ("latency_s", "latency_prob", "cost_usd", "quality")


@given(some_limits(), some_limits(), some_limits())
def test_the_order_of_merging_tells_nothing(a: Limits, b: Limits, c: Limits) -> None:
    assert merged(a, merged(b, c)) == merged(merged(c, a), b)
    assert merged(a, Limits()) == merged(a, a)


def test_what_asks_nothing_neither_tightens_nor_hardens() -> None:
    soft = Limits(latency_s=2.0, latency_prob=0.8)

    assert merged(soft, Limits(latency_prob=0.99, hard=frozenset(Limit))) == soft


def test_each_arm_is_told_its_first_broken_hard_limit() -> None:
    two = asked(*Limit, hard=frozenset([Limit.COST, Limit.LATENCY]))

    assert broken(THREE, 0, two) == [Limit.COST, Limit.LATENCY, Limit.LATENCY]
    assert broken(THREE, 0, asked(*Limit)) == [None] * 3


@pytest.mark.parametrize(("timed", "kept"), [(7, True), (8, False)])
def test_a_newcomer_keeps_a_latency_with_even_odds(timed: int, kept: bool) -> None:
    found = known(FAST, CHEAP, GOOD)
    found.evidence.latency[0, 0] *= timed / 500  # about .2 s a call
    scale = np.sqrt(found.latency.beta * (1 + 1 / found.latency.kappa) / found.latency.alpha)
    student = stats.t(2 * found.latency.alpha[0, 0], found.latency.mean[0, 0], scale[0, 0])
    between = float(np.exp(student.ppf(0.7)))

    mask = keeps(found, 0, Limits(latency_s=between, latency_prob=0.95), Limit.LATENCY)

    assert bool(mask[0]) is kept
    assert limits.FEW_TIMED == 8


@pytest.mark.parametrize(("labels", "kept"), [(4, True), (5, False)])
def test_no_floor_is_asked_of_whom_nothing_is_known_however_bad_others_are(
    labels: int, kept: bool
) -> None:
    found = known((0.0, 1.0, 1.0), CHEAP)
    found.evidence.quality[0, 1] *= labels / 500
    floor = Limits(quality=0.99, hard=frozenset([Limit.QUALITY]))

    assert within(found, 0, floor, np.ones(2, dtype=bool))[0].tolist() == [False, kept]


def test_who_was_not_timed_is_not_taken_to_be_as_slow_as_others() -> None:
    found = known((0.5, 60.0, 1.0), (0.5, 60.0, 1.0))
    found.evidence.latency[0, 1] = 0
    hard = frozenset([Limit.LATENCY])

    kept = [keeps(found, 0, Limits(s, hard=hard), Limit.LATENCY).tolist() for s in (0.9, 1.1)]

    assert kept == [[False, False], [False, True]]


def test_who_only_ever_timed_out_is_known_to_be_slow() -> None:
    found = known(FAST, CHEAP)
    found.evidence.latency[0, 1] = 0
    found.evidence.latency[0, 1, [L.N_CENSORED, L.LN_CENSORED]] = 20, 20 * np.log(30.0)

    assert keeps(found, 0, Limits(5.0), Limit.LATENCY).tolist() == [True, False]


def test_reviews_see_who_keeps_the_limits_in_each_category() -> None:
    assert within_by_category(THREE, asked(Limit.COST), ALL).tolist() == [[False, True, False]]
    assert within_by_category(THREE, Limits(), ALL) is ALL
