"""Warnings that a budget is half, four fifths or wholly spent: said once, by one sidecar.

Once of each limit, that is: under another one they are said again. That it is wholly spent is also
said of one that has too little left for the calls that it is there for (`turned_away`).

Who first writes one into the store says it; there it stays for 40 days to be shown. No user is
named in it, nor in the line of the log.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import structlog
from msgspec import Struct

from router.budgets.claims import BudgetClaim
from telemetry import keys
from telemetry.store import Client

log = structlog.get_logger()

MARKS = (50, 80, 100)
"""Percent of the limit."""
KEPT_S = 40 * 86_400
MAX_WARNINGS = 20_000
"""Kept; the oldest make room."""
PRUNE_EVERY_S = 3600.0


class BudgetWarning(Struct, frozen=True):
    """One warning, as it is kept."""

    budget: str
    account: str  # digest, in hexadecimal
    period: str  # hour, day or month
    start_s: int
    ends_s: int
    unit: str
    percent: int
    spent: int
    limit: int
    at_s: int

    @property
    def field(self) -> str:
        """What it is kept under; there is one of each."""
        return f"{self.account}:{self.start_s}:{self.percent}:{self.limit}"

    @property
    def old_field(self) -> str:
        """What it was kept under by versions that gave each mark one warning, of any limit."""
        return f"{self.account}:{self.start_s}:{self.percent}"


def passed_marks(spent: int, limit: int) -> list[int]:
    """Return which marks have been passed; all of a limit of nothing once anything is spent."""
    return [mark for mark in MARKS if spent > 0 and 100 * spent >= mark * limit]


def warning_of(claim: BudgetClaim, percent: int, spent: int, *, at_s: float) -> BudgetWarning:
    """Return a warning of an account as of now."""
    budget, account = claim.budget, claim.account
    return BudgetWarning(
        budget=budget.name,
        account=f"{account.digest:016x}",
        period=budget.span.value,
        start_s=account.start_s,
        ends_s=claim.ends_s,
        unit=budget.unit.value,
        percent=percent,
        spent=spent,
        limit=claim.limit,
        at_s=int(at_s),
    )


class WarningBook:
    """Warnings as the store has them."""

    def __init__(self) -> None:
        self._pruned_s = 0.0

    def say_first(self, client: Client, warnings: Iterable[BudgetWarning]) -> list[BudgetWarning]:
        """Write warnings down; return those that nobody had said before.

        Raises:
            redis.RedisError: the store is away.
        """
        wanted = list(warnings)
        if not wanted:
            return []
        pipeline = client.pipeline(transaction=False)
        for one in wanted:
            pipeline.hsetnx(keys.BUDGET_WARNED, one.field, msgspec.json.encode(one))
        for one in wanted:
            pipeline.hget(keys.BUDGET_WARNED, one.old_field)
        replies = pipeline.execute()
        each = zip(wanted, replies[: len(wanted)], replies[len(wanted) :], strict=True)
        fresh = []
        for one, is_new, old in each:
            known = _parse(old) if is_new else None
            if known is not None and known.limit == one.limit:  # said by a version before
                client.hset(keys.BUDGET_WARNED, one.field, old)
                client.hdel(keys.BUDGET_WARNED, one.old_field)
            elif is_new:
                fresh.append(one)
        now_s = wanted[0].at_s
        if fresh and now_s - self._pruned_s >= PRUNE_EVERY_S:
            self._pruned_s = now_s
            prune(client, now_s=now_s)
        return fresh


def announce(warning: BudgetWarning, claim: BudgetClaim) -> None:
    """Say a warning in the log."""
    values = {name: value for name, value in claim.values if name != "user"}
    log.warning(
        _words(warning),
        budget=warning.budget,
        percent=warning.percent,
        spent=warning.spent,
        limit=warning.limit,
        unit=claim.budget.unit.name.lower(),
        resets_at_s=warning.ends_s,
        **values,
    )


def _words(warning: BudgetWarning) -> str:
    if warning.percent < MARKS[-1]:
        return "a budget is being spent"
    is_spent = warning.spent >= warning.limit
    return "a budget is spent" if is_spent else "a budget has too little left for calls"


def read_warnings(client: Client) -> list[BudgetWarning]:
    """Return what is kept, the latest first; what cannot be read is left out.

    Raises:
        redis.RedisError: the store is away.
    """
    found = map(_parse, client.hvals(keys.BUDGET_WARNED))
    known = [one for one in found if one is not None]
    return sorted(known, key=lambda one: (-one.at_s, one.field))


def _parse(text: bytes | None) -> BudgetWarning | None:
    try:
        return msgspec.json.decode(text or b"", type=BudgetWarning)
    except msgspec.MsgspecError:
        return None


def prune(client: Client, *, now_s: float) -> None:
    """Drop warnings that are old, and the oldest of too many.

    Raises:
        redis.RedisError: the store is away.
    """
    known = read_warnings(client)
    young = [one for one in known[:MAX_WARNINGS] if one.at_s > now_s - KEPT_S]
    gone = [name for one in known[len(young) :] for name in (one.field, one.old_field)]
    if gone:
        client.hdel(keys.BUDGET_WARNED, *gone)
