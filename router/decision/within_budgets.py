"""What hard budgets ask of who may serve: that it is known what a call may come to there. Pure.

Whether that fits is found out when an endpoint is about to be asked (`dispatch/spending.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from router.budgets.amounts import (
    AskedTokens,
    asked_of,
    is_priced,
    most_nano_at,
    most_tokens_at,
    no_bound,
)
from router.budgets.claims import Claims
from router.config.budgets import BudgetUnit
from router.config.exclusions import BINDING, Exclusion
from router.dialects.request import CallRequest
from router.endpoints.catalog import Endpoint
from router.policy.constraints import Eligibility, exclude
from router.translation.translations import Translations

Why = tuple[Exclusion, str]
"""Why an endpoint is excluded, and which thing has no bound."""


def hard_units(claims: Claims) -> frozenset[BudgetUnit]:
    """Return in which units calls may never come to more than is left."""
    return frozenset(claim.budget.unit for claim in claims if claim.budget.is_hard)


def within_budgets(
    eligibility: Eligibility,
    claims: Claims,
    request: CallRequest,
    translations: Translations,
    endpoints: Sequence[Endpoint],
    *,
    at_s: float,
) -> Eligibility:
    """Return who may serve a call under the budgets that hold for it.

    Args:
        at_s: when it came, in epoch seconds: prices hold from day to day.
    """
    units = hard_units(claims)
    if units <= {BudgetUnit.CALLS}:
        return eligibility  # most often
    asked = asked_of(request)
    found = {}
    for endpoint in endpoints:
        if eligibility.reasons[endpoint.index] not in BINDING:  # a last resort is within, too
            why = why_beyond(asked, units, endpoint, translations, at_s=at_s)
            if why is not None:
                found[endpoint.index] = why
    if not found:
        return eligibility
    codes = [found[e.index][0] if e.index in found else None for e in endpoints]
    mask, reasons = exclude(eligibility.reasons, codes)
    details = eligibility.details | {arm: what for arm, (_, what) in found.items() if what}
    return replace(eligibility, mask=mask, reasons=reasons, details=details)


def why_beyond(
    asked: AskedTokens,
    units: frozenset[BudgetUnit],
    endpoint: Endpoint,
    translations: Translations,
    *,
    at_s: float,
) -> Why | None:
    """Return why nobody can tell what a call comes to at most at an endpoint; None: it is known.

    Args:
        units: of hard budgets, in which that matters.
    """
    in_money = BudgetUnit.MONEY in units
    if in_money and not is_priced(endpoint):
        return Exclusion.UNPRICED, ""
    tokens = most_tokens_at(asked, endpoint)
    # What costs nothing does not, whatever it does.
    is_free = in_money and most_nano_at(tokens, endpoint, at_s=at_s) == 0
    if is_free and BudgetUnit.TOKENS not in units:
        return None
    what = no_bound(translations.keeping(endpoint))
    if what is not None:
        return Exclusion.UNBOUNDED, what
    if not tokens.is_bound:
        return Exclusion.UNBOUNDED, "tokens"
    if in_money and most_nano_at(tokens, endpoint, at_s=at_s) == float("inf"):
        return Exclusion.UNBOUNDED, "machine"
    return None
