"""Budgets as they are written: whose calls count, how much in which period, and what then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from router.endpoints.entry import Entry, Name, TimeZone
from telemetry.digests import digest8

EACH = "each"
"""In the place of a name: every value has an account of its own."""
NANO = 1e9
MAX_HELD = 6
"""Budgets that may hold for one call, beside the ceilings of exploring."""


class BudgetSpan(StrEnum):
    """For how long an allowance lasts: by the calendar of a time zone."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


class BudgetUnit(StrEnum):
    """What is counted."""

    MONEY = "usd"
    TOKENS = "tokens"  # in and out
    CALLS = "calls"


class OnSpent(StrEnum):
    """What becomes of calls once a budget is used up."""

    REFUSE = "refuse"
    CHEAPEST = "cheapest"  # they go to whoever calls cost least at
    LOCAL = "local"  # they go to endpoints of zone `local`


Scope = Annotated[str, Field(min_length=1, max_length=256)]


class BudgetEntry(Entry):
    """A budget. It holds for calls of which everything that is named is so; of nothing, for all."""

    app: Scope | None = None
    """Whose calls count, by app. `each`: every app has so much."""
    user: Scope | None = None
    """Whose calls count, by user. `each`: every user has so much."""
    tag: Scope | None = None
    """Which calls count, by tag, as `key=value` of a declared `spend_tag`."""
    role: Scope | None = None
    """Which calls count, by role. `each`: every role has so much."""
    strategy: Scope | None = None
    """Which calls count, by strategy. `each`: every strategy has so much."""
    per: BudgetSpan
    """For how long it lasts, by the calendar."""
    timezone: TimeZone = "UTC"
    """By whose calendar."""
    usd: Annotated[float, Field(gt=0, le=9_000_000)] | None = None
    """How much, in US dollars."""
    tokens: Annotated[int, Field(gt=0, le=2**52)] | None = None
    """How much, in tokens of prompts and answers, instead of `usd`."""
    calls: Annotated[int, Field(gt=0, le=2**52)] | None = None
    """How much, in calls, instead of `usd`."""
    instead: dict[Scope, Annotated[float, Field(ge=0, le=2**52)]] = Field(default_factory=dict)
    """Other amounts for some of the names that `each` stands for."""
    hard: bool = False
    """With `true` it is never exceeded. Otherwise it may be, by estimates and while the store is
    away."""
    on_spent: OnSpent = OnSpent.REFUSE
    """What becomes of calls once it is used up: refused, or sent to the cheapest endpoint, or to
    zone `local`."""

    @property
    def scope(self) -> dict[str, str]:
        """What is named, by field."""
        said = {name: getattr(self, name) for name in SCOPES}
        return {name: value for name, value in said.items() if value is not None}

    @property
    def amounts(self) -> dict[BudgetUnit, float]:
        """The amount, by its unit; a budget has one."""
        said = {unit: getattr(self, unit.value) for unit in BudgetUnit}
        return {unit: float(value) for unit, value in said.items() if value is not None}


SCOPES = ("app", "user", "tag", "role", "strategy")
Budgets = dict[Name, BudgetEntry]


@dataclass(frozen=True, slots=True)
class Budget:
    """A compiled budget; amounts are integers: nano-USD, tokens or calls."""

    name: str
    digest: int
    scope: Mapping[str, str]  # field -> the value that a call must have, or `EACH`
    unit: BudgetUnit
    limit: int
    instead: Mapping[str, int]  # by value of the one field that is `EACH`
    span: BudgetSpan
    timezone: str
    is_hard: bool
    on_spent: OnSpent
    only_steers: bool = False  # no call is refused by it, nor goes by other rules

    @property
    def may_refuse(self) -> bool:
        """Whether calls are refused once it is used up, or not to be asked."""
        return self.is_hard or (self.on_spent is OnSpent.REFUSE and not self.only_steers)

    @property
    def each(self) -> tuple[str, ...]:
        """The fields of which every value has an account of its own."""
        return tuple(field for field, value in self.scope.items() if value == EACH)

    def limit_of(self, values: Mapping[str, str]) -> int:
        """Return what is allowed to these values of `each`."""
        each = self.each
        return self.instead.get(values[each[0]], self.limit) if len(each) == 1 else self.limit


def compile_budgets(entries: Budgets) -> tuple[Budget, ...]:
    """Return what the entries mean; everything in them was checked before."""
    return tuple(_budget(name, entry) for name, entry in entries.items())


def _budget(name: str, entry: BudgetEntry) -> Budget:
    ((unit, amount),) = entry.amounts.items()
    scale = NANO if unit is BudgetUnit.MONEY else 1
    return Budget(
        name=name,
        # Another unit or span counts something else: its account begins anew.
        digest=digest8("budget", name, unit.value, entry.per.value, entry.timezone),
        scope=entry.scope,
        unit=unit,
        limit=round(amount * scale),
        instead={value: round(other * scale) for value, other in entry.instead.items()},
        span=entry.per,
        timezone=entry.timezone,
        is_hard=entry.hard,
        on_spent=entry.on_spent,
    )
