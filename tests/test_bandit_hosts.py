"""Hosts of one group: how they are compared, who is split off, and who is tried to learn more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from bandit.draws import LEARNING, Law, Table, Uniforms, draw, tabulate
from bandit.evidence import Evidence
from bandit.families import N_COLUMNS, L, Q, R, U
from bandit.hosts import (
    HOST_EXPLORED,
    HOST_SD,
    WORSE,
    HostDifferences,
    compare,
    least_labelled,
)
from bandit.posterior import N_DRAWS, Arms, infer
from bandit.utility import Objective, Order


def labelled(cells: list[list[tuple[float, float]]]) -> np.ndarray:
    """Evidence of `(labels, mean reward)` by task and arm; rewards are 0 or 1."""
    out = np.zeros((len(cells), len(cells[0]), N_COLUMNS))
    for c, row in enumerate(cells):
        for arm, (n, mean) in enumerate(row):
            out[c, arm, [Q.LABELS, Q.N, Q.R, Q.R2]] = (n, n, n * mean, n * mean)
    return out


def of_pair(cells: list[list[tuple[float, float]]]) -> HostDifferences:
    return compare(labelled(cells), np.zeros(len(cells[0]), dtype=np.intp))


# -- the comparison -----------------------------------------------------------------------------


def test_a_difference_is_the_shrunk_one_of_two_means() -> None:
    found = of_pair([[(1000, 0.75), (9000, 0.8)]])

    variance = (250 * 0.75 + 1800 * 0.8 + 8 * 0.159) / 10_006 * (1 / 1000 + 1 / 9000)
    kept = HOST_SD**2 / (HOST_SD**2 + variance)
    assert found.mean == pytest.approx([-0.05 * kept, 0.05 * kept], abs=1e-5)
    assert found.sd == pytest.approx([np.sqrt(variance * kept)] * 2, rel=1e-3)
    assert found.p_worse[0] == pytest.approx(norm.cdf((-WORSE - found.mean[0]) / found.sd[0]))
    assert (found.labels.tolist(), found.of_others.tolist()) == ([1000, 9000], [9000, 1000])


def test_tasks_of_other_difficulty_tell_no_difference() -> None:
    """One host serves the hard task, the other the easy one: within each they are equal."""
    found = of_pair([[(900, 0.5), (100, 0.5)], [(100, 0.9), (900, 0.9)]])

    assert found.mean == pytest.approx([0, 0], abs=1e-12)


def test_labels_of_tasks_that_only_one_host_serves_count_for_nothing() -> None:
    found = of_pair([[(5000, 0.5), (0, 0)], [(0, 0), (5000, 0.9)], [(30, 0.8), (40, 0.8)]])

    assert (found.labels.tolist(), found.of_others.tolist()) == ([30, 40], [40, 30])
    assert not found.is_split.any()


def test_all_tasks_together_tell_more_than_each() -> None:
    one = of_pair([[(500, 0.7), (500, 0.8)]])
    four = of_pair([[(500, 0.7), (500, 0.8)]] * 4)

    assert four.sd[0] < 0.6 * one.sd[0]
    assert four.mean[0] < one.mean[0] < 0


def test_the_only_host_of_a_group_and_one_without_labels_are_at_the_prior() -> None:
    cells = labelled([[(5000, 0.5), (100, 0.9), (0, 0)]])
    found = compare(cells, np.array([0, 1, 1]))

    assert found.mean.tolist() == [0, 0, 0]
    assert found.sd == pytest.approx([HOST_SD] * 3)
    assert not found.is_split.any()


tens = st.integers(0, 400)
counts = st.lists(st.tuples(tens, st.floats(0, 1)), min_size=4, max_size=4)


@given(st.lists(counts, min_size=1, max_size=3))
def test_a_group_is_compared_as_if_it_were_alone(cells) -> None:
    quality = labelled(cells)
    both = compare(quality, np.array([0, 1, 0, 1]))
    alone = compare(quality[:, [0, 2]], np.array([0, 0]))

    for name in ("mean", "sd", "labels", "of_others", "p_worse", "is_split"):
        together, apart = getattr(both, name)[[0, 2]], getattr(alone, name)
        assert together == pytest.approx(apart, rel=1e-6, abs=1e-9)
    assert np.isfinite(both.mean).all()
    assert (both.sd > 0).all()
    assert (both.sd <= HOST_SD + 1e-12).all()


# -- the rule -----------------------------------------------------------------------------------


def differences(mean: float, sd: float, *labels: float, n_hosts: int = 2) -> HostDifferences:
    figures = (mean, sd, *labels, n_hosts)
    return HostDifferences(*(np.array([float(figure)]) for figure in figures))


@pytest.mark.parametrize(
    ("mean", "sd", "own", "others", "n_hosts", "expected"),
    [
        (-0.04, 0.0116, 200, 200, 2, True),
        (-0.04, 0.0117, 200, 200, 2, False),  # P = .9948
        (-0.04, 0.0116, 199, 5000, 2, False),
        (-0.04, 0.0116, 5000, 199, 2, False),
        (0.04, 0.0116, 5000, 5000, 2, False),  # better is not worse
        (-0.009, 0.0001, 9e6, 9e6, 2, False),  # surely worse, by less than a point
        (-0.04, 0.0116, 5000, 5000, 4, False),
        (-0.04, 0.0106, 5000, 5000, 4, True),
    ],
)
def test_a_host_is_split_off_that_is_a_point_worse_with_certainty(
    mean, sd, own, others, n_hosts, expected
) -> None:
    assert differences(mean, sd, own, others, n_hosts=n_hosts).is_split.tolist() == [expected]


def test_the_worse_of_two_is_split_off_and_not_the_better() -> None:
    found = of_pair([[(2000, 0.7), (2000, 0.8)]])

    assert found.is_split.tolist() == [True, False]


# -- who is tried to learn more -----------------------------------------------------------------


def test_the_host_with_the_fewest_labels_is_learned_about_once_labels_come() -> None:
    n = np.array([500.0, 12.0, 7.0, 900.0])

    assert least_labelled(n, np.array([0, 1])) == 1
    assert least_labelled(n, np.array([0, 1, 2])) == 2
    assert least_labelled(n, np.array([1, 2])) is None, "19 labels in all"
    assert least_labelled(n, np.array([3])) is None, "nobody to compare it with"


GROUP = np.array([0, 0, 1])
PRICED = Objective(value_usd=0.05, latency_usd_per_s=0.0005)


def pair(
    *,
    n: tuple[float, float] = (900, 90),
    prices: tuple[float, float] = (0.5, 1.0),
    failed: tuple[float, float] = (0, 0),
    objective: Objective = PRICED,
    mask: tuple[bool, bool, bool] = (True, True, True),
) -> Table:
    """A group whose first host is cheaper, and another group of one."""
    evidence = Evidence.empty(1, 3)
    evidence.quality[:] = labelled([[(n[0], 0.8), (n[1], 0.8), (50, 0.8)]])
    evidence.usage[..., [U.CALLS, U.N, U.TOKENS_IN, U.TOKENS_OUT]] = (900, 900, 900e3, 900e3)
    evidence.latency[..., [L.N, L.LN2]] = (900, 90)
    evidence.reliability[..., R.OK] = 900
    evidence.reliability[0, :2, R.SERVER] = failed
    usd = np.array([*prices, 9.0])
    found = infer(evidence, Arms(GROUP, np.arange(2), usd, usd))
    eligible = np.array(mask)
    return tabulate(found.bank(0), objective=objective, law=LEARNING, eligible=eligible)


STAY = Law(incumbent=0, current=0, stay=1.0)


def served(table: Table, law: Law = STAY, n: int = 10 * N_DRAWS) -> dict[int, float]:
    """Shares of arms over evenly spread numbers; each draw's own propensity is just that."""
    numbers = (np.arange(n) + 0.5) / n
    drawn = [draw(law, table, Uniforms(*[0.0] * 6, host=u)) for u in numbers.tolist()]
    arms, counts = np.unique([one.arm for one in drawn], return_counts=True)
    shares = dict(zip(arms.tolist(), (counts / n).tolist(), strict=True))
    for one in drawn:
        assert one.propensity == pytest.approx(shares[one.arm], rel=1e-9)
    return shares


def test_a_tenth_of_a_groups_draws_goes_to_the_host_with_fewer_labels() -> None:
    table = pair()

    assert table.host_shares(0, explores=True) == pytest.approx({0: 0.9, 1: 0.1})
    assert served(table) == pytest.approx({0: 0.9, 1: 0.1})


def test_the_first_host_in_cost_has_all_once_the_other_has_more_labels() -> None:
    assert served(pair(n=(90, 900))) == {0: 1.0}


@pytest.mark.parametrize("n", [(90, 900), (900, 90)])
def test_shares_are_exact_where_hosts_share_the_rows(n: tuple[float, float]) -> None:
    table = pair(n=n, prices=(1.0, 1.0), objective=Objective())
    rows = (table.hosts(0) == 1).mean()

    shares = table.host_shares(0, explores=True)

    asked = table.asked_host(0)
    assert 0 < rows < 1
    assert sum(shares.values()) == pytest.approx(1)
    assert shares[1] == pytest.approx((1 - HOST_EXPLORED) * rows + HOST_EXPLORED * (asked == 1))
    assert served(table) == pytest.approx(shares)


@pytest.mark.parametrize(
    "table",
    [
        pair(n=(15, 4)),
        pair(mask=(True, False, True)),
        pair(prices=(0.5, 1.6)),
        pair(failed=(0, 300)),
        pair(objective=Objective(Order.CHEAPEST)),
    ],
    ids=["no labels come", "nobody else is eligible", "too dear", "it fails", "a user's order"],
)
def test_nobody_is_tried_where_that_teaches_nothing_or_costs_too_much(table: Table) -> None:
    assert table.asked_host(0) is None
    assert served(table) == {0: 1.0}


def test_a_law_that_explores_nothing_tries_no_host() -> None:
    law = Law(incumbent=0, current=0, stay=1.0, explores_hosts=False)

    assert served(pair(), law) == {0: 1.0}


def test_a_group_of_one_host_knows_nothing_of_this() -> None:
    table = pair()

    assert table.host(1, 0.95, explores=True) == (2, 1.0)
    assert table.host_shares(1, explores=True) == {2: 1.0}
