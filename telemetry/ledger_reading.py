"""The ledger, read: blocks and loose rows of all shards, as sums of what was asked for.

Nothing stops while it is read. A day that was packed, or rewritten, meanwhile is read again; so
each row is there once. What a block does not need to tell is not inflated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress, islice
from typing import NamedTuple

import numpy as np
import structlog
from numpy.typing import NDArray

from telemetry import keys
from telemetry.ledger_blocks import BlockEntry, DamagedBlock, LedgerBlock, block_field, day_of
from telemetry.ledger_questions import (
    OUTSIDE,
    TABLES,
    Dimension,
    LedgerQuestion,
    Spans,
    key_field,
    some_fields,
)
from telemetry.ledger_rows import (
    BEGUN_FIELD,
    DAY_MS,
    HOUR_MS,
    HOURS,
    KEYS,
    OTHERS,
    SINCE_FIELD,
    LedgerColumn,
    LedgerRows,
    LedgerTable,
    joined,
    unpacked,
)
from telemetry.store import Client

log = structlog.get_logger()

AT_ONCE = 64
"""Hashes and blocks that are asked for together."""
MOST_ROUNDS = 4
"""So often what was packed meanwhile is read again: a day is packed once, and seldom rewritten."""
MOST_GROUPS = 200_000
"""Sums of one answer; each takes 250 bytes while it is made."""
MANY = 50_000
"""Sums that wait to be added up."""


class TooManyGroups(ValueError):
    """What is asked for has more sums than one answer may."""


class LedgerSince(NamedTuple):
    """Since when there is a ledger."""

    at_ms: int  # epoch; 0: nothing is known of before the first row
    first_ms: int | None  # when the first row begins; None: there is none


UNKNOWN_SINCE = LedgerSince(0, None)


@dataclass(frozen=True, slots=True)
class LedgerSums:
    """What a question comes to, one row a span and group."""

    question: LedgerQuestion
    rows: LedgerRows  # of the question's table; its `spans` are those of `Spans`
    unnamed: LedgerRows | None = None  # what is in no row of a user or tag: the rest of all calls
    since: LedgerSince = UNKNOWN_SINCE
    days_from: int | None = None  # first and last day, since the epoch, whose hours are not kept
    days_to: int | None = None
    n_damaged: int = 0  # blocks that could not be read; what they hold is missing


class _Place(NamedTuple):
    shard: int
    day: int


@dataclass(slots=True)
class _Index:
    """What a shard has of a table."""

    blocks: dict[int, bytes] = field(default_factory=dict)  # by day, as it is entered
    loose: dict[int, list[int]] = field(default_factory=dict)  # by day its spans
    gone: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, dtype=np.uint64))


def read_ledger(client: Client, n_shards: int, question: LedgerQuestion) -> LedgerSums:
    """Return what a question comes to.

    Raises:
        TooManyGroups: beyond `MOST_GROUPS`.
        redis.RedisError: the store is away.
    """
    reading = _Reading(client, n_shards, question, question.table)
    rows, since = reading.rows(), _since(client, n_shards)
    unnamed = None
    named = next((name for name in TABLES if name in question.by), None)
    if named is not None and not set(TABLES) & set(question.only):
        by = tuple(name for name in question.by if name is not named)
        rest = _Reading(client, n_shards, replace(question, by=by), LedgerTable.CALLS, by_day=True)
        unnamed = _without(rest.rows(), rows, by)
    days = sorted(reading.daily)
    first, last = (days[0], days[-1]) if days else (None, None)
    return LedgerSums(question, rows, unnamed, since, first, last, reading.n_damaged)


class _Reading:
    """One table, read for one question."""

    def __init__(
        self,
        client: Client,
        n_shards: int,
        question: LedgerQuestion,
        table: LedgerTable,
        *,
        by_day: bool = False,
    ) -> None:
        """Read nothing yet.

        Args:
            by_day: hours go with the middle of their day, as tables do that are kept by day.
        """
        self._client, self._shards, self._table = client, range(n_shards), table
        self._spans, self._by_hours = Spans(question), table is LedgerTable.CALLS and not by_day
        self._days, self._columns = question.days(), question.columns
        self._fields = list(question.fields)
        self._only = {key_field(name): among for name, among in question.only.items()}
        self._read_fields = some_fields([*self._fields, *self._only], table)
        if table is LedgerTable.USERS:
            self._read_fields = some_fields([*self._read_fields, "name"], table)
        self._found: dict[_Place, list[LedgerRows]] = {}
        self.daily: set[int] = set()  # days whose hours are not kept any more
        self.n_damaged = 0

    def rows(self) -> LedgerRows:
        """Return the sums."""
        before = self._index()
        places = {place for shard, index in before.items() for place in self._places(shard, index)}
        for n_left in reversed(range(MOST_ROUNDS)):
            self._read(places, before)
            after = self._index()
            places = set(_changed(before, after))
            if not places or not n_left:
                break  # what changes that often is as it was a moment ago
            for place in places:
                self._found.pop(place, None)
            before = after
        found = self._summed(part for parts in self._found.values() for part in parts)
        is_there = found.values.any(axis=1)  # others' rows may only tell how many have their own
        return LedgerRows(found.spans[is_there], found.keys[is_there], found.values[is_there])

    def _index(self) -> dict[int, _Index]:
        pipeline = self._client.pipeline(transaction=False)
        for shard in self._shards:
            pipeline.hgetall(keys.spent_blocks(shard))
            pipeline.hkeys(keys.spent_spans(shard))
            pipeline.smembers(keys.spent_gone(shard))
        replies = iter(pipeline.execute())
        return {shard: self._index_of(*islice(replies, 3)) for shard in self._shards}

    def _index_of(
        self, blocks: Mapping[bytes, bytes], spans: Iterable[bytes], gone: Iterable[bytes]
    ) -> _Index:
        by_day = {day: name for name, day in _numbers(self._table, blocks) if day in self._days}
        found = _Index({day: blocks[name] for day, name in by_day.items()})
        for _, span in _numbers(self._table, spans):
            if (day := day_of(self._table, span)) in self._days:
                found.loose.setdefault(day, []).append(span)
        if self._table is LedgerTable.USERS:
            found.gone = np.array([int.from_bytes(u, "little") for u in gone], dtype=np.uint64)
        return found

    def _places(self, shard: int, index: _Index) -> Iterable[_Place]:
        return (_Place(shard, day) for day in index.blocks.keys() | index.loose.keys())

    def _read(self, places: set[_Place], known: Mapping[int, _Index]) -> None:
        """Read what lies at some places."""
        asked: list[tuple[_Place, int | None]] = []  # and the span; None: the block
        for place in sorted(places):
            index = known[place.shard]
            entry = index.blocks.get(place.day)
            if entry is not None and self._is_asked(place.day, BlockEntry.parse(entry)):
                asked.append((place, None))
            spans = index.loose.get(place.day, [])
            asked += [(place, span) for span in spans if self._span(span) != OUTSIDE]
        for first in range(0, len(asked), AT_ONCE):
            some = asked[first : first + AT_ONCE]
            pipeline = self._client.pipeline(transaction=False)
            for (shard, day), span in some:
                if span is None:
                    pipeline.get(keys.spent_block(shard, self._table, day))
                else:
                    pipeline.hgetall(keys.spent(shard, self._table, span))
            for (place, span), reply in zip(some, pipeline.execute(), strict=True):
                if not reply:
                    continue  # it went meanwhile: the index will say so
                if span is None:
                    part = self._of_block(reply, place.day, known[place.shard].gone)
                else:
                    part = self._of_loose(reply, self._span(span))
                if part is not None:
                    self._found.setdefault(place, []).append(part)

    def _is_asked(self, day: int, entry: BlockEntry) -> bool:
        """Return whether a block may have something of what is asked for."""
        is_there = bool(entry.sums[list(self._columns)].any())
        return is_there and bool((self._spans_of(day, daily=entry.is_daily) != OUTSIDE).any())

    def _spans_of(self, day: int, *, daily: bool) -> NDArray[np.int64]:
        """Return (24,) the span of each hour."""
        if self._by_hours and not daily:
            return self._spans.of_hours(day)
        return np.full(HOURS, self._spans.of_day(day), dtype=np.int64)

    def _span(self, span: int) -> int:
        """Return into which span of the question a span of the table falls."""
        day = day_of(self._table, span)
        return int(self._spans_of(day, daily=False)[span % HOURS if self._by_hours else 0])

    def _of_block(self, data: bytes, day: int, gone: NDArray[np.uint64]) -> LedgerRows | None:
        try:
            block = LedgerBlock(data, self._table)
            if block.is_daily and self._table is LedgerTable.CALLS:
                self.daily.add(day)
            spans = self._spans_of(day, daily=block.is_daily)
            is_one = bool((spans == spans[0]).all())
            rows = block.grouped(self._columns, self._read_fields, by_span=not is_one)
        except DamagedBlock as error:
            log.error("a day of the ledger is damaged", table=self._table.name, reason=str(error))
            self.n_damaged += 1
            return None
        hours = rows.spans % HOURS if not is_one else np.zeros(len(rows.spans), dtype=np.int64)
        if len(gone):
            rows.keys["name"][np.isin(rows.keys["name"], gone)] = OTHERS
        return self._asked_of(LedgerRows(spans[hours], rows.keys, rows.values))

    def _of_loose(self, found: Mapping[bytes, bytes], span: int) -> LedgerRows:
        whole = np.frombuffer(b"".join(found), dtype=KEYS[self._table])
        is_asked = self._are_among(whole)
        names = np.zeros(int(is_asked.sum()), dtype=KEYS[self._table])
        for name in self._read_fields:
            names[name] = whole[name][is_asked]
        values = unpacked(list(compress(found.values(), is_asked.tolist())))
        others = [column for column in LedgerColumn if column not in self._columns]
        values[:, others] = 0
        spans = np.full(len(names), span, dtype=np.int64)
        return self._asked_of(LedgerRows(spans, names, values))

    def _are_among(self, names: NDArray[np.void]) -> NDArray[np.bool_]:
        """Return which keys are of those who are asked about."""
        found = np.ones(len(names), dtype=bool)
        for name, among in self._only.items():
            found &= np.isin(names[name], np.array(list(among), dtype=np.uint64))
        return found

    def _asked_of(self, rows: LedgerRows) -> LedgerRows:
        """Return those of some rows that are asked for, and of their keys what tells them apart."""
        is_asked = (rows.spans != OUTSIDE) & self._are_among(rows.keys)
        if not is_asked.all():
            rows = LedgerRows(rows.spans[is_asked], rows.keys[is_asked], rows.values[is_asked])
        for name in self._read_fields:
            if name not in self._fields:
                rows.keys[name] = 0
        return rows

    def _summed(self, parts: Iterable[LedgerRows]) -> LedgerRows:
        done, waiting, n = joined(self._table, []), list[LedgerRows](), 0
        for part in parts:
            waiting.append(part)
            n += len(part.keys)
            if n >= MANY:
                done, waiting, n = self._checked([done, *waiting]), [], 0
        return self._checked([done, *waiting])

    def _checked(self, parts: Sequence[LedgerRows]) -> LedgerRows:
        found = joined(self._table, parts).summed()
        if len(found.keys) > MOST_GROUPS:
            raise TooManyGroups(f"more than {MOST_GROUPS:,} sums")
        return found


def _changed(before: Mapping[int, _Index], after: Mapping[int, _Index]) -> Iterable[_Place]:
    """Yield where something was packed, rewritten or deleted."""
    for shard, then in before.items():
        now = after[shard]
        for day in then.blocks.keys() | now.blocks.keys():
            one, other = then.blocks.get(day), now.blocks.get(day)
            if one != other:
                yield _Place(shard, day)


def _numbers(table: LedgerTable, names: Iterable[bytes]) -> Iterable[tuple[bytes, int]]:
    """Yield the fields that name days or spans of a table, with those."""
    beginning = block_field(table, 0)[:-1]
    for name in names:
        if name.startswith(beginning):
            yield name, int(name[len(beginning) :])


def _since(client: Client, n_shards: int) -> LedgerSince:
    """Return since when everything is in the ledger of every shard, and when it begins."""
    pipeline = client.pipeline(transaction=False)
    for shard in range(n_shards):
        pipeline.hmget(keys.meta(shard), [SINCE_FIELD, BEGUN_FIELD])
        pipeline.hkeys(keys.spent_blocks(shard))
        pipeline.hkeys(keys.spent_spans(shard))
    replies, marks, begun, begins = iter(pipeline.execute()), [0], list[int](), list[int]()
    for _ in range(n_shards):
        (mark, begun_ms), blocks, spans = islice(replies, 3)
        beginning = (mark or b"").partition(b"-")[0]
        marks.append(int(beginning) if beginning.isdigit() else 0)
        if mark:  # 0: it began before that was noted
            begun.append(int(begun_ms) if begun_ms and begun_ms.isdigit() else 0)
        begins += [day * DAY_MS for _, day in _numbers(LedgerTable.CALLS, blocks)]
        begins += [hour * HOUR_MS for _, hour in _numbers(LedgerTable.CALLS, spans)]
    since_ms = max(marks) or min(begun, default=0)
    return LedgerSince(since_ms, min(begins, default=None))


def _without(whole: LedgerRows, named: LedgerRows, by: Sequence[Dimension]) -> LedgerRows:
    """Return what of all calls is in no row of a user or tag."""
    fields = [key_field(name) for name in by if name is Dimension.APP]
    keys_ = np.zeros(len(named.keys), dtype=whole.keys.dtype)
    for name in fields:
        keys_[name] = named.keys[name]
    taken = LedgerRows(named.spans, keys_, named.values).summed()
    taken = LedgerRows(taken.spans, taken.keys, -taken.values)
    both = joined(LedgerTable.CALLS, [whole, taken])
    # What was folded between the two looks may be in one of them only.
    left = _added(both)
    left.values.clip(0, out=left.values)
    is_left = left.values.any(axis=1)
    return LedgerRows(left.spans[is_left], left.keys[is_left], left.values[is_left])


def _added(rows: LedgerRows) -> LedgerRows:
    """Return the sums of rows of which some are below 0."""
    places: dict[tuple[int, bytes], int] = {}
    at = [
        places.setdefault((span, key.tobytes()), len(places))
        for span, key in zip(rows.spans.tolist(), rows.keys, strict=True)
    ]
    values = np.zeros((len(places), rows.values.shape[1]), dtype=np.int64)
    np.add.at(values, at, rows.values)
    spans = np.array([span for span, _ in places], dtype=np.int64)
    whole = np.frombuffer(b"".join(key for _, key in places), dtype=rows.keys.dtype)
    return LedgerRows(spans, whole, values)
