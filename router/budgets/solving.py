"""The price of money of one account: at which what is left of it lasts until its period ends.

It is solved from what is believed now, over the kinds of calls that come. What the law leaves to
no draw (the incumbent's share, the choice's, an order's) is spent at any price; only draws from a
bank move. Pure, but for what beliefs remember.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bandit.draws import masses_of, propensities
from bandit.pacing import Price, affordable, on_grid, solve, with_price
from bandit.utility import Order, arm_scores, bank_cost
from router.beliefs.beliefs import Beliefs
from router.budgets.call_mix import CallKind, KindKey
from router.budgets.claims import Claims

ROWS = 8
"""Every so-manieth row of a bank goes into a price: 32 of 256 fix it to a percent."""
GUARDED_CALLS = 3.0
"""The end is guarded once what is left is no more than so many of the dearest calls, beyond what
the cheapest ones take that are still to come."""


@dataclass(frozen=True, slots=True)
class SolvedPrice:
    """What an account's money costs, in successes a USD, and for whom it does not suffice."""

    price: Price
    target_usd: float  # what a call may come to on average
    calls: float  # that are expected until the period ends
    barred: Mapping[KindKey, frozenset[int]] = field(default_factory=dict)

    @property
    def expected(self) -> float:
        """The mean of the two prices that are gone by."""
        return self.price.p_low * self.price.low + (1 - self.price.p_low) * self.price.high


@dataclass(frozen=True, slots=True)
class _Kind:
    """What one kind of calls may come to."""

    key: KindKey
    share: float
    sampled: float  # part of its calls that a price moves
    fixed_usd: float  # a call, whatever the price
    scores: NDArray[np.float64]  # (n_draws, n_arms) successes; -inf for whoever is not drawn
    cost_usd: NDArray[np.float64]  # (n_arms,)
    dearest_usd: NDArray[np.float64]  # (n_arms,)
    mask: NDArray[np.bool_]  # (n_arms,)


def solve_price(
    mix: Iterable[tuple[float, CallKind]],
    beliefs: Beliefs,
    *,
    left_usd: float,
    calls: float,
    other_prices: Callable[[Claims], float],
) -> SolvedPrice | None:
    """Return the price at which what is left lasts; None where no kind can be told any more.

    Args:
        mix: kinds of calls with their shares.
        calls: expected until the period ends.
        other_prices: what money costs calls with such claims by their other accounts.
    """
    kinds = [
        found
        for share, kind in mix
        if (found := _of_kind(share, kind, beliefs, other_prices(kind.claims))) is not None
    ]
    total = sum(kind.share for kind in kinds)
    if not total:
        return None
    target = max(left_usd, 0.0) / max(calls, 1.0)
    shares = np.array([kind.share for kind in kinds]) / total
    moved = shares * np.array([kind.sampled for kind in kinds])
    fixed = float(shares @ np.array([kind.fixed_usd for kind in kinds]))
    price = Price()
    if moved.any():
        scores = np.stack([kind.scores for kind in kinds], axis=1)
        use = np.stack([kind.cost_usd for kind in kinds])
        for_draws = target - fixed
        price = solve(scores, use, moved, target=for_draws)
        price = on_grid(price, scores, use, moved, target=for_draws)
    return SolvedPrice(price, target, calls, _barred(kinds, shares, left_usd, calls))


def _of_kind(share: float, kind: CallKind, beliefs: Beliefs, other: float) -> _Kind | None:
    configuration = beliefs.configuration
    app = configuration.apps.get(kind.app)
    if app is None or not kind.is_of(configuration.catalog):
        return None
    row = beliefs.places[app.outlook].get(kind.task)
    if row is None:
        return None
    category = beliefs.category(app, row)
    posterior, task = beliefs.place(category)
    cost, dearest = posterior.cost_usd[task], posterior.dearest_usd[task]
    nobody = np.full((1, len(cost)), -np.inf)
    if kind.law is None or not kind.mask.any():
        fixed = float(cost[kind.first])
        return _Kind(kind.key, share, 0.0, fixed, nobody, cost, dearest, kind.mask)
    objective = with_price(beliefs.objective(kind.strategy, category, kind.compared), other)
    table = beliefs.table(category, objective, kind.law, kind.mask)
    holdout, floor, stay = masses_of(kind.law, table)
    sampled = (1 - holdout) * (1 - floor) * (1 - stay) if table.winners is not None else 0.0
    if objective.order is not Order.UTILITY:
        sampled = 0.0
    by_group = bank_cost(table.bank)
    fixed = float((propensities(kind.law, table) - sampled * table.shares) @ by_group)
    in_play = kind.mask & table.candidates[posterior.arms.group]
    scores = arm_scores(table.bank, objective)[::ROWS].astype(np.float64)
    scores = np.where(in_play, scores / (objective.value_usd or 1.0), -np.inf)
    return _Kind(kind.key, share, sampled, fixed, scores, cost, dearest, kind.mask)


def _barred(
    kinds: list[_Kind], shares: NDArray[np.float64], left_usd: float, calls: float
) -> dict[KindKey, frozenset[int]]:
    """Return by kind who would leave too little for the calls to come; mostly nobody is."""
    masks = [kind.mask if kind.mask.any() else True for kind in kinds]
    cost = np.stack(
        [np.where(mask, kind.cost_usd, np.inf) for mask, kind in zip(masks, kinds, strict=True)]
    )
    dearest = np.array([kind.dearest_usd[kind.mask].max(initial=0.0) for kind in kinds])
    cheapest = float(shares @ cost.min(axis=1))
    if left_usd > calls * cheapest + GUARDED_CALLS * float(dearest.max()):
        return {}
    out = {}
    for i, kind in enumerate(kinds):
        if not kind.mask.any():
            continue
        fits = affordable(
            i,
            cost_usd=cost,
            dearest_usd=kind.dearest_usd,
            traffic=shares,
            left_usd=left_usd,
            left_calls=max(calls, 1.0),
        )
        if (kind.mask & ~fits).any():
            out[kind.key] = frozenset(np.flatnonzero(kind.mask & ~fits).tolist())
    return out
