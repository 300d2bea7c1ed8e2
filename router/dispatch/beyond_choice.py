"""What a call that explores costs beyond what the choice is expected to, over all its attempts."""

from __future__ import annotations

import math

from router.budgets.amounts import is_priced
from router.budgets.claims import BudgetClaim
from router.config.budgets import NANO, BudgetUnit
from router.decision.context import CallContext


class BeyondChoice:
    """One call's; amounts in nano-USD."""

    def __init__(self, context: CallContext) -> None:
        """Begin with all that the choice is expected to cost."""
        self._left = expected_nano(context)

    def of(self, cost: int) -> int:
        """Return what of the cost of a next attempt is beyond it, at least 0."""
        return max(cost - self._left, 0)

    def settle(self, cost: int) -> int:
        """Return the same of an attempt that ended; what is left is of those that follow."""
        beyond = self.of(cost)
        self._left = max(self._left - cost, 0)
        return beyond


def is_of_choice(claim: BudgetClaim) -> bool:
    """Return whether an account counts only what is beyond the choice's cost."""
    return claim.budget.only_steers and claim.budget.unit is BudgetUnit.MONEY


def expected_nano(context: CallContext) -> int:
    """Return what a call of a task is expected to cost at its choice, at the cheapest host.

    That is one that may serve it, if any may. Without a choice, or a known price, it is 0: then
    all that exploring costs is beyond it.
    """
    law, catalog = context.route.law, context.beliefs.configuration.catalog
    if law is None or law.current is None:
        return 0
    arms = catalog.group_members[law.current]
    able = [arm for arm in arms if context.eligibility.mask[arm]] or arms
    posterior, task = context.beliefs.place(context.category)
    costs = [
        float(posterior.call_usd[task, arm]) for arm in able if is_priced(catalog.endpoints[arm])
    ]
    return math.floor(min(costs, default=0.0) * NANO)
