"""Calls of a profile: prompts that are run on purpose, each at an endpoint that it names.

They are no traffic of their app: no session or slot goes on with them, no version of a prompt is
told, nothing else answers in their endpoint's place, and no figure of who serves counts them. All
rules hold as for any call, those that a session that they name said before as well, and what they
cost is booked.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec import structs

from router.config.compiled import Strategy
from router.endpoints.catalog import Catalog
from router.errors import RequestRejected
from router.policy.hints import Hints
from router.policy.route import Route, straight_to
from telemetry.numbers import brief


def require_pinned(hints: Hints, model: str, endpoints: Collection[str]) -> None:
    """Refuse a call of a profile that names no endpoint.

    Args:
        endpoints: the ids of those that there are.

    Raises:
        RequestRejected: it names none.
    """
    if hints.profile and model not in endpoints:
        raise RequestRejected(
            "invalid_request",
            f"x-router-profile is for calls that name an endpoint, and {brief(model)} is the id "
            "of none; write an id of GET /v1/router/endpoints as `model`, or leave the hint out",
            param="model",
        )


def apart_from_traffic(hints: Hints) -> Hints:
    """Return the hints of a profile's call without what its unit and the books would go by."""
    return structs.replace(hints, session=None, is_users=False, prompt=None)


def profile_route(strategy: Strategy, model: str, catalog: Catalog) -> Route:
    """Return the route of a profile's call: the endpoint that it names, and nobody else."""
    return straight_to(strategy, catalog.by_id[model])
