"""The law of a draw: exact propensities, and where the mass goes when nobody is there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit import cells
from bandit.draws import LEARNING, Law, Uniforms, draw, propensities, tabulate
from bandit.evidence import Evidence
from bandit.families import L, Q, R, U
from bandit.posterior import Arms, Posterior, infer
from bandit.steps import Step
from bandit.utility import Objective, Order, admitted

QUALITY = Objective()
PRICED = Objective(Order.UTILITY, value_usd=0.05, latency_usd_per_s=0.0005)
MIDDLE = Uniforms(*[0.5] * 7)


def arms(group: list[int], prices: list[float] | None = None) -> Arms:
    n_groups = max(group) + 1
    usd = np.array(prices or [1.0] * len(group))
    return Arms(np.array(group), np.arange(n_groups), usd, usd)


def posterior(
    group: list[int],
    *,
    quality: list[float | None] | None = None,
    latency: list[float | None] | None = None,
    failed: list[int] | None = None,
    prices: list[float] | None = None,
    n: int = 400,
) -> Posterior:
    """One category; each list holds one figure an arm, None where nothing is known."""
    evidence = Evidence.empty(1, len(group))
    for arm, mean in enumerate(quality or []):
        if mean is not None:
            evidence.quality[0, arm, [Q.LABELS, Q.N, Q.R, Q.R2]] = (n, n, n * mean, n * mean)
    for arm, seconds in enumerate(latency or []):
        if seconds is not None:
            ln = np.log(seconds)
            evidence.latency[0, arm, [L.N, L.LN, L.LN2]] = (n, n * ln, n * (ln**2 + 0.01))
            evidence.usage[0, arm, [U.CALLS, U.N, U.TOKENS_IN, U.TOKENS_OUT]] = (n, n, n, n)
            evidence.reliability[0, arm, R.OK] = n
    for arm, count in enumerate(failed or []):
        evidence.reliability[0, arm, R.SERVER] = count
    return infer(evidence, arms(group, prices))


def table(found: Posterior, law: Law = LEARNING, objective: Objective = QUALITY, mask=None):
    eligible = np.ones(len(found.arms.group), dtype=bool) if mask is None else np.array(mask)
    return tabulate(found.bank(0), objective=objective, law=law, eligible=eligible)


laws = st.builds(
    Law,
    incumbent=st.integers(0, 3),
    current=st.integers(0, 3),
    challengers=st.lists(st.integers(0, 3), max_size=2).map(tuple),
    holdout=st.floats(0, 0.3),
    floor=st.floats(0, 0.3),
    stay=st.floats(0, 1),
)
masks = st.lists(st.booleans(), min_size=5, max_size=5).filter(any)
FIVE = posterior([0, 1, 1, 2, 3], quality=[0.6, 0.7, None, 0.65, None], latency=[1, 1, 2, 3, None])


@given(laws, masks)
def test_propensities_sum_to_one_and_stay_inside_the_eligible(law: Law, mask: list[bool]) -> None:
    found = table(FIVE, law, mask=mask)

    p = propensities(law, found)

    assert p.sum() == pytest.approx(1)
    assert (p >= 0).all()
    assert not p[~found.eligible].any()


@given(laws, masks, st.lists(st.floats(0, 0.999999), min_size=7, max_size=7))
def test_a_draw_carries_the_propensity_of_what_it_drew(law, mask, numbers) -> None:
    found = table(FIVE, law, mask=mask)

    drawn = draw(law, found, Uniforms(*numbers))

    group = propensities(law, found)[drawn.group]
    inside = found.host_shares(drawn.group, explores=True)
    assert mask[drawn.arm]
    assert sum(inside.values()) == pytest.approx(1)
    assert drawn.propensity == pytest.approx(group * inside[drawn.arm])
    assert drawn.propensity > 0


def test_draws_are_as_frequent_as_their_propensity_says() -> None:
    law = Law(incumbent=0, current=1, challengers=(2,), holdout=0.05, floor=0.1, stay=0.5)
    found = table(FIVE, law)
    rng = np.random.default_rng(11)
    n = 40_000
    counts = np.zeros(4)
    for _ in range(n):
        counts[draw(law, found, Uniforms(*rng.random(7))).group] += 1

    p = propensities(law, found)

    assert counts / n == pytest.approx(p, abs=4 * 0.5 / np.sqrt(n))


@pytest.mark.parametrize(
    ("law", "numbers", "group", "step"),
    [
        (Law(0, 1, holdout=0.03), replace(MIDDLE, holdout=0.01), 0, Step.HOLDOUT),
        (Law(0, 1, stay=0.97), replace(MIDDLE, stay=0.9), 1, Step.STAY),
        (Law(0, 0, stay=1.0), MIDDLE, 0, Step.STAY),
        (Law(0, 0, challengers=(1,), stay=0.0), MIDDLE, 1, Step.SAMPLE),
    ],
)
def test_each_step_of_the_law(law: Law, numbers: Uniforms, group: int, step: Step) -> None:
    found = table(posterior([0, 1, 2], quality=[0.3, 0.9, 0.5]), law)

    drawn = draw(law, found, numbers)

    assert (drawn.group, drawn.step) == (group, step)


def test_a_holdout_without_its_incumbent_counts_nothing() -> None:
    law = Law(incumbent=0, current=1, holdout=0.5, stay=1.0)
    found = table(posterior([0, 1], quality=[0.9, 0.1]), law, mask=[False, True])

    assert propensities(law, found).tolist() == [0.0, 1.0]


def test_without_choice_and_candidates_the_best_other_group_serves() -> None:
    law = Law(incumbent=0, current=0, stay=1.0)
    found = table(posterior([0, 1, 2], quality=[0.9, 0.2, 0.6]), law, mask=[False, True, True])

    drawn = draw(law, found, MIDDLE)

    assert (drawn.group, drawn.propensity, drawn.step) == (2, 1.0, Step.FAILOVER)


def test_the_only_allowed_endpoint_says_so() -> None:
    law = Law(incumbent=0, current=0, stay=1.0)
    found = table(posterior([0, 1]), law, mask=[False, True])

    assert draw(law, found, MIDDLE).step is Step.ONLY_ALLOWED


def test_nobody_eligible_is_refused() -> None:
    with pytest.raises(ValueError, match="no endpoint is eligible"):
        table(FIVE, mask=[False] * 5)


def test_a_known_best_gets_nearly_everything_in_learning_mode() -> None:
    found = table(posterior([0, 1, 2], quality=[0.95, 0.4, 0.5]))

    assert propensities(LEARNING, found)[0] > 0.99


def test_an_unknown_group_is_tried_in_learning_mode() -> None:
    found = table(posterior([0, 1], quality=[0.6, None], n=200))

    assert 0.02 < propensities(LEARNING, found)[1] < 0.7


def test_hosts_of_a_group_share_their_quality() -> None:
    found = posterior([0, 0, 1], quality=[0.9, None, 0.5])
    bank = found.bank(0)

    assert (bank.quality[:, 0] == bank.quality[:, 1]).all()


@pytest.mark.parametrize("objective", [QUALITY, PRICED])
def test_the_faster_of_two_equal_hosts_is_chosen_without_a_label(objective: Objective) -> None:
    law = Law(incumbent=0, current=0, stay=1.0)
    found = posterior([0, 0], latency=[4.0, 0.5])
    hosts = table(found, law, objective).hosts(0)

    assert (hosts == 1).mean() > 0.9


def test_a_host_that_fails_is_left_though_it_is_fast() -> None:
    law = Law(incumbent=0, current=0, stay=1.0)
    found = posterior([0, 0], latency=[0.2, 1.0], failed=[400, 0])
    hosts = table(found, law, PRICED).hosts(0)

    assert (hosts == 1).mean() > 0.95


FAST, CHEAP = Objective(Order.FASTEST), Objective(Order.CHEAPEST)


def test_fastest_takes_the_fast_host_though_it_is_dearer_unless_it_fails() -> None:
    slow_and_cheap = posterior(
        [0, 0], latency=[0.12, 0.03], failed=[25, 0], prices=[0.40, 0.88], n=400
    )
    fast_but_failing = posterior([0, 0], latency=[0.03, 0.12], failed=[200, 0], n=400)
    law = Law(incumbent=0, current=0, stay=1.0)

    for found in (slow_and_cheap, fast_but_failing):
        assert (table(found, law, FAST).hosts(0) == 1).mean() > 0.98


def test_cheapest_takes_the_cheap_host_of_a_model_though_it_is_slower() -> None:
    law = Law(incumbent=0, current=0, stay=1.0)
    found = posterior([0, 0], latency=[2.0, 0.1], prices=[1.0, 1.5], n=4000)
    free = posterior([0, 0], latency=[2.0, 0.1], prices=[0.0, 0.0])

    assert (table(found, law, CHEAP).hosts(0) == 0).mean() > 0.98
    assert (table(free, law, CHEAP).hosts(0) == 1).mean() > 0.9


@pytest.mark.parametrize("objective", [QUALITY, PRICED, FAST, CHEAP])
@given(masks, st.lists(st.floats(0, 0.999999), min_size=7, max_size=7))
def test_shares_of_hosts_are_what_a_draw_of_any_strategy_says(objective, mask, numbers) -> None:
    found = table(FIVE, LEARNING, objective, mask)

    drawn = draw(LEARNING, found, Uniforms(*numbers))

    hosts = found.hosts(drawn.group)
    assert mask[drawn.arm]
    assert np.isin(hosts, np.flatnonzero(mask)).all()
    inside = found.host_shares(drawn.group, explores=True)[drawn.arm]
    assert drawn.propensity == pytest.approx(propensities(LEARNING, found)[drawn.group] * inside)
    if objective in (FAST, CHEAP):  # the order is the user's own
        assert inside == (hosts == drawn.arm).mean()


def test_cheapest_minimises_cost_per_success_above_its_floor() -> None:
    found = posterior(
        [0, 1, 2], quality=[0.2, 0.80, 0.82], latency=[1, 1, 1], prices=[1.0, 4.0, 20.0]
    )
    shares = propensities(LEARNING, table(found, objective=Objective(Order.CHEAPEST)))

    assert shares[1] > 0.99


def test_cheapest_works_without_a_label() -> None:
    found = posterior([0, 1], latency=[1, 1], prices=[5.0, 1.0])
    shares = propensities(LEARNING, table(found, objective=Objective(Order.CHEAPEST)))

    assert shares[1] > 0.99


def test_fastest_leaves_out_what_often_fails() -> None:
    found = posterior([0, 1], latency=[0.1, 1.0], failed=[200, 0])
    shares = propensities(LEARNING, table(found, objective=Objective(Order.FASTEST)))

    assert shares[1] > 0.99


def test_fastest_does_not_leave_out_who_was_never_called() -> None:
    found = posterior([0, 1], latency=[1.0, None])
    fit = admitted(found, 0, Objective(Order.FASTEST), np.array([True, True]))

    assert fit.tolist() == [True, True]


def test_a_value_makes_cost_count() -> None:
    found = posterior([0, 1], quality=[0.80, 0.78], latency=[1, 1], prices=[20_000.0, 100.0])

    by_quality = propensities(LEARNING, table(found, objective=QUALITY))
    by_value = propensities(LEARNING, table(found, objective=PRICED))

    assert by_quality[0] > 0.5
    assert by_value[1] > 0.99


def test_the_same_evidence_gives_the_same_bank() -> None:
    first = FIVE.bank(0)
    second = infer(FIVE.evidence, FIVE.arms).bank(0)

    assert (first.quality == second.quality).all()
    assert (first.latency_s == second.latency_s).all()


def test_reading_nothing_gives_priors_not_errors() -> None:
    nothing = cells.from_bytes(b"", b"")
    evidence = cells.read(
        nothing,
        categories=np.array([1], dtype=np.uint64),
        endpoints=np.array([2, 3], dtype=np.uint64),
        now_ms=0,
    )

    p = propensities(LEARNING, table(infer(evidence, arms([0, 1]))))

    assert p == pytest.approx([0.5, 0.5], abs=0.1)


@pytest.mark.parametrize("order", [Order.CHEAPEST, Order.FASTEST])
@pytest.mark.parametrize("law", [LEARNING, Law(incumbent=0, current=0, stay=1.0)])
def test_an_order_strategy_serves_the_only_capable_endpoint_below_its_floor(order, law) -> None:
    found = posterior([0, 1], quality=[1.0, 0.3], latency=[1, 1], failed=[0, 300])

    drawn = draw(law, table(found, law, Objective(order), mask=[False, True]), MIDDLE)

    assert drawn.arm == 1
    assert drawn.propensity == 1
