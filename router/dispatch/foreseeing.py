"""What budgets would say of a call, endpoint by endpoint: for dry runs, nothing is reserved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from router.budgets.claims import BudgetClaim, Claims
from router.decision.context import CallContext
from router.decision.planner import Plan, may_serve, server_of
from router.dispatch.refusing import least_of
from router.dispatch.spending import AmountUnknown, Spending
from router.endpoints.catalog import Endpoint
from router.errors import BudgetSpent, NoCandidates


class ForeseenBudgets:
    """Finds who would be asked for one call, and keeps how its budgets stand there."""

    def __init__(self, spending: Spending, context: CallContext, shown: Claims) -> None:
        """Foresee nothing yet.

        Args:
            shown: budgets that are shown as well: in which the call counted at first.
        """
        self._spending = spending
        self._call = spending.of(context)
        self._claims = context.claims
        self._shown = tuple(_each_once((*shown, *context.claims)))
        self.rows: list[dict[str, Any]] = []

    async def look(self) -> None:
        """Hear what is left, as far as the store says so in time."""
        await self._spending.allowances.look(self._claims, afresh=True)

    def server_of(self, plan: Plan) -> Endpoint:
        """Return who would be asked first of whom a call fits into what is left.

        Raises:
            BudgetSpent: it fits nowhere.
            NoCandidates, Overloaded: nobody may serve it.
        """
        first = server_of(plan)
        refusals, unknown = list[BudgetSpent](), dict[str, str]()
        for endpoint in _in_order(first, plan):
            try:
                self._spending.foresee(self._claims, self._call.amounts(self._claims, endpoint))
            except BudgetSpent as refusal:
                refusals.append(self._call.with_hint(refusal, endpoint))
            except AmountUnknown as why:
                unknown[endpoint.id] = str(why)
            else:
                self.rows = self._spending.rows_of(self._shown, self._amounts(endpoint))
                return endpoint
        raise least_of(refusals) if refusals else NoCandidates(unknown)

    def _amounts(self, endpoint: Endpoint) -> list[int | None]:
        return [self._amount(claim, endpoint) for claim in self._shown]

    def _amount(self, claim: BudgetClaim, endpoint: Endpoint) -> int | None:
        try:
            return self._call.amounts((claim,), endpoint)[0]
        except AmountUnknown:
            return None


def _in_order(first: Endpoint, plan: Plan) -> Iterator[Endpoint]:
    yield first
    for endpoint in plan.then():
        if endpoint is not first and may_serve(plan, endpoint):
            yield endpoint


def _each_once(claims: Iterable[BudgetClaim]) -> Iterable[BudgetClaim]:
    return {claim.account: claim for claim in claims}.values()
