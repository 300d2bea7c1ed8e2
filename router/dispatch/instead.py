"""What becomes of calls whose budgets are used up, and say what holds instead of a refusal."""

from __future__ import annotations

from typing import Any

from router.budgets.claims import Claims
from router.config.budgets import OnSpent
from router.config.exclusions import Exclusion
from router.decision.context import CallContext
from router.decision.decide import Decider
from router.decision.held_to import has_instead
from router.dispatch.foreseeing import ForeseenBudgets
from router.dispatch.spending import Spending
from router.errors import BudgetSpent, NoCandidates, RequestRejected

OF_BUDGETS = {
    Exclusion.ZONE.value: OnSpent.LOCAL,
    Exclusion.UNPRICED.value: OnSpent.CHEAPEST,
    Exclusion.BUDGET_SPENT.value: OnSpent.CHEAPEST,
}
"""By why nobody may serve a call, what a budget says that may have been the reason."""


class Instead:
    """Settles such calls again, as if they had said so themselves."""

    def __init__(self, decider: Decider, spending: Spending) -> None:
        self._decider = decider
        self._contexts = decider.contexts
        self._spending = spending

    async def settled(self, context: CallContext) -> CallContext:
        """Return the same, or what holds by budgets that are known to be used up.

        Raises:
            BudgetSpent: nothing can be settled by them.
        """
        if not context.claims:
            return context  # most often
        while spent := await self._spending.spent_of(_left(context)):
            context = await self._under(context, spent)
        return context

    async def after(self, context: CallContext, refusal: BudgetSpent | NoCandidates) -> CallContext:
        """Return what holds for a call that was refused before anything of it was sent.

        Raises:
            BudgetSpent, NoCandidates: nothing else does.
        """
        if isinstance(refusal, NoCandidates):
            why = {OF_BUDGETS.get(reason) for reason in refusal.reasons.values()}
            for one in context.held_to:
                if one.budget.on_spent in why:
                    raise self._spending.refusal(one) from refusal
            raise refusal
        named = refusal.told["budget"]
        spent = tuple(one for one in _left(context) if one.budget.name == named)
        if not spent:
            raise refusal
        return await self._under(context, spent)

    async def preview(self, context: CallContext) -> dict[str, Any]:
        """Return what would be decided of a call, with the budgets that it counts in.

        Raises:
            NoCandidates, BudgetSpent: it would be refused.
        """
        claims = context.claims
        context = await self.settled(context)
        while True:
            foreseen = ForeseenBudgets(self._spending, context, claims)
            await foreseen.look()
            try:
                shown = self._decider.preview(context, foreseen.server_of)
            except (BudgetSpent, NoCandidates) as refusal:
                context = await self.after(context, refusal)
            else:
                return {**shown, "budgets": foreseen.rows}

    async def _under(self, context: CallContext, spent: Claims) -> CallContext:
        try:
            found = await self._contexts.under(context, spent)
        except RequestRejected:
            found = None
        if found is None:
            raise self._spending.refusal(spent[0])
        return found


def _left(context: CallContext) -> Claims:
    """Return the budgets that may still say what holds instead."""
    held = {claim.account for claim in context.held_to}
    return tuple(c for c in context.claims if has_instead(c) and c.account not in held)
