"""Whom to ask where nobody may serve but for what passes by itself. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from router.config.entries import Fallback
from router.config.exclusions import Exclusion
from router.endpoints.catalog import Catalog, Endpoint
from router.errors import NoCandidates, Overloaded
from router.policy.constraints import Eligibility
from router.policy.route import Route


def last_resort(
    route: Route, eligibility: Eligibility, catalog: Catalog, drawn: Endpoint | None = None
) -> Endpoint:
    """Return whom to ask where nobody may serve but for a breaker, or for the length of the text.

    Args:
        drawn: which the unit has, so that others are asked only as far as it may fall back.

    Raises:
        NoCandidates, Overloaded: policy forbids everybody, or they have enough to do.
    """
    if route.law is None:
        arms = [endpoint.index for endpoint in route.listed]
    else:
        groups = range(len(catalog.group_members)) if route.groups is None else route.groups
        arms = [arm for group in groups for arm in catalog.group_members[group]]
    arm = None
    if drawn is not None and route.fallback is not Fallback.ANY:
        arm = eligibility.least_bad(_within_fallback(route, catalog, drawn))
    if arm is None:
        arm = eligibility.least_bad(arms)
    if arm is None:
        raise _nobody(eligibility, catalog, arms)
    return catalog.endpoints[arm]


def _within_fallback(route: Route, catalog: Catalog, drawn: Endpoint) -> list[int]:
    """Return the drawn endpoint, and those of its group where a call may fall back to them."""
    if route.fallback is Fallback.NONE:
        return [drawn.index]
    groups = catalog.kin[drawn.group]
    return [drawn.index, *(arm for group in groups for arm in catalog.group_members[group])]


def _nobody(
    eligibility: Eligibility, catalog: Catalog, arms: Sequence[int]
) -> NoCandidates | Overloaded:
    """Return why nobody may serve: for good, or for as long as they have enough to do."""
    full = [arm for arm in arms if eligibility.reasons[arm] is Exclusion.IN_FLIGHT]
    if full:
        return Overloaded([catalog.endpoints[arm].id for arm in full])
    return NoCandidates(eligibility.said_of(arms, catalog))
