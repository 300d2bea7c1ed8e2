"""What records add to the rows of budgets' accounts. Pure, but for what reads them.

Learner and audit share it, so that the same records make the same rows. Which days have rows is
known beside them; a day goes a week after it, by the mark's own time, so that what went can be
told from the stream alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from telemetry import keys
from telemetry.budget_accounts import MAX_AMOUNT
from telemetry.budget_rows import ACCOUNT_FIELD_BYTES, expiry_s, pack_account, parse_account
from telemetry.ledger_rows import MOST_SUM
from telemetry.scripts import Argument, Commit
from telemetry.store import Client
from workers.folding.batch import Batch
from workers.folding.budget_sums import BudgetPlace, SpentRow


def added(row: bytes | None, more: SpentRow, field: bytes) -> bytes:
    """Return a row with what records add to it; a sum stays at its most."""
    if len(field) != ACCOUNT_FIELD_BYTES:
        return b"%d" % _within(int(row or 0) + more.amount)
    (amount, n_calls), _ = parse_account(row)
    amount, n_calls = _within(amount + more.amount), min(n_calls + more.n_calls, MOST_SUM)
    return pack_account((amount, n_calls), more.length_s)


def _within(amount: int) -> int:
    """Return a sum, at its most beyond that."""
    return max(min(amount, MAX_AMOUNT), -MAX_AMOUNT)


def add_spends(batch: Batch, rows: dict[BudgetPlace, bytes]) -> None:
    """Have whole tables change by what a batch says."""
    for place, more in batch.budget_sums().items():
        rows[place] = added(rows.get(place), more, place[1])


def want_budgets(shard: int, batch: Batch, wanted: dict[str, list[bytes]]) -> None:
    """Put into `wanted`, by hash, which rows a batch changes."""
    for day, field in batch.budget_sums():
        wanted.setdefault(keys.budget_rows(shard, day), []).append(field)


def write_budgets(
    commit: Commit, shard: int, batch: Batch, known: Mapping[str, Mapping[Any, bytes | None]]
) -> None:
    """Write what a batch changes.

    Args:
        known: by hash and field, what was wanted.
    """
    by_day: dict[int, list[Argument]] = {}
    for (day, field), more in batch.budget_sums().items():
        row = known[keys.budget_rows(shard, day)][field]
        by_day.setdefault(day, []).extend((field, added(row, more, field)))
    for day, fields in by_day.items():
        commit.add_all("HSET", keys.budget_rows(shard, day), fields)
    commit.add_all("SADD", keys.budget_days(shard), sorted(by_day))


def prune_budgets(client: Client, commit: Commit, shard: int, *, now_ms: int) -> bool:
    """Have the rows go that are old; return whether there are any.

    Args:
        now_ms: the mark's own time.
    """
    name = keys.budget_days(shard)
    gone = [day for day in map(int, client.smembers(name)) if is_over(day, now_ms)]
    for day in gone:
        commit.add("UNLINK", keys.budget_rows(shard, day))
    commit.add_all("SREM", name, gone)
    return bool(gone)


def is_over(day: int, now_ms: int) -> bool:
    """Return whether the rows of periods that end on a day count no more."""
    return expiry_s(day) * 1000 <= now_ms
