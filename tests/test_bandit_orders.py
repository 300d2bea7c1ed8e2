"""The law of `cheapest` and `fastest`: the user's order, bounded by what is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bandit import incumbent, orders
from bandit.draws import Uniforms, draw, propensities, tabulate
from bandit.evidence import Evidence
from bandit.families import L, Q, R, U
from bandit.posterior import Arms, Posterior, infer
from bandit.utility import Objective, Order

CHEAPEST, FASTEST = Objective(Order.CHEAPEST), Objective(Order.FASTEST)
EVERYBODY = np.ones(4, dtype=bool)
DUE, NOT_DUE = np.array([True]), np.array([False])
LISTED = -np.arange(4.0)


def posterior(
    *,
    calls: list[int] | None = None,
    failed: list[int] | None = None,
    seconds: list[float] | None = None,
    quality: list[float | None] | None = None,
    prices: list[float] | None = None,
) -> Posterior:
    """One category, four endpoints that are a group each; failures are old ones."""
    evidence = Evidence.empty(1, 4)
    for arm, n in enumerate(calls or []):
        ln = np.log((seconds or [1.0] * 4)[arm])
        evidence.usage[0, arm, [U.CALLS, U.N, U.TOKENS_IN, U.TOKENS_OUT]] = (n, n, n, n)
        evidence.usage[0, arm, U.FAILED] = (failed or [0] * 4)[arm]
        evidence.latency[0, arm, [L.N, L.LN, L.LN2]] = (n, n * ln, n * (ln**2 + 0.01))
        evidence.reliability[0, arm, R.OK] = min(n, 10)
    for arm, mean in enumerate(quality or []):
        if mean is not None:
            columns = (200, 200, 200 * mean, 200 * mean)
            evidence.quality[0, arm, [Q.LABELS, Q.N, Q.R, Q.R2]] = columns
    usd = np.array(prices or [4.0, 3.0, 2.0, 1.0])
    return infer(evidence, Arms(np.arange(4), np.arange(4), usd, usd))


def reviewed(found: Posterior, objective: Objective, *, at: int = 0, due=DUE):
    standings = replace(incumbent.begin(0, 1), current=np.array([at]))
    after, released, settled = orders.review(standings, found, objective, EVERYBODY, due)
    return int(after.current[0]), released, bool(settled[0])


def test_cheapest_is_released_before_the_first_call() -> None:
    current, released, settled = reviewed(posterior(), CHEAPEST)

    assert current == 3
    assert [(r.before, r.after, r.reason) for r in released] == [(0, 3, "first in the order")]
    assert settled


@pytest.mark.parametrize(("calls", "serves"), [(43, 0), (44, 1)])
def test_fastest_needs_calls_enough_to_know_the_answered_share(calls: int, serves: int) -> None:
    found = posterior(calls=[0, calls, 0, 0], seconds=[1.0, 0.1, 1.0, 1.0])

    current, _, settled = reviewed(found, FASTEST)

    assert current == serves
    assert settled is (serves == 1)


def test_fastest_passes_over_who_fails() -> None:
    found = posterior(calls=[100] * 4, seconds=[1, 0.1, 0.5, 2], failed=[0, 20, 0, 0])

    assert reviewed(found, FASTEST)[0] == 2


def test_who_is_below_the_floor_yields_at_once() -> None:
    found = posterior(calls=[100] * 4, quality=[0.9, 0.9, 0.9, 0.3])

    assert reviewed(found, CHEAPEST, at=3, due=NOT_DUE)[0] == 2
    assert reviewed(found, CHEAPEST, at=3, due=NOT_DUE)[1][0].reason == "below its floor"


def test_between_reviews_nothing_else_moves() -> None:
    current, released, settled = reviewed(posterior(), CHEAPEST, due=NOT_DUE)

    assert (current, released, settled) == (0, [], False)


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
