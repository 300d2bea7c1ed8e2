"""The law branch by branch: what 100,000 simulated decisions do is what propensities say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtri

from bandit.draws import LEARNING, Law, Table, Uniforms, draw, propensities, tabulate
from bandit.evidence import Evidence
from bandit.families import L, Q, R, U
from bandit.posterior import N_DRAWS, Arms, Posterior, infer, normals
from bandit.steps import Step
from bandit.utility import Objective

N = 100_000
TRIALS = (Step.TRIAL_INCUMBENT, Step.TRIAL_CHALLENGER)
QUALITY = Objective()
PRICED = Objective(value_usd=0.05, latency_usd_per_s=0.0005)
GROUP = np.array([0, 1, 1, 2, 3])
ALL = (True,) * 5


def five(qualities: list[float], *, n: int = 25, prices: list[float] | None = None) -> Posterior:
    """Four groups on five arms; the second group has two hosts of about the same speed."""
    evidence = Evidence.empty(1, 5)
    for arm, (mean, seconds) in enumerate(zip(qualities, (1.0, 1.0, 1.1, 2.0, 1.5), strict=True)):
        evidence.quality[0, arm, [Q.LABELS, Q.N, Q.R, Q.R2]] = (n, n, n * mean, n * mean)
        ln = np.log(seconds)
        evidence.latency[0, arm, [L.N, L.LN, L.LN2]] = (9, 9 * ln, 9 * (ln**2 + 0.1))
        evidence.usage[0, arm, [U.CALLS, U.N, U.TOKENS_IN, U.TOKENS_OUT]] = (9, 9, 9000, 9000)
        evidence.reliability[0, arm, [R.OK, R.SERVER]] = (60, arm)
    usd = np.array(prices or [1.0] * 5)
    return infer(evidence, Arms(GROUP, np.arange(4), usd, usd))


CLOSE = five([0.60, 0.64, 0.62, 0.61, 0.58])
BEST_IS_DEAR = five([0.3, 0.3, 0.3, 0.95, 0.3], n=400, prices=[1, 1, 1, 50, 1])
# name: law, eligible arms, penalty, posterior, objective, steps that it reaches
BRANCHES = {
    "everything": (Law(0, 1, (2,), 0.05, 0.1, 0.5), ALL, None, CLOSE, QUALITY),
    "hold-out alone": (Law(0, 1, (2,), holdout=0.3, stay=1.0), ALL, None, CLOSE, QUALITY),
    "floor alone": (Law(0, 1, (2, 3), floor=0.4, stay=1.0), ALL, None, CLOSE, QUALITY),
    "stay at a release": (Law(0, 2, (3,), stay=0.97), ALL, None, CLOSE, QUALITY),
    "sample": (Law(0, 1, (2, 3)), ALL, None, CLOSE, QUALITY),
    "sample, priced": (Law(0, 1, (2, 3)), ALL, None, CLOSE, PRICED),
    "incumbent away": (
        Law(0, 1, (2,), 0.2, 0.1, 0.5), (False, True, True, True, True), None, CLOSE, QUALITY,
    ),
    "choice away": (
        Law(0, 1, (2,), 0.2, 0.1, 0.5), (True, False, False, True, True), None, CLOSE, QUALITY,
    ),
    "one host away": (
        Law(0, 1, (2,), 0.1, 0.1, 0.5), (True, False, True, True, True), None, CLOSE, PRICED,
    ),
    "nobody safe": (Law(0, 1, (3,), 0.1, 0.3, 0.5), ALL, None, BEST_IS_DEAR, QUALITY),
    "failover": (
        Law(0, 0, (), 0.2, 0.3, 0.5), (False, True, True, True, True), None, CLOSE, QUALITY,
    ),
    "failover, priced": (
        Law(0, 0, (), 0.2, 0.3, 0.5), (False, True, True, True, True), None, BEST_IS_DEAR, PRICED,
    ),
    "learning": (LEARNING, ALL, None, CLOSE, QUALITY),
    "learning with floor and hold-out": (
        Law(3, None, None, 0.1, 0.2), ALL, None, CLOSE, QUALITY,
    ),
    "learning, hold-out away": (
        Law(3, None, None, 0.1, 0.2), (True, True, True, True, False), None, CLOSE, QUALITY,
    ),
    "learning, the best is dear": (Law(None, None, None, 0, 0.5), ALL, None, BEST_IS_DEAR, PRICED),
    "penalty": (Law(0, 1, (2, 3), 0.05, 0.1, 0.3), ALL, [0, 0.05, 0.0, 0.02, 0], CLOSE, QUALITY),
    "penalty in learning mode": (LEARNING, ALL, [0.0, 0.1, 0.1, 0.0, 0.02], CLOSE, PRICED),
}  # fmt: skip


def table_of(name: str) -> tuple[Law, Table]:
    law, eligible, penalty, found, objective = BRANCHES[name]
    table = tabulate(
        found.bank(0),
        objective=objective,
        law=law,
        eligible=np.array(eligible),
        penalty=None if penalty is None else np.array(penalty),
    )
    return law, table


def scores(found: Posterior, objective: Objective) -> np.ndarray:
    bank = found.bank(0)
    if objective is QUALITY:
        return bank.ok * bank.quality
    return 0.05 * bank.ok * bank.quality - bank.cost_usd - 0.0005 * bank.latency_s


def safe_groups(law: Law, found: Posterior, objective: Objective, groups: np.ndarray) -> np.ndarray:
    """The definition of `safe`, for groups whose hosts cost the same."""
    mean, usd = found.quality.mean[0], found.cost_usd[0][[0, 1, 3, 4]]
    current = law.current
    if current is None:
        value = found.reliability.mean[0] * mean[GROUP]
        if objective is PRICED:
            seconds = found.latency.expected[0]
            value = 0.05 * value - found.cost_usd[0] - 0.0005 * seconds
        current = int(GROUP[value.argmax()])
    members = groups
    if law.challengers is not None:
        members = groups & np.isin(np.arange(4), [law.incumbent, law.current, *law.challengers])
    return members & (mean >= 0.9 * mean[groups].max()) & (usd <= 3 * usd[current])


def simulate(name: str, table: Table, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return group and arm of each decision, from LAW.md section 3, all at once."""
    law, mask, penalty, found, objective = BRANCHES[name]
    eligible = np.array(mask)
    groups = np.array([eligible[g == GROUP].any() for g in range(4)])
    in_c = np.ones(4, dtype=bool)
    if law.challengers is not None:
        in_c = np.isin(np.arange(4), [law.incumbent, law.current, *law.challengers])
    h = law.holdout if law.incumbent is not None and groups[law.incumbent] else 0.0
    safe = np.flatnonzero(safe_groups(law, found, objective, groups))
    floor = law.floor if len(safe) else 0.0
    candidates = in_c & groups
    stay = 0.0
    if law.current is not None and groups[law.current]:
        stay = law.stay
    worth = scores(found, objective) - (0 if penalty is None else np.array(penalty))
    if candidates.any():
        worth = np.where(eligible & candidates[GROUP], worth, -np.inf)
        sampled = GROUP[worth.argmax(axis=1)][(u[:, 5] * N_DRAWS).astype(int)]
    else:
        value = scores(found, objective).mean(axis=0)
        best = GROUP[np.where(eligible, value, -np.inf).argmax()]
        sampled = np.full(len(u), best)
    group = np.where(u[:, 4] < stay, -1 if law.current is None else law.current, sampled)
    if floor:
        spread = safe[np.minimum((u[:, 3] / floor * len(safe)).astype(int), len(safe) - 1)]
        group = np.where(u[:, 3] < floor, spread, group)
    group = np.where(u[:, 2] < h, -1 if law.incumbent is None else law.incumbent, group)
    arm = np.empty(len(u), dtype=int)
    for g in np.unique(group):
        inside = group == g
        hosts = np.flatnonzero((g == GROUP) & eligible)
        labels = found.evidence.quality[0, hosts, Q.N]
        if len(hosts) > 1:  # a tenth to the one with the fewest labels
            row = np.minimum(u[inside, 6] / 0.9 * N_DRAWS, N_DRAWS - 1).astype(int)
            asked = u[inside, 6] >= 0.9
            arm[inside] = np.where(asked, hosts[labels.argmin()], table.hosts(int(g))[row])
        else:
            arm[inside] = table.hosts(int(g))[(u[inside, 6] * N_DRAWS).astype(int)]
    return group, arm


@pytest.mark.parametrize("name", BRANCHES)
def test_frequencies_are_the_propensities_in_every_branch(name: str) -> None:
    law, table = table_of(name)
    u = np.random.default_rng(len(name)).random((N, 7))

    group, _ = simulate(name, table, u)

    p = propensities(law, table)
    seen = np.bincount(group, minlength=4) / N
    assert p.sum() == pytest.approx(1)
    assert (np.abs(seen - p) <= 4 * np.sqrt(p * (1 - p) / N) + 1e-12).all()


@pytest.mark.parametrize("name", BRANCHES)
def test_a_draw_is_what_the_law_says_with_its_own_frequency(name: str) -> None:
    law, table = table_of(name)
    u = np.random.default_rng(len(name)).random((N, 7))
    _, arm = simulate(name, table, u)

    drawn = [draw(law, table, Uniforms(*row)) for row in u[:1500].tolist()]

    assert [d.arm for d in drawn] == arm[:1500].tolist()
    for a in np.unique(arm[:1500]):
        p = {d.propensity for d in drawn if d.arm == a}
        assert len(p) == 1
        expected = p.pop()
        assert abs((arm == a).mean() - expected) <= 4 * np.sqrt(expected * (1 - expected) / N)


def test_the_branches_reach_every_step() -> None:
    u = np.random.default_rng(5).random((300, 7)).tolist()

    steps = {
        draw(law, table, Uniforms(*row)).step for law, table in map(table_of, BRANCHES) for row in u
    }

    assert steps == {step.plain for step in Step if step not in TRIALS} - {Step.ONLY_ALLOWED}


def test_where_nobody_is_safe_the_floor_gives_its_mass_away() -> None:
    law, table = table_of("nobody safe")
    without = replace(law, floor=0.0)

    assert not table.safe.any()
    assert np.array_equal(propensities(law, table), propensities(without, table))


def test_floor_draws_go_to_nobody_dearer_than_three_times_the_choice() -> None:
    _, table = table_of("learning")
    law = Law(0, 0, (2,), floor=0.5)
    table = tabulate(BEST_IS_DEAR.bank(0), objective=QUALITY, law=law, eligible=np.array(ALL))

    assert not table.safe[2]


@pytest.mark.parametrize("eligible", [(True, True, True, True, True), (True, False, True, True, 1)])
def test_the_choice_is_the_likeliest_where_it_may_stay(eligible) -> None:
    law = Law(0, 1, (2, 3), holdout=0.03, floor=0.02, stay=0.55)
    table = tabulate(
        CLOSE.bank(0), objective=QUALITY, law=law, eligible=np.array(eligible, dtype=bool)
    )

    assert propensities(law, table).argmax() == 1


def test_a_penalty_that_is_the_same_for_all_changes_nothing() -> None:
    bank, mask = CLOSE.bank(0), np.array(ALL)
    law = Law(0, 1, (2, 3), floor=0.1, stay=0.2)

    plain = tabulate(bank, objective=QUALITY, law=law, eligible=mask)
    taxed = tabulate(bank, objective=QUALITY, law=law, eligible=mask, penalty=np.full(5, 0.25))

    assert propensities(law, taxed) == pytest.approx(propensities(law, plain), abs=2 / N_DRAWS)


@pytest.mark.parametrize("columns", [1, 4, 33])
def test_every_margin_of_a_bank_holds_the_exact_quantiles(columns: int) -> None:
    quantiles = ndtri((np.arange(N_DRAWS) + 0.5) / N_DRAWS)

    for table in normals(columns):
        assert np.array_equal(np.sort(table, axis=0), np.repeat(quantiles[:, None], columns, 1))


def test_a_bank_has_the_posterior_means() -> None:
    bank = CLOSE.bank(0)

    assert bank.quality.mean(axis=0) == pytest.approx(CLOSE.quality.mean[0][GROUP], abs=1e-12)


def test_exact_draws_have_the_spread_that_no_other_group_shares() -> None:
    found = CLOSE.quality
    drawn = CLOSE.bank(0, sharpness=1.0).quality[:, [0, 1, 3, 4]]
    own = 1 / (1 / found.tau2[0] + found.precision[0])
    inherited = own / found.tau2[0]
    expected = np.sqrt(own + inherited**2 * found.skill_var)

    assert drawn.std(axis=0) == pytest.approx(expected, rel=4 / np.sqrt(2 * N_DRAWS))
