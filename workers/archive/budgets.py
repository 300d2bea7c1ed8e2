"""What is folded of budgets' accounts, in the archive: all of its rows with each checkpoint.

A restored store has no accounts: what each holder spent of a running period is told to them anew,
so that it is not granted twice. Who lives restates what it has, which then counts in its place.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from telemetry import keys
from telemetry.budget_accounts import BudgetAccounts, BudgetPeriod
from telemetry.budget_rows import ACCOUNT_FIELD_BYTES, period_of_row
from telemetry.store import Client
from workers.archive.files import Content, Placed
from workers.folding.budget_rows import is_over


def ask(pipeline: Client, shard: int, days: Collection[int]) -> int:
    """Ask for the rows of some days; return how often."""
    pipeline.smembers(keys.budget_days(shard))
    for day in sorted(days):
        pipeline.hgetall(keys.budget_rows(shard, day))
    return 1 + len(days)


def days_of(client: Client, shard: int) -> set[int]:
    """Return the days that have rows."""
    return set(map(int, client.smembers(keys.budget_days(shard))))


def put_into(content: Content, days: Collection[int], replies: Sequence[Any]) -> bool:
    """Put what `ask` was told into a checkpoint; return False where other days have rows now."""
    now, *rows = replies
    if set(map(int, now)) != set(days):
        return False
    content.budgets = {
        (day, name): row
        for day, own in zip(sorted(days), rows, strict=True)
        for name, row in own.items()
    }
    return True


def forget(rows: Placed, *, now_ms: int) -> Placed:
    """Return the rows that count as of a mark's time."""
    return {place: row for place, row in rows.items() if not is_over(place[0], now_ms)}


def difference(ours: Placed, theirs: Placed) -> str | None:
    """Return the first row in which two states differ; None where they are equal."""
    for day, name in sorted(ours.keys() | theirs.keys()):
        row, stored = ours.get((day, name)), theirs.get((day, name))
        if row != stored:
            where = f"budgets that end on day {day}, row {name.hex()}"
            return f"{where}: {_shown(row)} by the records, {_shown(stored)} stored"
    return None


def clear(client: Client, shard: int) -> None:
    """Delete the rows of a shard."""
    days = days_of(client, shard)
    client.delete(keys.budget_days(shard), *(keys.budget_rows(shard, day) for day in days))


def restore_rows(pipeline: Client, shard: int, content: Content, at_once: int) -> None:
    """Write the rows of a checkpoint."""
    by_day: dict[int, dict[bytes, bytes]] = defaultdict(dict)
    for (day, name), row in content.budgets.items():
        by_day[day][name] = row
    for day, rows in by_day.items():
        names = list(rows)
        for i in range(0, len(names), at_once):
            mapping = {name: rows[name] for name in names[i : i + at_once]}
            pipeline.hset(keys.budget_rows(shard, day), mapping=mapping)
    if by_day:
        pipeline.sadd(keys.budget_days(shard), *by_day)


def restore_accounts(client: Client, shards: Sequence[Placed], *, now_s: int) -> int:
    """Have the accounts of running periods know what each holder spent; return of how many.

    Args:
        shards: the rows of each.
    """
    spent = spent_by_holder(shards)
    accounts, n = BudgetAccounts(client), 0
    for (period, holder), amount in spent.items():
        if now_s < period.start_s + period.length_s:
            accounts.bury(period, holder.hex(), spent=amount)
            n += 1
    return n


def spent_by_holder(shards: Sequence[Placed]) -> dict[tuple[BudgetPeriod, bytes], int]:
    """Return what each holder of an account spent, over all shards."""
    out: dict[tuple[BudgetPeriod, bytes], int] = defaultdict(int)
    for rows in shards:
        for (day, name), row in rows.items():
            of_account, holder = name[:ACCOUNT_FIELD_BYTES], name[ACCOUNT_FIELD_BYTES:]
            account = rows.get((day, of_account)) if holder else None
            if account is not None:
                out[period_of_row(of_account, account), holder] += max(int(row), 0)
    return dict(out)


def _shown(row: bytes | None) -> str:
    return row.decode() if row is not None else "nothing"
