"""What the ledger is asked: which period, by what, of whom; and into which span a row falls. Pure.

An hour, or a day where only days are kept, counts as a whole, by its middle: it is in the period
that holds this moment, and in the day and month that it has in the asker's time zone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from telemetry.ledger_rows import (
    DAY_MS,
    HOUR_MS,
    HOURS,
    KEYS,
    LedgerColumn,
    LedgerTable,
)

OUTSIDE = -1
"""In place of a span: it is not asked about."""
MIDDAY = HOURS // 2
DAY_S = DAY_MS // 1000
HOUR_S = HOUR_MS // 1000
MONTHS = 12


class Dimension(StrEnum):
    """By what rows are told apart."""

    APP = "app"
    ROLE = "role"
    TASK = "task"
    STRATEGY = "strategy"
    ENDPOINT = "endpoint"
    MODEL = "model"  # the name that answers carry
    USER = "user"
    TAG = "tag"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"
    PRICE = "price"  # the digest of an entry; of attempts alone whose cost the provider tells


ASKABLE = tuple(name for name in Dimension if name != "price")
"""What people ask by."""
TIMES = (Dimension.HOUR, Dimension.DAY, Dimension.MONTH)
TABLES = {Dimension.USER: LedgerTable.USERS, Dimension.TAG: LedgerTable.TAGS}
"""Of whom there is a table of its own, by day, that knows apps and nothing else."""
OF_PRICES = (Dimension.ENDPOINT, Dimension.PRICE, Dimension.DAY, Dimension.MONTH)
"""What the table of prices knows."""
ASKED_APART = (
    *(LedgerColumn.N_REPORTED, LedgerColumn.REPORTED, LedgerColumn.REPORTED_BY_PRICE),
    *(LedgerColumn.LATENCY_US, LedgerColumn.ROWS),
)
SUMMED = tuple(column for column in LedgerColumn if column not in ASKED_APART)
"""What everybody asks for: each column that is not read saves its part of the time."""


class UnknownTogether(ValueError):
    """What is asked for together is not kept together."""

    def __init__(self, dimension: str, reason: str) -> None:
        self.dimension, self.reason = dimension, reason
        super().__init__(f"{dimension}: {reason}")


@dataclass(frozen=True, slots=True)
class LedgerQuestion:
    """What is asked."""

    since_ms: int
    until_ms: int  # the first moment that is not asked about
    by: tuple[Dimension, ...] = ()
    zone: tzinfo = UTC
    only: Mapping[Dimension, frozenset[int]] = field(default_factory=dict)  # digests
    columns: tuple[LedgerColumn, ...] = SUMMED

    def __post_init__(self) -> None:
        """Check that all of it is kept together.

        Raises:
            UnknownTogether: it is not.
        """
        asked = dict.fromkeys((*self.by, *self.only))
        for name in (name for name in TABLES if name in asked):
            beside = {Dimension.APP, Dimension.DAY, Dimension.MONTH, name}
            for other in asked:
                if other not in beside:
                    fix = "ask by app, day and month beside it"
                    raise UnknownTogether(other, f"is not kept by {name}; {fix}")
        if Dimension.PRICE in asked:
            for other in asked:
                if other not in OF_PRICES:
                    raise UnknownTogether(other, "is not kept by price")
        if len([name for name in self.by if name in TIMES]) > 1:
            raise UnknownTogether(self.time or "", "ask by one of hour, day and month")

    @property
    def table(self) -> LedgerTable:
        """In which table it is."""
        asked = (*self.by, *self.only)
        if Dimension.PRICE in asked:
            return LedgerTable.PRICES
        return next((TABLES[name] for name in asked if name in TABLES), LedgerTable.CALLS)

    @property
    def time(self) -> Dimension | None:
        """By which spans of time it is asked."""
        return next((name for name in self.by if name in TIMES), None)

    @property
    def fields(self) -> tuple[str, ...]:
        """By which fields of the table's keys rows are told apart."""
        return tuple(key_field(name) for name in self.by if name not in TIMES)

    def days(self) -> range:
        """Return the days, since the epoch, in which there may be something."""
        return range(self.since_ms // DAY_MS, -(-self.until_ms // DAY_MS))


def key_field(dimension: Dimension) -> str:
    """Return which field of a table's keys holds a dimension."""
    return "name" if dimension in TABLES else dimension.value


def fields_of(table: LedgerTable) -> tuple[str, ...]:
    """Return the fields of a table's keys."""
    return KEYS[table].names or ()


class Spans:
    """Into which span of a question hours and days fall."""

    def __init__(self, question: LedgerQuestion) -> None:
        self._since_ms, self._until_ms = question.since_ms, question.until_ms
        self._zone, self._time = question.zone, question.time
        self._hours: dict[int, NDArray[np.int64]] = {}

    def of_hours(self, day: int) -> NDArray[np.int64]:
        """Return (24,) the span of each hour of a day; `OUTSIDE` where it is not asked about."""
        found = self._hours.get(day)
        if found is None:
            middles = (day * DAY_S + hour * HOUR_S + HOUR_S // 2 for hour in range(HOURS))
            named = [self._at(middle) for middle in middles]
            found = self._hours[day] = np.array(named, dtype=np.int64)
        return found

    def of_day(self, day: int) -> int:
        """Return the span of a day of which no hours are kept.

        Its middle is noon of UTC: that is the same day at nearly every place.
        """
        return self._at(day * DAY_S + MIDDAY * HOUR_S, is_day=True)

    def _at(self, middle_s: int, *, is_day: bool = False) -> int:
        if not self._since_ms <= middle_s * 1000 < self._until_ms:
            return OUTSIDE
        if self._time is None:
            return 0
        if self._time is Dimension.HOUR:
            return (middle_s - (MIDDAY * HOUR_S if is_day else HOUR_S // 2)) // HOUR_S
        local = datetime.fromtimestamp(middle_s, self._zone).date()
        if self._time is Dimension.DAY:
            return local.toordinal()
        return local.year * MONTHS + local.month - 1


def span_name(time: Dimension, span: int, zone: tzinfo) -> str:
    """Return a span as ISO 8601 has it: `2026-11-30`, `2026-11`, `2026-11-30T10:00+01:00`."""
    if time is Dimension.DAY:
        return date.fromordinal(span).isoformat()
    if time is Dimension.MONTH:
        return f"{span // MONTHS:04d}-{span % MONTHS + 1:02d}"
    return datetime.fromtimestamp(span * HOUR_S, zone).isoformat(timespec="minutes")


def first_of(day: date, zone: tzinfo) -> int:
    """Return when a day begins somewhere, in epoch milliseconds."""
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000)


def month_of(year: int, month: int, zone: tzinfo) -> tuple[int, int]:
    """Return when a month begins and ends somewhere, in epoch milliseconds."""
    first = date(year, month, 1)
    following = (first + timedelta(days=32)).replace(day=1)
    return first_of(first, zone), first_of(following, zone)


def some_fields(names: Sequence[str], table: LedgerTable) -> list[str]:
    """Return those of some fields that a table has, each once."""
    return [name for name in dict.fromkeys(names) if name in fields_of(table)]
