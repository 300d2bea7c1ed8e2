"""A strategy as it is written: what it is after, and how far it may go for it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from router.config.policies import ConstraintsEntry
from router.config.wishes import Gain, Pay, StrategyLimitsEntry
from router.endpoints.entries import TimeoutsEntry
from router.endpoints.entry import Name

MAX_RELEASE_EVERY_S = 10 * 366 * 86_400
"""Ten years: what is meant to be never."""


class ObjectiveKind(StrEnum):
    """What a strategy is after."""

    QUALITY = "quality"
    BALANCED = "balanced"
    CHEAPEST = "cheapest"
    FASTEST = "fastest"


ORDERS = (ObjectiveKind.CHEAPEST, ObjectiveKind.FASTEST)
"""Those that sort by the user's own order, and believe nothing."""


class Exchangeable(StrEnum):
    """What may serve in an incumbent's place; each permits less than the one before it."""

    ANY = "any"
    EQUIVALENTS = "equivalents"  # hosts of its own model, with its settings
    NONE = "none"


class StrategyEntry(ConstraintsEntry):
    """A named way to choose."""

    extends: Name | None = None
    """Another strategy. What is left out here is as it is there, and its constraints stay."""
    objective: ObjectiveKind = ObjectiveKind.QUALITY
    """What is wanted."""
    incumbent: Name | None = None
    """Who keeps the calls until another is shown to be better. Unset, the first endpoint listed;
    `none` is learning mode."""
    exchange: Exchangeable = Exchangeable.ANY
    """What may serve in the incumbent's place: `any`, hosts of its model (`equivalents`), or
    `none`."""
    require_jurisdictions: bool = False
    """Some level of the policy must say `jurisdictions`."""
    usual_retention_days: Annotated[int, Field(ge=0, le=36_500)] | None = None
    """`max_retention_days` where no level of the policy says any."""
    value_usd: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    """What one success is worth."""
    pay: Pay | None = None
    """How much more than the incumbent you would pay, such as 20%. With `for`."""
    for_: Annotated[Gain | None, Field(alias="for")] = None
    """For how many more successes in a hundred calls, such as 5% better. With `pay`."""
    latency_usd_per_s: Annotated[float, Field(ge=0, le=1_000)] | None = None
    """What a second of waiting costs you."""
    limits: StrategyLimitsEntry = StrategyLimitsEntry()
    """What an endpoint must keep. Soft limits give way in the order latency, cost, quality."""
    release_every_s: Annotated[float, Field(gt=0, le=MAX_RELEASE_EVERY_S)] | None = None
    """How often choices are reviewed. Unset, a week; of `cheapest` and `fastest` an hour."""
    timeouts: TimeoutsEntry = TimeoutsEntry()
    """Limits of one attempt."""

    @property
    def has_trade(self) -> bool:
        """Whether money is weighed against quality in words."""
        return self.pay is not None and self.for_ is not None
