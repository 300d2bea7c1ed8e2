"""Windows in which an endpoint is under maintenance: every week, or on one day."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from router.endpoints.entry import Day, Entry, TimeZone

MIDNIGHT = "24:00"
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")


def _time_of_day(value: str) -> str:
    if not _CLOCK.fullmatch(value):
        raise ValueError("write a time of day from 00:00 to 24:00")
    return value


TimeOfDay = Annotated[str, AfterValidator(_time_of_day)]


class Weekday(StrEnum):
    """A day of the week."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


class MaintenanceEntry(Entry):
    """A window: on days of the week, each of them unless said, or on one day of the calendar."""

    days: Annotated[list[Weekday], Field(min_length=1)] | None = None
    """Days of the week. Unset, every day."""
    date: Day | None = None
    """One day of the calendar, instead of days of the week."""
    from_: Annotated[TimeOfDay, Field(alias="from")]
    """When it begins, such as "22:00"."""
    to: TimeOfDay
    """When it ends. Earlier than `from` is on the next day."""
    timezone: TimeZone = "UTC"
    """By whose clock."""

    @field_validator("date")
    @classmethod
    def _is_one_of_two(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and info.data.get("days") is not None:
            raise ValueError("days of the week are named as well; leave one of them out")
        return value

    @field_validator("to")
    @classmethod
    def _is_a_span(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("from_") in (value, MIDNIGHT):
            raise ValueError("from and to are one moment; a whole day is from 00:00 to 24:00")
        return value


@dataclass(frozen=True, slots=True)
class MaintenanceWindow:
    """One of them, compiled."""

    weekdays: frozenset[int]  # 0: Monday
    on: date | None
    from_minute: int
    to_minute: int
    zone: tzinfo

    def holds(self, at_s: float) -> bool:
        """Return whether a moment, in epoch seconds, lies within it."""
        local = datetime.fromtimestamp(at_s, self.zone)
        minute, today = 60 * local.hour + local.minute, local.date()
        if self.from_minute < self.to_minute:
            return self._is_on(today) and self.from_minute <= minute < self.to_minute
        if self._is_on(today) and minute >= self.from_minute:
            return True
        return minute < self.to_minute and self._is_on(today - timedelta(days=1))

    def as_json(self) -> dict[str, Any]:
        """Return it as it would be written."""
        names = [day.value for n, day in enumerate(Weekday) if n in self.weekdays]
        when = {"date": self.on.isoformat()} if self.on else {"days": names}
        clock = {"from": _shown(self.from_minute), "to": _shown(self.to_minute)}
        return {**when, **clock, "timezone": str(self.zone)}

    def _is_on(self, day: date) -> bool:
        return day == self.on if self.on is not None else day.weekday() in self.weekdays


def compile_windows(entries: Sequence[MaintenanceEntry] | None) -> tuple[MaintenanceWindow, ...]:
    """Return the windows that are written."""
    numbers = {day: n for n, day in enumerate(Weekday)}
    return tuple(
        MaintenanceWindow(
            weekdays=frozenset(numbers[day] for day in entry.days or Weekday),
            on=entry.date,
            from_minute=_minute(entry.from_),
            to_minute=_minute(entry.to),
            zone=ZoneInfo(entry.timezone),
        )
        for entry in entries or ()
    )


def _minute(time_of_day: str) -> int:
    return 60 * int(time_of_day[:2]) + int(time_of_day[3:])


def _shown(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"
