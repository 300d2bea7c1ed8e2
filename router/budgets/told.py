"""What is said to calls of budgets that are used up, and what dry runs say of them. Pure."""

from __future__ import annotations

from typing import Any

from router.budgets.claims import BudgetClaim
from router.budgets.standings import BudgetStanding, as_written, resets_at, told
from router.config.budgets import BudgetUnit, OnSpent
from router.errors import BudgetSpent

INSTEAD = {
    OnSpent.REFUSE: "calls are refused",
    OnSpent.CHEAPEST: "calls go to the cheapest endpoint",
    OnSpent.LOCAL: "calls go to endpoints of zone local alone",
}


def row_of(
    claim: BudgetClaim, standing: BudgetStanding, amount: int | None, *, is_spent: bool
) -> dict[str, Any]:
    """Return how a budget of a call stands, and what becomes of calls once it is used up.

    Args:
        amount: what the call may come to; None: nobody knows.
    """
    budget = claim.budget
    return {
        **told(claim, standing),
        "may_come_to": _written(claim, amount),
        "fits": does_fit(claim, standing, amount),
        "hard": budget.is_hard,
        "on_spent": budget.on_spent.value,
        "used_up": is_spent,
    }


def does_fit(claim: BudgetClaim, standing: BudgetStanding, amount: int | None) -> bool | None:
    """Return whether what a call may come to is left; None: that is not known."""
    if amount is None or (standing.is_unknown and amount <= claim.limit):
        return None
    return amount <= standing.left_of(claim.limit)


def refused(
    claim: BudgetClaim, standing: BudgetStanding, amount: int | None = None, hint: str = ""
) -> BudgetSpent:
    """Return the refusal of a call by a budget.

    Args:
        amount: what it may come to; None: nobody asked.
        hint: what would fit; empty: nothing that is known.
    """
    shown = {**told(claim, standing), "may_come_to": _written(claim, amount)}
    more = f"; {hint}" if hint else ""
    return BudgetSpent(shown, f"{_words(claim, standing, amount)}{more}")


def _words(claim: BudgetClaim, standing: BudgetStanding, amount: int | None) -> str:
    left, spent = standing.left_of(claim.limit), standing.known_spent
    name = f"budget {claim.budget.name}" + (f" ({claim.note})" if claim.note else "")
    unit, until = claim.budget.unit.value, resets_at(claim)
    of = f"{_plain(claim, spent)} of {_plain(claim, claim.limit)} {unit}"
    if amount is not None and amount > left > 0:
        may = f"this call may come to {_plain(claim, amount)}"
        return f"{name} has {_plain(claim, left)} {unit} left until {until}, and {may}"
    if spent < claim.limit and (amount is not None or not left):
        held = f"{of} spent, {_plain(claim, standing.known_held)} held by calls under way"
        return f"{name} has too little left just now: {held} or by sidecars; it resets at {until}"
    return f"{name} is used up: {of} spent; it begins anew at {until}"


def _written(claim: BudgetClaim, amount: int | None) -> float | int | None:
    return None if amount is None else as_written(amount, claim.budget.unit)


def _plain(claim: BudgetClaim, amount: int) -> str:
    """Return an amount without an exponent: 0.000027."""
    if claim.budget.unit is not BudgetUnit.MONEY:
        return str(amount)
    return f"{as_written(amount, claim.budget.unit):.9f}".rstrip("0").rstrip(".")


def warning_of(claim: BudgetClaim, instead: str | None = None) -> str:
    """Return what is said to a call that goes by other rules, as a budget of its is used up.

    Args:
        instead: what becomes of it, where that is not what becomes of calls in general.
    """
    instead = instead or INSTEAD[claim.budget.on_spent]
    return f"budget {claim.budget.name} is used up until {resets_at(claim)}: {instead}"
