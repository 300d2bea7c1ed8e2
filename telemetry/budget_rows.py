"""What is folded of the accounts of budgets: what each came to, and each of its holders.

Rows lie by shard, in the hash of the day on which the period ends, and go `KEPT_DAYS` after it: of
each account what it came to and how many calls that were, and of each of its holders what it
settled there. They only add up, each record once; a sum that reaches `MAX_AMOUNT` stays there.
Of accounts that are never exceeded, what attempts under way may come to is in them, too, and goes
once they ended. Where a journal lost what an attempt began with, a row is below 0: it is read as 0.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from telemetry import keys
from telemetry.budget_accounts import BudgetPeriod
from telemetry.store import Client

DAY_S = 86_400
KEPT_DAYS = 7
"""After a period: a journal that is sent so late still counts in it."""
AT_ONCE = 1000
"""Rows that one command asks for."""
_ACCOUNT = struct.Struct("<QI")
HOLDER_BYTES = 16
ACCOUNT_FIELD_BYTES = _ACCOUNT.size
HOLDER_FIELD_BYTES = ACCOUNT_FIELD_BYTES + HOLDER_BYTES


class FoldedSpend(NamedTuple):
    """What is folded of an account."""

    amount: int = 0  # nano-USD, tokens or calls; `budget_accounts.MAX_AMOUNT` at most of a shard
    n_calls: int = 0


NOTHING_FOLDED = FoldedSpend()


def day_of(period: BudgetPeriod) -> int:
    """Return the day on which a period ends, since the epoch: its rows lie there."""
    return (period.start_s + period.length_s) // DAY_S


def expiry_s(day: int) -> int:
    """Return when the rows of periods that ended on a day may go, in epoch seconds."""
    return (day + 1 + KEPT_DAYS) * DAY_S


def account_field(period: BudgetPeriod) -> bytes:
    """Return the field of an account's row."""
    return _ACCOUNT.pack(period.digest, period.start_s)


def holder_field(period: BudgetPeriod, holder: bytes) -> bytes:
    """Return the field of the row of one of its holders, a producer's id."""
    return account_field(period) + holder


def pack_account(spend: tuple[int, int], length_s: int) -> bytes:
    """Return the row of an account with this amount and number of calls.

    It says how long the period is, which its field does not.
    """
    return b"%d:%d:%d" % (*spend, length_s)


def parse_account(row: bytes | None) -> tuple[FoldedSpend, int]:
    """Return what an account's row says, and how long its period is; nothing where there is none.

    Raises:
        ValueError: it is no such row.
    """
    if row is None:
        return NOTHING_FOLDED, 0
    amount, n_calls, length_s = row.split(b":")
    return FoldedSpend(int(amount), int(n_calls)), int(length_s)


def period_of_row(name: bytes, row: bytes) -> BudgetPeriod:
    """Return the period whose row this is.

    Args:
        name: of `ACCOUNT_FIELD_BYTES`.
    """
    digest, start_s = _ACCOUNT.unpack(name)
    return BudgetPeriod(digest, start_s, parse_account(row)[1])


def read_folded(
    client: Client, n_shards: int, accounts: Sequence[BudgetPeriod]
) -> list[FoldedSpend]:
    """Return what is folded of accounts, over all shards, in the order of `accounts`.

    Raises:
        redis.RedisError: the store is away.
    """
    found = _read(client, n_shards, [(day_of(own), account_field(own)) for own in accounts])
    out = []
    for rows in found:
        spends = [parse_account(row)[0] for row in rows]
        amount = sum(max(s.amount, 0) for s in spends)
        out.append(FoldedSpend(amount, sum(s.n_calls for s in spends)))
    return out


def read_folded_of(client: Client, n_shards: int, account: BudgetPeriod, holder: bytes) -> int:
    """Return what is folded of one holder of an account, over all shards.

    Args:
        holder: the producer's id.

    Raises:
        redis.RedisError: the store is away.
    """
    (amount,) = read_folded_by(client, n_shards, [(account, holder)])
    return amount


def read_folded_by(
    client: Client, n_shards: int, held: Sequence[tuple[BudgetPeriod, bytes]]
) -> list[int]:
    """Return `read_folded_of` each of some accounts and holders, asked for together."""
    wanted = [(day_of(account), holder_field(account, holder)) for account, holder in held]
    return [sum(max(int(row or 0), 0) for row in rows) for rows in _read(client, n_shards, wanted)]


def _read(
    client: Client, n_shards: int, wanted: Sequence[tuple[int, bytes]]
) -> list[list[bytes | None]]:
    """Return of each day and field what each shard has."""
    by_day: dict[int, list[int]] = defaultdict(list)
    for place, (day, _) in enumerate(wanted):
        by_day[day].append(place)
    parts = [
        (day, places[i : i + AT_ONCE])
        for day, places in by_day.items()
        for i in range(0, len(places), AT_ONCE)
    ]
    pipeline = client.pipeline(transaction=False)
    for day, places in parts:
        for shard in range(n_shards):
            pipeline.hmget(keys.budget_rows(shard, day), [wanted[place][1] for place in places])
    replies = iter(pipeline.execute() if parts else [])
    out: list[list[bytes | None]] = [[] for _ in wanted]
    for _, places in parts:
        for _ in range(n_shards):
            for place, row in zip(places, next(replies), strict=True):
                out[place].append(row)
    return out
