"""What the ledger has of a report's period: calls and spend by app, role, task and strategy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from router.beliefs.beliefs import Beliefs
from router.report.ledger import NANO
from router.report.page_wish import PageWish
from telemetry.digests import digest8
from telemetry.ledger_questions import Dimension, LedgerQuestion
from telemetry.ledger_reading import TooManyGroups, read_ledger
from telemetry.ledger_rows import LedgerColumn as C
from telemetry.store import Client

BY = (Dimension.APP, Dimension.ROLE, Dimension.TASK, Dimension.STRATEGY, Dimension.ENDPOINT)
COLUMNS = (C.CALLS, C.ATTEMPTS, C.FAILED, C.FAILED_CALLS, C.UNPRICED, C.COST)


class LineKey(NamedTuple):
    """Of what a row of the page is; a role or strategy that calls do not have is empty."""

    app: str
    strategy: str
    role: str
    task: str


@dataclass(slots=True)
class PeriodSpend:
    """What calls came to."""

    calls: int = 0
    attempts: int = 0
    failed_calls: int = 0
    unpriced: int = 0  # attempts of which no price is known
    cost_nano: int = 0
    by_endpoint: Counter[str] = field(default_factory=Counter)  # attempts

    def add(self, endpoint: str, sums: Any) -> None:
        """Add a row of the ledger."""
        self.calls += int(sums[C.CALLS])
        self.attempts += int(sums[C.ATTEMPTS])
        self.failed_calls += int(sums[C.FAILED_CALLS])
        self.unpriced += int(sums[C.UNPRICED])
        self.cost_nano += int(sums[C.COST])
        self.by_endpoint[endpoint] += int(sums[C.ATTEMPTS])

    @property
    def usd(self) -> float:
        """All of it that has a price."""
        return self.cost_nano / NANO

    def as_json(self) -> dict[str, Any]:
        """Return it as one object; a cost of which nothing is known is null."""
        is_unknown = self.unpriced > 0 and self.cost_nano == 0
        return {
            "calls": self.calls,
            "failed": self.failed_calls,
            "attempts": self.attempts,
            "unpriced": self.unpriced,
            "cost_usd": None if is_unknown else self.usd,
        }


@dataclass(slots=True)
class Period:
    """What there was in a period."""

    lines: dict[LineKey, PeriodSpend] = field(default_factory=dict)
    total: PeriodSpend = field(default_factory=PeriodSpend)
    is_whole: bool = True  # else it had too many rows to be read at once


def read_period(
    client: Client, beliefs: Beliefs, wish: PageWish, known: Mapping[int, str]
) -> Period:
    """Return what the ledger has of a wish; a task's leaves that do not stand are among its own.

    Args:
        known: what digests stand for.

    Raises:
        redis.RedisError: the store is away.
    """
    only = {} if wish.app is None else {Dimension.APP: frozenset({digest8("app", wish.app)})}
    question = LedgerQuestion(
        wish.since_ms, wish.until_ms, BY, wish.ledger.zone, only, columns=COLUMNS
    )
    out = Period()
    try:
        rows = read_ledger(client, beliefs.configuration.store.shards, question).rows
    except TooManyGroups:
        out.is_whole = False
        return out

    def name(digest: int) -> str:
        return known.get(digest, f"{digest:016x}") if digest else ""

    fields = ("app", "role", "task", "strategy", "endpoint")
    columns = [[name(digest) for digest in rows.keys[field].tolist()] for field in fields]
    for app, role, task, strategy, endpoint, sums in zip(*columns, rows.values, strict=True):
        key = LineKey(app, strategy, role, deciding_task(beliefs, app, task))
        if wish.admits(app=app, task=task, role=role, strategy=strategy):
            out.lines.setdefault(key, PeriodSpend()).add(endpoint, sums)
            out.total.add(endpoint, sums)
    return out


def deciding_task(beliefs: Beliefs, app: str, task: str) -> str:
    """Return the task by which an app's calls of a task are decided: itself, or that above it."""
    found = beliefs.configuration.apps.get(app)
    if found is None or task not in beliefs.places[found.outlook]:
        return task
    return list(beliefs.configuration.task_index)[beliefs.row(found, task)]
