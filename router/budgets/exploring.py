"""The ceilings of exploring: which accounts a call counts in, and whether calls may explore yet.

Nothing is refused, and nothing is waited for: what is known here decides. Where that is nothing
yet (a process or a day has just begun, and the store has not replied) calls do not explore.
"""

from __future__ import annotations

from msgspec import Struct

from router.budgets.allowances import Allowances
from router.budgets.claims import BudgetClaim, Claims, find_claims
from router.budgets.standings import resets_at
from router.config.budgets import Budget
from router.config.compiled import App
from router.config.exploring import Ceilings

UNKNOWN = "what exploring's budget has left is not known yet"


class CeilingClaims(Struct, frozen=True):
    """The accounts of one call, and whether it may explore."""

    ceilings: Claims  # that bind: of money, of calls that explore, or of both
    others: BudgetClaim | None = None  # counts the calls that do not
    why: str = ""  # it may not explore; empty: it may

    def of_call(self, *, explores: bool) -> Claims:
        """Return the accounts that a call counts in, by whether it explored."""
        if explores:
            return self.ceilings
        return () if self.others is None else (self.others,)


class ExploringCeilings:
    """The ceilings of all apps, as one process knows them."""

    def __init__(self, allowances: Allowances) -> None:
        self._allowances = allowances

    def of(self, app: App, at_s: float) -> CeilingClaims | None:
        """Return where a call of an app stands; None where it has no ceilings.

        Args:
            at_s: when the call came, in epoch seconds by the store's clock.
        """
        if app.ceilings is None:
            return None  # most often
        claims, others = ceiling_claims(app, app.ceilings, at_s, n_calls=0)
        for claim in (*claims, *((others,) if others else ())):
            self._allowances.listen(claim)
        if others is not None:
            n_calls = sum(self._spent(claim) for claim in (claims[-1], others))
            claims, _ = ceiling_claims(app, app.ceilings, at_s, n_calls=n_calls)
        return CeilingClaims(claims, others, self._why(claims))

    def _why(self, claims: Claims) -> str:
        """Return why calls may not explore; empty where they may."""
        for claim in claims:
            if self._allowances.is_spent(claim):
                return why_spent(claim)
        if any(self._allowances.standing(claim).free is None for claim in claims):
            return UNKNOWN
        return ""

    def _spent(self, claim: BudgetClaim) -> int:
        return self._allowances.standing(claim).spent_by_all


def why_spent(claim: BudgetClaim) -> str:
    """Return what is said of calls that do not explore, as a ceiling is reached."""
    return f"exploring's budget is spent until {resets_at(claim)}"


def ceiling_claims(
    app: App, ceilings: Ceilings, at_s: float, *, n_calls: int
) -> tuple[Claims, BudgetClaim | None]:
    """Return the accounts of an app that bind at a moment, and that of its other calls.

    Args:
        n_calls: of the app on that day.
    """
    claims = []
    if ceilings.money is not None:
        claims.append(_claim(app, ceilings.money, at_s, ceilings.money.limit))
    if ceilings.explored is None or ceilings.others is None:
        return tuple(claims), None
    claims.append(_claim(app, ceilings.explored, at_s, ceilings.most_explored(n_calls)))
    return tuple(claims), _claim(app, ceilings.others, at_s, ceilings.others.limit)


def _claim(app: App, budget: Budget, at_s: float, limit: int) -> BudgetClaim:
    (found,) = find_claims((budget,), {"app": app.name}, user_key="", at_s=at_s)
    return BudgetClaim(budget, found.account, limit, found.values)
