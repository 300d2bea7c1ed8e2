"""What a provider takes a minute of an account: as it is written, and as it holds for an endpoint.

A provider's limits are one account with it, whatever endpoints call it with; an endpoint's are its
own. Of an endpoint whose calls are shared out, and whose limits nobody wrote down, they are learnt
from its answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

from msgspec import Struct
from pydantic import Field

from router.endpoints.entry import Entry, Name
from telemetry.digests import digest8

MINUTE_S = 60


class RateUnit(StrEnum):
    """What is counted."""

    REQUESTS = "requests"
    TOKENS = "tokens"  # in and out


PerMinute = Annotated[int, Field(gt=0, le=10_000_000_000)]
"""A hundred times what the largest accounts have."""


class RateLimitsEntry(Entry):
    """What is taken a minute, and which app may have how much of it."""

    requests_per_minute: PerMinute | None = None
    """How many requests it takes a minute."""
    tokens_per_minute: PerMinute | None = None
    """How many tokens it takes a minute."""
    shares: dict[Name, Annotated[float, Field(gt=0, le=1)]] | None = None
    """By app, the largest share of it that the app may take. Who is not named may take all."""

    @property
    def per_minute(self) -> dict[RateUnit, int]:
        """The limits that are said."""
        said = {unit: getattr(self, f"{unit.value}_per_minute") for unit in RateUnit}
        return {unit: int(limit) for unit, limit in said.items() if limit is not None}


class RateLimit(Struct, frozen=True):
    """One limit of a minute."""

    owner: str  # the provider or endpoint whose it is
    digest: int
    unit: RateUnit
    per_minute: int
    shares: Mapping[str, float]  # by app

    def share_of(self, app: str) -> int | None:
        """Return how much of it an app may take; None: all."""
        share = self.shares.get(app)
        return None if share is None else max(int(self.per_minute * share), 1)


class EndpointRates(Struct, frozen=True):
    """The limits of an endpoint, or of what is passed on to a provider."""

    said: tuple[RateLimit, ...] = ()
    learnt_by: str = ""  # the endpoint whose answers tell the limits that nobody said
    unsaid: frozenset[RateUnit] = frozenset()  # these
    shares: Mapping[str, float] = {}  # of them

    def with_learnt(self, learnt: Mapping[RateUnit, int]) -> tuple[RateLimit, ...]:
        """Return all that hold, with those that were learnt."""
        found = [
            _limit("endpoint", self.learnt_by, unit, limit, self.shares)
            for unit, limit in learnt.items()
            if unit in self.unsaid
        ]
        return (*self.said, *found) if found else self.said


NO_RATES = EndpointRates()


def rates_of_provider(name: str, entry: RateLimitsEntry) -> EndpointRates:
    """Return the limits of what is passed on to a provider."""
    return EndpointRates(_limits("provider", name, entry, entry.shares or {}))


def rates_of_endpoint(
    id_: str, own: RateLimitsEntry, provider: str, of_provider: RateLimitsEntry
) -> EndpointRates:
    """Return the limits of an endpoint: its provider's, and its own beside them.

    Its own word on shares goes before its provider's, for its own limits.
    """
    shares = (of_provider.shares if own.shares is None else own.shares) or {}
    said = *rates_of_provider(provider, of_provider).said, *_limits("endpoint", id_, own, shares)
    if not shares:
        return EndpointRates(said) if said else NO_RATES
    return EndpointRates(said, id_, frozenset(RateUnit) - own.per_minute.keys(), shares)


def _limits(
    kind: str, owner: str, entry: RateLimitsEntry, shares: Mapping[str, float]
) -> tuple[RateLimit, ...]:
    return tuple(
        _limit(kind, owner, unit, limit, shares) for unit, limit in entry.per_minute.items()
    )


def _limit(
    kind: str, owner: str, unit: RateUnit, per_minute: int, shares: Mapping[str, float]
) -> RateLimit:
    return RateLimit(owner, digest8("rate", kind, owner, unit.value), unit, per_minute, shares)
