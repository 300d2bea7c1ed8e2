"""The hour, day or month that a moment lies in, by the calendar of a time zone. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from router.config.budgets import BudgetSpan


def period_of(span: BudgetSpan, timezone: str, at_s: float) -> tuple[int, int]:
    """Return when the period of a moment began, in epoch seconds, and how many it has.

    A day may have 23 or 25 hours, and a month any number of such days.
    """
    start_s, end_s = _bounds(span, timezone, int(at_s // 3600))
    if not start_s <= at_s < end_s:  # a zone whose offset is no whole hour
        start_s, end_s = _of_moment(span, timezone, at_s)
    return start_s, end_s - start_s


@lru_cache(maxsize=1024)
def _bounds(span: BudgetSpan, timezone: str, hour: int) -> tuple[int, int]:
    return _of_moment(span, timezone, hour * 3600.0)


def _of_moment(span: BudgetSpan, timezone: str, at_s: float) -> tuple[int, int]:
    zone = ZoneInfo(timezone)
    local = datetime.fromtimestamp(at_s, zone)
    if span is BudgetSpan.HOUR:  # by real time: the hour that a clock is set back has two
        begun = local.replace(minute=0, second=0, microsecond=0)
        start_s = int(begun.timestamp())
        return start_s, start_s + 3600
    midnight = datetime(local.year, local.month, local.day)
    if span is BudgetSpan.MONTH:
        midnight = midnight.replace(day=1)
        following = (midnight + timedelta(days=32)).replace(day=1)
    else:
        following = midnight + timedelta(days=1)
    return _epoch(midnight, zone), _epoch(following, zone)


def _epoch(naive: datetime, zone: ZoneInfo) -> int:
    """Return the first moment of a local midnight; where clocks skip it, that of the jump."""
    at = naive.replace(tzinfo=zone).astimezone(UTC)
    return int(at.timestamp())
