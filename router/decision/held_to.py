"""What a call goes by once a budget of its is used up: as if it had said so itself. Pure."""

from __future__ import annotations

from msgspec import structs

from router.budgets.claims import BudgetClaim, Claims
from router.config.budgets import OnSpent
from router.config.rules import Level, MergedPolicy, PolicyRules, strictest
from router.endpoints.terms import LOCAL
from router.policy.hints import Hints

OF_STRATEGY = (Level.STRATEGY, Level.BUILT_IN)
"""Who says what comes with a strategy."""


def has_instead(claim: BudgetClaim) -> bool:
    """Return whether calls go on by other rules, once a budget is used up."""
    return claim.budget.on_spent is not OnSpent.REFUSE


def hints_under(hints: Hints, spent: Claims, policy: MergedPolicy) -> Hints:
    """Return what a call says, with what these budgets say instead of it; nothing is loosened.

    Args:
        spent: budgets that are used up.
        policy: all that held for the call. What the strategy constrains that it asked for holds
            under any other one.
    """
    instead = {claim.budget.on_spent for claim in spent}
    held = [hints.held]
    if OnSpent.CHEAPEST in instead:
        if any(level is Level.REQUEST and rules.strategy for level, rules in policy.parts):
            held += [rules for level, rules in policy.parts if level in OF_STRATEGY]
        hints = structs.replace(hints, strategy=OnSpent.CHEAPEST.value)
    if OnSpent.LOCAL in instead:
        held.append(PolicyRules(zones=frozenset((LOCAL,))))
    return structs.replace(hints, held=strictest(held))
