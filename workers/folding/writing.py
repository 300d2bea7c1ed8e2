"""What a commit writes beside the rows: where each thing lies, and when it ends."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from telemetry import keys
from telemetry.scripts import THAW, Commit
from telemetry.young import SPAN_MS
from workers.folding.asking import Folding
from workers.folding.batch import (
    DAY_MS,
    LABEL_DAYS,
    SPAN_DAYS,
    SPANS,
    Batch,
    Decision,
    at_ms,
    cold_field,
)
from workers.folding.effects import Effects
from workers.folding.labels import widened
from workers.folding.thawed import thawed_row
from workers.folding.young import YoungRows

LAG_DAYS = 7
"""A labels row outlives its last use by this much, as nobody may have folded for a week."""
MAX_DEAD = 10_000


def ingested_expiry_s(span: int) -> int:
    """Return when the nonces that came in a span of days may go, in epoch seconds."""
    return (span + SPANS) * SPAN_DAYS * DAY_MS // 1000


def label_expiry_s(day: int) -> int:
    """Return when the labels of a day's decisions may go, in epoch seconds."""
    return (day + LABEL_DAYS + 1 + LAG_DAYS) * DAY_MS // 1000


def sets_of_told(shard: int, batch: Batch) -> list[str]:
    """Return the sets that may hold nonces of a batch's ingested outcomes."""
    if not len(batch.today):
        return []
    span = int(batch.today.max()) // SPAN_DAYS
    return [keys.ingested(shard, n) for n in range(span - SPANS + 1, span + 1)]


def write_ingested(commit: Commit, shard: int, nonces: dict[bytes, int]) -> None:
    """Write which outcomes of others were told, into the set of the days in which they came."""
    for span in set(nonces.values()):
        name = keys.ingested(shard, span)
        commit.add_all("SADD", name, [nonce for nonce, own in nonces.items() if own == span])
        commit.add("EXPIREAT", name, ingested_expiry_s(span))


def write_days(
    commit: Commit,
    shard: int,
    named: Callable[[int, int], str],
    changed: dict[tuple[int, bytes], bytes],
) -> None:
    """Write rows of labels or raters, into the hash of their decisions' day."""
    by_day: dict[int, list[bytes | str | int | float]] = {}
    for (day, field_of_it), row in changed.items():
        by_day.setdefault(day, []).extend((field_of_it, row))
    for day, fields in by_day.items():
        name = named(shard, day)
        commit.add_all("HSET", name, fields)
        commit.add("EXPIREAT", name, label_expiry_s(day))


def drop_days(
    commit: Commit, shard: int, named: Callable[[int, int], str], gone: list[tuple[int, bytes]]
) -> None:
    """Delete rows of labels or raters, from the hash of their decisions' day."""
    by_day: dict[int, list[bytes | str | int | float]] = {}
    for day, field_of_it in gone:
        by_day.setdefault(day, []).append(field_of_it)
    for day, fields in by_day.items():
        commit.add_all("HDEL", named(shard, day), fields)


def write_labels(
    commit: Commit, young: YoungRows, folding: Folding, rows: dict[Decision, bytes]
) -> None:
    """Write what was said where it lies: by span, by day, or where it was put back.

    What was put back is written by span as well as long as anybody reads it there.
    """
    shard = young.shard
    history, by_day = folding.changes.history, dict[tuple[int, bytes], bytes]()
    put_back: list[bytes | str | int | float] = []
    first = (history.since_ms or 0) // SPAN_MS
    by_span = _by_span(rows)
    for span in [span for span in by_span if folding.thawed or span < first]:
        left: tuple[list[bytes], list[bytes]] = ([], [])
        for nonce, row in zip(*by_span.pop(span), strict=True):
            if folding.thawed and (span, nonce) in folding.thawed:
                put_back += [nonce, thawed_row(row, at_ms(folding.changes.mark))]
                if not young.may_be_read(span, folding.changes):
                    continue
            if span >= first:
                left[0].append(nonce)
                left[1].append(row)
            else:
                by_day[span * SPAN_MS // DAY_MS, nonce] = widened(row)
        if left[0]:
            by_span[span] = left
    write_days(commit, shard, keys.labels_of_day, by_day)
    commit.add_all(THAW, keys.thawed(shard), put_back)
    rated = folding.batch.rated_spans() if folding.seats else set()
    known = folding.lying
    young.put_labels(commit, folding.changes, by_span, known=known, rated=rated)


def _by_span(rows: dict[Decision, bytes]) -> dict[int, tuple[list[bytes], list[bytes]]]:
    """Return nonces and rows by the span of their decisions; mostly there is one."""
    spans = {span for span, _ in rows}
    if len(spans) == 1:
        return {spans.pop(): ([nonce for _, nonce in rows], list(rows.values()))}
    out: dict[int, tuple[list[bytes], list[bytes]]] = {span: ([], []) for span in sorted(spans)}
    for (span, nonce), row in rows.items():
        own = out[span]
        own[0].append(nonce)
        own[1].append(row)
    return out


def keep_cold(commit: Commit, shard: int, batch: Batch, cold: NDArray[np.void]) -> None:
    """Keep feedback for old decisions until what was said before is there; let go of it then.

    One event may speak of several decisions, so that both name what is kept.
    """
    name = keys.cold(shard)
    for record in cold:
        commit.add("HSET", name, cold_field(record), record.tobytes())
    commit.add_all("HDEL", name, batch.done())


def hold(commit: Commit, shard: int, waiting: NDArray[np.void], *, now_ms: int) -> None:
    """Keep feedback by reference until it is settled what that means; it is due at once.

    What is told again while it waits is as it was first told; after that it is let go.
    """
    for record in waiting:
        event, received_ms = record["event"].tobytes(), int(record["received_at_ms"])
        commit.add("HSETNX", keys.held(shard), event, record.tobytes())
        commit.add("ZADD", keys.due(shard), min(received_ms, now_ms), event)


def write_books(commit: Commit, shard: int, batch: Batch, found: Effects) -> None:
    """Write how far producers are, what cannot be folded, and what is counted."""
    for producer, window in batch.windows.items():
        commit.add("HSET", keys.producers(shard), producer, window.pack())
    for reason, raw in found.dead:
        arguments = ("MAXLEN", "~", MAX_DEAD, "*", "reason", reason, "raw", raw)
        commit.add("XADD", keys.dead(shard), *arguments)
    for name, n in found.counts.items():
        if n:
            commit.add("HINCRBY", keys.meta(shard), f"n_{name}", n)
