"""What is said to calls of budgets that are used up, and what dry runs say of them. Pure."""

from __future__ import annotations

from typing import Any

from router.budgets.claims import BudgetClaim
from router.budgets.standings import BudgetStanding, resets_at, told
from router.config.budgets import OnSpent

INSTEAD = {
    OnSpent.REFUSE: "calls are refused",
    OnSpent.CHEAPEST: "calls go to the cheapest endpoint",
    OnSpent.LOCAL: "calls go to endpoints of zone local alone",
}


def row_of(claim: BudgetClaim, standing: BudgetStanding, *, is_spent: bool) -> dict[str, Any]:
    """Return how a budget of a call stands, and what becomes of calls once it is used up."""
    budget = claim.budget
    more = {"hard": budget.is_hard, "on_spent": budget.on_spent.value, "used_up": is_spent}
    return {**told(claim, standing), **more}


def warning_of(claim: BudgetClaim, instead: str | None = None) -> str:
    """Return what is said to a call that goes by other rules, as a budget of its is used up.

    Args:
        instead: what becomes of it, where that is not what becomes of calls in general.
    """
    instead = instead or INSTEAD[claim.budget.on_spent]
    return f"budget {claim.budget.name} is used up until {resets_at(claim)}: {instead}"
