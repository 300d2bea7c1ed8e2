"""What records add to the rows of budgets' accounts. Pure, but for what reads them.

Learner and audit share it, so that the same records make the same rows. Which days have rows is
known beside them; a day goes a week after it, by the mark's own time, so that what went can be
told from the stream alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from telemetry import keys
from telemetry.budget_accounts import MAX_AMOUNT, BudgetPeriod
from telemetry.budget_rows import (
    ACCOUNT_FIELD_BYTES,
    FoldedSpend,
    account_field,
    day_of,
    expiry_s,
    holder_field,
    pack_account,
    parse_account,
)
from telemetry.budget_spends import MAX_ACCOUNTS
from telemetry.ledger_rows import MOST_SUM, sums_at
from telemetry.scripts import Argument, Commit
from telemetry.store import Client
from workers.folding.batch import Batch

BudgetPlace = tuple[int, bytes]
"""The day on which a period ends, and the field of a row."""


@dataclass(frozen=True, slots=True)
class SpentRow:
    """What records add to one row."""

    amount: int
    n_calls: int
    length_s: int  # of the period


def sum_spends(spends: NDArray[np.void]) -> dict[BudgetPlace, SpentRow]:
    """Return what (n,) records of `SPEND_RECORD` add to each row, of accounts and of holders."""
    is_there = np.arange(MAX_ACCOUNTS) < spends["n"][:, None]
    each, holders = spends["spends"][is_there], np.repeat(spends["holder"], spends["n"])
    if not len(each):
        return {}
    digest, start_s = each["account"], each["start_s"]
    values = np.stack([each["amount"], each["is_call"].astype(np.int64)], axis=1)
    words = holders.view("<u8").reshape(len(holders), 2)
    out = dict[BudgetPlace, SpentRow]()
    for by, has_holder in (((digest, start_s), False), ((digest, start_s, *words.T), True)):
        first, sums = _summed(by, values)
        rows = zip(each[first].tolist(), holders[first].tolist(), sums.tolist(), strict=True)
        for (of, start, length_s, *_), holder, (amount, n_calls) in rows:
            period = BudgetPeriod(of, start, length_s)
            field = holder_field(period, holder) if has_holder else account_field(period)
            out[day_of(period), field] = SpentRow(amount, n_calls, length_s)
    return out


def added(row: bytes | None, more: SpentRow, field: bytes) -> bytes:
    """Return a row with what records add to it; a sum stays at its most."""
    if len(field) != ACCOUNT_FIELD_BYTES:
        return b"%d" % min(int(row or 0) + more.amount, MAX_AMOUNT)
    before, _ = parse_account(row)
    amount = min(before.amount + more.amount, MAX_AMOUNT)
    n_calls = min(before.n_calls + more.n_calls, MOST_SUM)
    return pack_account(FoldedSpend(amount, n_calls), more.length_s)


def add_spends(spends: NDArray[np.void], rows: dict[BudgetPlace, bytes]) -> None:
    """Have whole tables change by (n,) records of `SPEND_RECORD`."""
    for place, more in sum_spends(spends).items():
        rows[place] = added(rows.get(place), more, place[1])


def want_budgets(shard: int, batch: Batch, wanted: dict[str, list[bytes]]) -> None:
    """Put into `wanted`, by hash, which rows a batch changes."""
    for day, field in sum_spends(batch.spends) if len(batch.spends) else ():
        wanted.setdefault(keys.budget_rows(shard, day), []).append(field)


def write_budgets(
    commit: Commit, shard: int, batch: Batch, known: Mapping[str, Mapping[Any, bytes | None]]
) -> None:
    """Write what a batch changes.

    Args:
        known: by hash and field, what was wanted.
    """
    if not len(batch.spends):
        return
    by_day: dict[int, list[Argument]] = {}
    for (day, field), more in sum_spends(batch.spends).items():
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


def _summed(
    by: Sequence[NDArray[Any]], values: NDArray[np.int64]
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Return of each distinct name, told by columns of (n,), which row has it, and the sums."""
    order = np.lexsort(by)
    is_new = np.zeros(len(order), dtype=bool)
    is_new[0] = True
    for column in by:
        placed = column[order]
        is_new[1:] |= placed[1:] != placed[:-1]
    starts = np.flatnonzero(is_new)
    return order[starts], sums_at(values[order], starts)
