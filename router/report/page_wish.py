"""What somebody wants a report of, as it was written: by options of the verb, or in a query. Pure.

Nothing is guessed: what is not known, or cannot be meant, is refused by field and value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from router.config.compiled import Configuration
from router.config.levels import parent_of
from router.config.named import did_you_mean
from router.errors import RequestRejected
from router.report.ledger_wish import LedgerWish, iso, read_wish, since_of_days
from router.report.query import fields_of, refused

FIELDS = ("since", "task", "role", "app", "strategy", "month")
USUAL_DAYS, MOST_DAYS = 7, 3660
THIS_MONTH = "this"
"""In place of a month: the one that is not over."""


@dataclass(frozen=True, slots=True)
class PageWish:
    """What is asked, read and checked; None: all of them."""

    ledger: LedgerWish  # its period, and the app
    days: int | None = None  # the period, where it was asked so
    month: str = ""  # `2026-11`
    task: str | None = None
    role: str | None = None
    app: str | None = None
    strategy: str | None = None

    @property
    def since_ms(self) -> int:
        """When the period begins."""
        return self.ledger.since_ms

    @property
    def until_ms(self) -> int:
        """The first moment behind it."""
        return self.ledger.until_ms

    @property
    def is_narrow(self) -> bool:
        """Whether some apps, tasks, roles or strategies are left out."""
        return any((self.task, self.role, self.app, self.strategy))

    def admits(self, *, app: str, task: str, role: str, strategy: str) -> bool:
        """Return whether something is of what is asked about; a task's leaves are of it."""
        named = self.task in (None, task, parent_of(task))
        return (
            named
            and self.app in (None, app)
            and self.role in (None, role)
            and self.strategy in (None, strategy)
        )

    @property
    def scope(self) -> str:
        """Return it in words."""
        given = {"app": self.app, "task": self.task, "role": self.role, "strategy": self.strategy}
        said = [f"{name} {value}" for name, value in given.items() if value is not None]
        if self.app is None:
            said.insert(0, "all apps")
        if self.month:
            return ", ".join([*said, self.month])
        if self.days is not None:
            return ", ".join([*said, f"{self.days} day{'' if self.days == 1 else 's'}"])
        return ", ".join([*said, f"since {iso(self.since_ms, self.ledger.zone)[:10]}"])


def page_wish(given: Mapping[str, str | None], *, now_s: float) -> PageWish:
    """Return what is asked by fields of `FIELDS`.

    Raises:
        RequestRejected: something of it cannot be meant; names field, value and fix.
    """
    told = {name: value for name, value in given.items() if value is not None}
    for name, value in told.items():
        if not value:
            raise _refused(name, value, "empty; leave it out or say what is meant")
    if "since" in told and "month" in told:
        raise _refused("since", told["since"], "there beside a month; send one of the two")
    days = None
    asked: dict[str, str] = {name: told[name] for name in ("since", "month") if name in told}
    if asked.get("month") == THIS_MONTH:
        asked["month"] = datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m")
    since = asked.get("since", "" if "month" in asked else f"{USUAL_DAYS}d")
    if since.endswith("d") and since[:-1].isascii() and since[:-1].isdecimal():
        days = int(since[:-1]) if len(since) < 6 else 0
        if not 1 <= days <= MOST_DAYS:
            raise _refused("since", since, f"from 1d to {MOST_DAYS}d")
        begin = since_of_days(days - 1, now_s=now_s)
        asked["since"] = datetime.fromtimestamp(begin / 1000, UTC).date().isoformat()
    elif since and not since[:4].isdecimal():
        raise _refused("since", since, "write days, such as 7d, or a day, such as 2026-11-20")
    ledger = read_wish(asked, now_s=now_s)
    narrow = {name: told.get(name) for name in ("task", "role", "app", "strategy")}
    return PageWish(
        ledger._replace(app=narrow["app"]), days=days, month=asked.get("month", ""), **narrow
    )


def page_wish_in(query: bytes, *, now_s: float) -> PageWish:
    """Return what a query asks.

    Raises:
        RequestRejected: as `page_wish`; or a field is unknown, or there twice.
    """
    return page_wish(fields_of(query, FIELDS), now_s=now_s)


def require_known(wish: PageWish, configuration: Configuration) -> None:
    """Refuse what the configuration does not know.

    Raises:
        RequestRejected: there is no such app, task, role or strategy.
    """
    known = {
        "task": list(configuration.tasks),
        "role": list(configuration.roles),
        "app": list(configuration.apps),
        "strategy": list(configuration.strategies),
    }
    for name, names in known.items():
        value = getattr(wish, name)
        if value is not None and value not in names:
            raise _refused(name, value, f"no such {name}{did_you_mean(value, names)}")


def _refused(field: str, value: str, fix: str) -> RequestRejected:
    return refused(field, value, fix, FIELDS)
