"""The rows of raters in the store, as far as more than the learner reads them: whose each is.

A row holds the packed tokens of the decisions of one rater that count in a cell and day.
"""

from __future__ import annotations

from collections.abc import Collection

from telemetry import keys
from telemetry.store import Client
from telemetry.tokens import TOKEN_SIZE, user_of

KEPT_DAYS = 38
"""Rows of decisions of so many days may be there (`LABEL_DAYS` and `LAG_DAYS` of the learner)."""
AT_ONCE = 500
DAY_MS = 86_400_000
Seat = tuple[int, bytes]
"""Day of the decisions, and digest of rater and cell."""


def is_row_of(row: bytes, users: Collection[bytes]) -> bool:
    """Return whether a row is that of one of these users, by keyed hash."""
    return len(row) >= TOKEN_SIZE and user_of(row[:TOKEN_SIZE]) in users


def rows_of(
    client: Client, shard: int, users: Collection[bytes], *, now_ms: int
) -> dict[Seat, bytes]:
    """Return the rows of these users in a shard.

    Every row of the shard is looked at: they go by digests, and to keep an index of users would
    cost each of them memory for what is seldom asked.

    Raises:
        redis.RedisError: the store is away.
    """
    out: dict[Seat, bytes] = {}
    today = now_ms // DAY_MS
    for day in range(today - KEPT_DAYS, today + 2):
        for seat, row in client.hscan_iter(keys.raters(shard, day), count=AT_ONCE):
            if is_row_of(row, users):
                out[day, seat] = row
    return out
