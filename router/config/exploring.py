"""What exploring may come to in a day, as it is written: budgets that refuse no call."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from router.config.budgets import EACH, NANO, Budget, BudgetSpan, BudgetUnit, OnSpent
from router.endpoints.entry import Entry, TimeZone
from telemetry.budget_accounts import MAX_AMOUNT
from telemetry.digests import digest8

LEAST_CALLS = 300
"""A share is one of so many calls at least: so a day may begin with some that explore."""
ROUNDING = 1e-9


class ExploringEntry(Entry):
    """Ceilings of what exploring comes to in a day of an app; what is not said has none."""

    usd_per_day: Annotated[float, Field(gt=0, le=9_000_000)] | None = None
    """What calls that explore may cost in a day beyond what the choice is expected to cost."""
    share_of_calls: Annotated[float, Field(gt=0, le=1)] | None = None
    """Which share of the app's calls of the day may explore. A day counts 300 calls at least."""
    timezone: TimeZone = "UTC"
    """By whose calendar a day ends."""


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Compiled ceilings; every app has accounts of its own."""

    money: Budget | None
    explored: Budget | None  # calls that explore; how many may is a share of all
    others: Budget | None  # the rest of the calls, which are counted without a limit
    share: float

    def most_explored(self, n_calls: int) -> int:
        """Return how many of so many calls may explore."""
        return math.floor(self.share * max(n_calls, LEAST_CALLS) + ROUNDING)


def compile_ceilings(*entries: ExploringEntry | None) -> Ceilings | None:
    """Return what the first entry that there is says; None where that is nothing."""
    entry = next((one for one in entries if one is not None), None)
    if entry is None or (entry.usd_per_day is None and entry.share_of_calls is None):
        return None
    money = explored = others = None
    if entry.usd_per_day is not None:
        limit = round(entry.usd_per_day * NANO)
        money = _budget("usd_per_day", BudgetUnit.MONEY, limit, entry.timezone)
    if entry.share_of_calls is not None:
        # How many may is said with each claim: it follows from how many there are.
        explored = _budget("share_of_calls", BudgetUnit.CALLS, 0, entry.timezone)
        others = _budget("other_calls", BudgetUnit.CALLS, MAX_AMOUNT, entry.timezone)
    return Ceilings(money, explored, others, entry.share_of_calls or 0.0)


def _budget(name: str, unit: BudgetUnit, limit: int, timezone: str) -> Budget:
    return Budget(
        name=f"exploring.{name}",
        digest=digest8("exploring", name, timezone),
        scope={"app": EACH},
        unit=unit,
        limit=limit,
        instead={},
        span=BudgetSpan.DAY,
        timezone=timezone,
        is_hard=False,
        on_spent=OnSpent.REFUSE,
        only_steers=True,
    )
