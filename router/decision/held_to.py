"""What a call goes by once a budget of its is used up: as if it had said so itself. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from router.budgets.claims import BudgetClaim, Claims
from router.budgets.told import warning_of
from router.config.budgets import OnSpent
from router.config.rules import PolicyRules, strictest
from router.endpoints.catalog import Catalog, Endpoint
from router.endpoints.terms import LOCAL
from router.policy.hints import Hints
from router.policy.route import Route


def has_instead(claim: BudgetClaim) -> bool:
    """Return whether calls go on by other rules, once a budget is used up."""
    return claim.budget.on_spent is not OnSpent.REFUSE


def hints_under(hints: Hints, spent: Claims) -> Hints:
    """Return what a call says, with what these budgets say instead of it; nothing is loosened.

    Args:
        spent: budgets that are used up.
    """
    if all(claim.budget.on_spent is not OnSpent.LOCAL for claim in spent):
        return hints
    held = [hints.held, PolicyRules(zones=frozenset((LOCAL,)))]
    return structs.replace(hints, held=strictest(held), is_usual=False)


def at_cheapest_for(spent: Claims) -> Claims:
    """Return those for which calls go to whoever is cheapest."""
    return tuple(claim for claim in spent if claim.budget.on_spent is OnSpent.CHEAPEST)


def meant_by(route: Route, catalog: Catalog) -> Sequence[Endpoint]:
    """Return whom a call may go to, by what its `model` field and its strategy leave open."""
    if route.law is None:
        return route.listed
    if route.groups is None:
        return catalog.endpoints
    return [e for e in catalog.endpoints if e.group in route.groups]


def warning_under(claim: BudgetClaim, route: Route, catalog: Catalog) -> str:
    """Return what is said to a call that goes by what a budget says that is used up."""
    if claim.budget.on_spent is not OnSpent.CHEAPEST:
        return warning_of(claim)
    meant = meant_by(route, catalog)
    if len(meant) == 1:
        return warning_of(claim, "this call has one endpoint alone, and stays there")
    if len(meant) < len(catalog.endpoints):
        return warning_of(claim, "calls go to the cheapest host of their model")
    return warning_of(claim)
