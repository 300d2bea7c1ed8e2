"""Sums of comparisons as they are kept: which days a look takes the place of, and how they stay
bounded. Pure, but for reading them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import structlog
from numpy.typing import NDArray

from bandit.compared import COMPARED, N_BUCKETS
from bandit.compared_sums import added, coarser, fewer_buckets
from bandit.saving_sums import SAVING_ROW
from bandit.saving_sums import added as all_draws
from telemetry import keys
from telemetry.errors import MalformedEvent
from telemetry.saving_state import pack_day, unpack_day
from telemetry.store import Client
from workers.folding.batch import DAY_MS
from workers.jobs.comparing import SIGNAL_ROW, Compared, counted

log = structlog.get_logger()

SIGNALS_SUFFIX, DRAWS_SUFFIX = ":s", ":d"
SUFFIXES = ("", SIGNALS_SUFFIX, DRAWS_SUFFIX)
"""Of the fields of one comparison."""
FINE_DAYS = 45
"""Longer than labels are heard; then days are joined."""
SPAN_DAYS = 30
MOST_ROWS = 200_000
"""Of one comparison: 15 MB, a few when packed. Of more, buckets are joined in pairs."""
LEAST_BUCKETS = 256
"""Not joined any further: of fewer nobody tells how much clusters differ."""


@dataclass(frozen=True, slots=True)
class KeptSums:
    """What is kept of one comparison."""

    rows: NDArray[np.void]  # of COMPARED
    signals: NDArray[np.void]  # of SIGNAL_ROW
    draws: NDArray[np.void]  # of SAVING_ROW
    n_buckets: int = N_BUCKETS

    def packed(self, field: str) -> dict[str, bytes]:
        """Return the fields of `keys.COMPARED` that hold it."""
        tables = (self.rows, self.signals, self.draws)
        return {field + end: pack_day(of) for end, of in zip(SUFFIXES, tables, strict=True)}


def read_sums(client: Client, field: str, n_buckets: int) -> KeptSums:
    """Return what is kept of a comparison; nothing where that is damaged.

    Raises:
        redis.RedisError: the store is away.
    """
    found = client.hmget(keys.COMPARED, [field + end for end in SUFFIXES])
    dtypes = (COMPARED, SIGNAL_ROW, SAVING_ROW)
    rows, signals, draws = (_unpacked(*one) for one in zip(found, dtypes, strict=True))
    return KeptSums(rows, signals, draws, n_buckets)


def settled_day(known: int, last_since_ms: int | None, since_ms: int) -> int:
    """Return the day from which on what is read now is all that there is.

    Where the beginning of what is read moved on, units may have begun before it; they last a day.
    At the first look nothing is kept that would be worth more.

    Args:
        known: that day as of the last look; 0 where there was none.
        last_since_ms: since when that one read.
    """
    if last_since_ms is None or since_ms <= last_since_ms:
        return known
    return max(known, -(-(since_ms + DAY_MS) // DAY_MS))


def renewed(old: KeptSums, new: Compared, digest: int, *, settled: int, today: int) -> KeptSums:
    """Return kept sums in which days that were read take the place of those before.

    Earlier days stay as they are. Where what is read does not reach back by two days, as it may
    where there is much, a day counts by the look that saw more of its calls.

    Args:
        digest: of the sequence.
        settled: `settled_day`.
    """
    rows = fewer_buckets(new.rows.compress(new.rows["sequence"] == digest), old.n_buckets)
    signals = new.signals.compress(new.signals["sequence"] == digest)
    draws = new.draws.compress(new.draws["app"] == digest)
    stay = np.empty(0, dtype=np.int64)
    if len(old.rows):
        days = np.union1d(old.rows["day"], rows["day"])
        is_fuller = np.array([_calls(rows, day) > _calls(old.rows, day) for day in days.tolist()])
        stay = days[(days < settled) & ~((days >= today - 1) & is_fuller)]
    both = [_of_days(old.rows, stay), rows.compress(~np.isin(rows["day"], stay))]
    said = [_of_days(old.signals, stay), signals.compress(~np.isin(signals["day"], stay))]
    drew = [_of_days(old.draws, stay), draws.compress(~np.isin(draws["day"], stay))]
    tables = added(np.concatenate(both)), counted(np.concatenate(said)), all_draws(drew)
    return _bounded(KeptSums(*tables, n_buckets=old.n_buckets), today=today)


def _bounded(sums: KeptSums, *, today: int) -> KeptSums:
    """Return sums with old days joined; with fewer buckets, too, where they are many."""
    oldest, n_buckets = today - FINE_DAYS, sums.n_buckets
    rows, signals, draws = sums.rows, sums.signals.copy(), sums.draws.copy()
    if (rows["day"] < oldest).any():
        rows = coarser(rows, before_day=oldest, span_days=SPAN_DAYS)
    for table in (signals, draws):
        is_old = table["day"] < oldest
        table["day"][is_old] -= table["day"][is_old] % SPAN_DAYS
    while len(rows) > MOST_ROWS and n_buckets > LEAST_BUCKETS:
        n_buckets //= 2
        rows = fewer_buckets(rows, n_buckets)
    return KeptSums(rows, counted(signals), all_draws([draws]), n_buckets)


def _calls(rows: NDArray[np.void], day: int) -> int:
    own = rows.compress(rows["day"] == day)
    return int(own["calls"].sum()) + int(own["unpriced"].sum())


def _of_days(rows: NDArray[np.void], days: NDArray[np.int64]) -> NDArray[np.void]:
    return np.asarray(rows.compress(np.isin(rows["day"], days)))


def _unpacked(data: bytes | None, dtype: np.dtype[np.void]) -> NDArray[np.void]:
    if data is None:
        return np.empty(0, dtype=dtype)
    try:
        return unpack_day(data, dtype)
    except MalformedEvent as error:
        log.error("what a comparison came to cannot be read", error=str(error))
        return np.empty(0, dtype=dtype)
