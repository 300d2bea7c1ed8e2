"""Who may serve once a budget is used up that says `cheapest`: whoever calls cost least at. Pure.

No order of a strategy: its calm would go on paying the dearest. Others are excluded, so that what
was drawn stays, and is followed again once the budget begins anew. Nothing else is loosened, and a
call that names its model keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from bandit.posterior import Arms
from router.budgets.amounts import is_priced
from router.config.budgets import BudgetUnit
from router.config.exclusions import BINDING, Exclusion
from router.decision.context import CallContext
from router.decision.held_to import at_cheapest_for, meant_by
from router.endpoints.catalog import Endpoint
from router.policy.constraints import exclude

DIVERTED = frozenset({Exclusion.BREAKER, Exclusion.MAINTENANCE, Exclusion.CONTEXT})
"""Who is asked all the same, where nobody else may serve."""
ROUNDING = 1 + 1e-9

TIERS: tuple[Callable[[Exclusion | None], bool], ...] = (
    lambda reason: reason is None,
    lambda reason: reason in DIVERTED,
    lambda reason: reason not in BINDING,
)
"""Whom a call goes to, the first kind that there is any of."""


def at_cheapest(context: CallContext) -> CallContext:
    """Return a call that may go to the cheapest alone, if a budget of its that is used up says so.

    Dearer ones are excluded wherever they are; so is who has no price, under a budget in money.
    Where nobody that it may go to has a price, there is no cheapest.
    """
    spent = at_cheapest_for(context.held_to)
    if not spent:
        return context
    catalog, eligibility = context.beliefs.configuration.catalog, context.eligibility
    posterior, task = context.beliefs.place(context.category)
    usd = np.where([is_priced(e) for e in catalog.endpoints], posterior.call_usd[task], np.inf)
    best = _best(meant_by(context.route, catalog), eligibility.reasons, usd)
    in_money = any(claim.budget.unit is BudgetUnit.MONEY for claim in spent)
    codes = [
        Exclusion.UNPRICED
        if in_money and usd[e.index] == np.inf
        else Exclusion.BUDGET_SPENT
        if best is not None and not _is_as_cheap(e, best, usd, catalog.arms)
        else None
        for e in catalog.endpoints
    ]
    mask, reasons = exclude(eligibility.reasons, codes)
    return structs.replace(
        context, eligibility=replace(eligibility, mask=mask, reasons=reasons), explore=False
    )


def _best(
    meant: Iterable[Endpoint], reasons: Sequence[Exclusion | None], usd: NDArray[np.float64]
) -> Endpoint | None:
    """Return at whom a call costs least of those that it may go to."""
    priced = [e for e in meant if usd[e.index] < np.inf]
    for belongs in TIERS:
        left = [e for e in priced if belongs(reasons[e.index])]
        if left:
            return min(left, key=lambda e: float(usd[e.index]))
    return None


def _is_as_cheap(endpoint: Endpoint, best: Endpoint, usd: NDArray[np.float64], arms: Arms) -> bool:
    """Return whether a call costs no more than at the best: hosts of one model by their prices."""
    if usd[endpoint.index] <= usd[best.index] * ROUNDING:
        return True
    pair = [endpoint.index, best.index]
    prices = arms.input_usd_per_mtok, arms.output_usd_per_mtok, arms.machine_usd_per_s
    return endpoint.group == best.group and all(
        price is None or price[pair[0]] == price[pair[1]] for price in prices
    )
