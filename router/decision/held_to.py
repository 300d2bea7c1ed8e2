"""What a call goes by once a budget of its is used up: as if it had said so itself. Pure."""

from __future__ import annotations

from msgspec import structs

from router.budgets.claims import BudgetClaim, Claims
from router.config.budgets import OnSpent
from router.endpoints.terms import LOCAL
from router.policy.hints import Hints


def has_instead(claim: BudgetClaim) -> bool:
    """Return whether calls go on by other rules, once a budget is used up."""
    return claim.budget.on_spent is not OnSpent.REFUSE


def hints_under(hints: Hints, spent: Claims) -> Hints:
    """Return what a call says, with what these budgets say instead of it.

    Args:
        spent: budgets that are used up.
    """
    instead = {claim.budget.on_spent for claim in spent}
    if OnSpent.CHEAPEST in instead:
        hints = structs.replace(hints, strategy=OnSpent.CHEAPEST.value)
    if OnSpent.LOCAL in instead:
        hints = structs.replace(hints, zones=frozenset((LOCAL,)))
    return hints
