"""Keeps the sums of what routing saved, by day: the days that were read take the place of those
before; earlier ones stay as they are."""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from bandit.saving_sums import SAVING_ROW, sums_of
from telemetry import keys
from telemetry.errors import MalformedEvent
from telemetry.saving_state import STATE_FIELD, pack_day, unpack_day
from telemetry.store import Client
from workers.folding.batch import DAY_MS
from workers.jobs.choices_known import KnownChoices
from workers.jobs.saving_records import calls_of

DAYS = 30
"""As long as labels are heard."""
KEPT_DAYS = 800
"""As long as the ledger is."""


def day_sums(
    batches: Iterable[NDArray[np.void]], *, since_ms: int, choices: KnownChoices | None = None
) -> dict[int, NDArray[np.void]]:
    """Return the sums of routed calls by day.

    Args:
        batches: of RECORD, in any order.
        since_ms: decisions from then on count.
        choices: what stood when; None: nothing is known of it.
    """
    rows = sums_of(calls_of(batches, since_ms=since_ms, choices=choices))
    return {day: rows.compress(rows["day"] == day) for day in np.unique(rows["day"]).tolist()}


def keep(
    client: Client,
    found: dict[int, NDArray[np.void]],
    state: dict[str, object],
    *,
    since_ms: int,
    now_ms: int,
) -> None:
    """Store days and what is told of them.

    Of the day in which what was read begins, whichever has more calls stays.

    Raises:
        redis.RedisError: the store is away.
    """
    first = since_ms // DAY_MS
    new = dict(found)
    if since_ms % DAY_MS and first in new:
        stored = client.hget(keys.SAVINGS, str(first))
        if stored is not None and _n_calls(stored) > _sum(new[first]):
            del new[first]
    oldest = now_ms // DAY_MS - KEPT_DAYS
    names = (int(name) for name in client.hkeys(keys.SAVINGS) if name.isdigit())
    old = [str(day) for day in names if day < oldest]
    pipeline = client.pipeline(transaction=True)
    for day, rows in new.items():
        pipeline.hset(keys.SAVINGS, str(day), pack_day(rows))
    if old:
        pipeline.hdel(keys.SAVINGS, *old)
    pipeline.hset(keys.SAVINGS, STATE_FIELD, json.dumps(state))
    pipeline.execute()


def _n_calls(stored: bytes) -> float:
    try:
        return _sum(unpack_day(stored, SAVING_ROW))
    except MalformedEvent:
        return 0.0


def _sum(rows: NDArray[np.void]) -> float:
    return float(rows["calls"].sum() + rows["unpriced"].sum())
