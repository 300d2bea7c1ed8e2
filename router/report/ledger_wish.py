"""What somebody asks the ledger, as it was written: in a query, or by the options of a verb. Pure.

Nothing is guessed: what is not known, is there twice or is too long is refused by field and value.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from router.errors import RequestRejected
from router.report.query import fields_of, refused
from telemetry.ledger_questions import ASKABLE, TIMES, Dimension, first_of, month_of

FIELDS = ("since", "until", "month", "by", "zone", "app", "user", "tag", "limit")
MOST_CHARACTERS = 300
"""Of a value: names of users are the longest, and shorter."""
MOST_DIMENSIONS = 4
USUAL_DAYS = 30
USUAL_LIMIT, MOST_LIMIT = 1000, 10_000
FIRST_YEAR, LAST_YEAR = 2000, 2100
A_TIME = "write a day or a time, such as 2026-11-30 or 2026-11-30T10:00+01:00"
A_ZONE = "write a time zone such as Europe/Berlin or UTC"


class LedgerWish(NamedTuple):
    """What is asked, read and checked."""

    since_ms: int
    until_ms: int
    by: tuple[Dimension, ...]
    zone: ZoneInfo
    app: str | None
    user: str | None
    tag: str | None
    limit: int


def wish_in(query: bytes, *, now_s: float) -> LedgerWish:
    """Return what a query asks.

    Raises:
        RequestRejected: something of it cannot be meant; names field, value and fix.
    """
    return read_wish(fields_of(query, FIELDS), now_s=now_s)


def read_wish(given: Mapping[str, str], *, now_s: float, limit: int = USUAL_LIMIT) -> LedgerWish:
    """Return what is asked by fields of `FIELDS`.

    Args:
        limit: of rows, where none is given.
    Raises:
        RequestRejected: as `wish_in`.
    """
    for name, value in given.items():
        if not value.strip():
            raise _refused(name, value, "empty; leave it out or say what is meant")
        if len(value) > MOST_CHARACTERS or not value.isprintable():
            raise _refused(name, value, f"write at most {MOST_CHARACTERS} characters of a line")
    zone = _zone(given.get("zone", "UTC"))
    since_ms, until_ms = _period(given, zone, now_s)
    return LedgerWish(
        since_ms,
        until_ms,
        _by(given.get("by", "")),
        zone,
        given.get("app"),
        given.get("user"),
        given.get("tag"),
        _limit(given["limit"]) if "limit" in given else limit,
    )


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # no such name; no name at all, or a folder of them
        raise _refused("zone", name, A_ZONE) from None


def _by(written: str) -> tuple[Dimension, ...]:
    names = [name.strip() for name in written.split(",")] if written else []
    known = [dimension.value for dimension in ASKABLE]
    for name in names:
        if name not in known:
            raise _refused("by", name, f"known: {', '.join(known)}")
    found = tuple(Dimension(name) for name in names)
    if len(set(found)) != len(found):
        raise _refused("by", written, "a name stands there twice; write each once")
    if len(found) > MOST_DIMENSIONS:
        raise _refused("by", written, f"ask by {MOST_DIMENSIONS} at most")
    if len([name for name in found if name in TIMES]) > 1:
        raise _refused("by", written, "ask by one of hour, day and month")
    return found


def _period(given: Mapping[str, str], zone: ZoneInfo, now_s: float) -> tuple[int, int]:
    """Return the first moment of the period, and the first behind it, in epoch milliseconds."""
    if "month" in given:
        for name in ("since", "until"):
            if name in given:
                raise _refused(name, given[name], "there beside a month; send one of the two")
        return _month(given["month"], zone)
    today = datetime.fromtimestamp(now_s, zone).date()
    since_ms = first_of(today - timedelta(days=USUAL_DAYS - 1), zone)
    until_ms = first_of(today + timedelta(days=1), zone)
    if "until" in given:
        until_ms = _moment("until", given["until"], zone)
    if "since" in given:
        since_ms = _moment("since", given["since"], zone)
    elif "until" in given:
        since_ms = until_ms - USUAL_DAYS * 86_400_000
    if since_ms >= until_ms:
        name = "since" if "since" in given else "until"
        begin, end = iso(since_ms, zone), iso(until_ms, zone)
        why = f"the period is empty: its begin, {begin}, is not before its end, {end}"
        raise _refused(name, given[name], why)
    return since_ms, until_ms


def _month(written: str, zone: ZoneInfo) -> tuple[int, int]:
    year, _, month = written.partition("-")
    is_one = year.isdecimal() and month.isdecimal() and len(year) == 4 and len(month) == 2
    if not (is_one and year.isascii() and month.isascii()):
        raise _refused("month", written, "write year and month, such as 2026-11")
    if not (FIRST_YEAR <= int(year) <= LAST_YEAR and 1 <= int(month) <= 12):
        raise _refused("month", written, "write year and month, such as 2026-11")
    return month_of(int(year), int(month), zone)


def _moment(field: str, written: str, zone: ZoneInfo) -> int:
    """Return a day's begin, or a moment, in epoch milliseconds; without an offset of the zone."""
    # In a query a plus that is not encoded is a blank; no time has one behind its T.
    day, t, clock = written.strip().partition("T")
    text = f"{day}{t}{clock.replace(' ', '+')}"
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise _refused(field, written, A_TIME) from None
    if not FIRST_YEAR <= at.year <= LAST_YEAR:
        raise _refused(field, written, f"a year from {FIRST_YEAR} to {LAST_YEAR}")
    if at.tzinfo is None:
        at = at.replace(tzinfo=zone)
    return int(at.timestamp() * 1000)


def _limit(written: str) -> int:
    is_number = written.isascii() and written.isdecimal() and len(written) <= 6
    if not is_number or not 1 <= int(written) <= MOST_LIMIT:
        raise _refused("limit", written, f"a whole number from 1 to {MOST_LIMIT:,}")
    return int(written)


def _refused(field: str, value: str, fix: str) -> RequestRejected:
    return refused(field, value, fix, FIELDS)


def iso(ms: int, zone: ZoneInfo) -> str:
    """Return a moment as ISO 8601 has it."""
    return datetime.fromtimestamp(ms // 1000, zone).isoformat(timespec="seconds")


def iso_day(day: int) -> str:
    """Return a day, counted since the epoch."""
    return (date(1970, 1, 1) + timedelta(days=day)).isoformat()


def since_of_days(n: int, *, now_s: float) -> int:
    """Return when the day began that was so many days ago, of UTC, in epoch milliseconds."""
    today = datetime.fromtimestamp(now_s, UTC).date()
    return first_of(today - timedelta(days=n), UTC)
