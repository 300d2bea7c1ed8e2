"""The ledger's rows of one shard, as its owner keeps them.

Loose rows lie in the store; those that were touched last are known here too, so that most batches
ask for none. What is known counts once its commit took effect, and nobody else writes there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from telemetry import keys
from telemetry.events import Flag
from telemetry.filling import FILL, filled
from telemetry.ledger_blocks import BlockEntry, block_field, parse_field
from telemetry.ledger_rows import BEGUN_FIELD, KEYS, SINCE_FIELD, LedgerTable
from telemetry.scripts import Argument, Commit
from telemetry.store import Client
from workers.folding.batch import START, Batch
from workers.folding.spending import (
    MOST_NAMES,
    BookedRows,
    Place,
    Spent,
    Stored,
    begun_ms,
    spent_in,
)

MOST_KNOWN = 100_000
"""Rows of a shard that are known here: about 25 MB."""

Row = bytes | None


@dataclass(slots=True)
class LedgerBooking:
    """A batch on its way into the ledger."""

    spent: Spent
    asked: dict[str, Place]  # hashes of which rows are asked for
    booked: BookedRows = field(default_factory=BookedRows)


@dataclass(slots=True)
class LedgerBook:
    """Where a shard's rows of the ledger lie, and those that were touched last."""

    shard: int
    most_names: int = MOST_NAMES  # of an app and a day, in this shard
    since: bytes = b""  # everything behind this mark is in it; nothing was folded yet
    spans: dict[Place, bytes] = field(default_factory=dict)  # that have loose rows -> last mark
    blocks: dict[Place, BlockEntry] = field(default_factory=dict)  # by table and day
    gone: set[bytes] = field(default_factory=set)  # users whose rows in blocks are others'
    searched_for: frozenset[bytes] = frozenset()  # those of them who are looked for in blocks
    to_search: list[int] = field(default_factory=list)  # days whose blocks are yet to be
    damaged: set[Place] = field(default_factory=set)  # blocks that cannot be read, by table and day
    _known: dict[Place, dict[bytes, Row]] = field(default_factory=dict)  # touched last stand last
    _whole: set[Place] = field(default_factory=set)  # a row that is not known there is not there

    @staticmethod
    def read(pipeline: Client, shard: int) -> None:
        """Ask for what `parse` needs."""
        pipeline.hget(keys.meta(shard), SINCE_FIELD)
        pipeline.hgetall(keys.spent_spans(shard))
        pipeline.hgetall(keys.spent_blocks(shard))
        pipeline.smembers(keys.spent_gone(shard))

    @classmethod
    def parse(cls, shard: int, replies: Sequence[Any], *, most_names: int) -> LedgerBook:
        """Return what the store replied to `read` says."""
        since, spans, blocks, gone = replies
        return cls(
            shard,
            most_names,
            since or b"",
            {parse_field(name): mark for name, mark in spans.items()},
            {parse_field(name): BlockEntry.parse(value) for name, value in blocks.items()},
            set(gone),
        )

    def begin(self, spent: Spent, wanted: dict[str, list[bytes]]) -> LedgerBooking:
        """Begin with what a batch adds; put into `wanted`, by hash, which rows to ask for."""
        asked = dict[str, Place]()
        for place, names in spent.needed(self.spans, self._whole).items():
            if place not in self.spans:
                continue
            known = self._known.get(place, {})
            if missing := [name for name in names if name not in known]:
                name = keys.spent(self.shard, *place)
                wanted[name] = missing
                asked[name] = place
        return LedgerBooking(spent, asked)

    def learn(
        self, booking: LedgerBooking, batch: Batch, found: Mapping[str, Mapping[Any, Row]]
    ) -> tuple[Spent, Stored, int]:
        """Return what `book_each` needs.

        Args:
            batch: as in `begin`, perhaps without events that were told before.
            found: by hash, what was asked for.
        """
        if batch.contents.has(Flag.INGESTED):
            booking.spent = spent_in(batch)
        for name, place in booking.asked.items():
            self._known.setdefault(place, {}).update(found[name])
        return booking.spent, self._stored(booking.spent), self.most_names

    def put(
        self, commit: Commit, booking: LedgerBooking, batch: Batch, *, before: bytes, mark: bytes
    ) -> None:
        """Write what a batch changes, once that is booked.

        Args:
            before, mark: marks of the shard before the batch and behind it.
        """
        if not self.since:
            since: list[Argument] = [SINCE_FIELD, before or START, BEGUN_FIELD, begun_ms(batch)]
            commit.add_all("HSET", keys.meta(self.shard), since)
        booked = booking.booked
        spans: list[Argument] = []
        for place, rows in booked.rows.items():
            width, values = KEYS[place[0]].itemsize, rows.values()
            lying = filled(width, b"".join(rows), list(map(len, values)), b"".join(values))
            commit.add(FILL, keys.spent(self.shard, *place), *lying)
            spans += (block_field(*place), mark)
        for place, names in booked.gone.items():
            commit.add_all("HDEL", keys.spent(self.shard, *place), names)
        commit.add_all("HSET", keys.spent_spans(self.shard), spans)
        if booking.spent.forgotten and self.blocks:
            users = [name[8:] for name in sorted(booking.spent.forgotten)]
            commit.add_all("SADD", keys.spent_gone(self.shard), users)

    def take_over(self, booking: LedgerBooking, *, before: bytes, mark: bytes) -> None:
        """Note that a commit took effect."""
        self.since = self.since or before or START
        for place, rows in booking.booked.rows.items():
            if place not in self.spans:
                self._whole.add(place)
            self.spans[place] = mark
            known = self._known.pop(place, {})
            known.update(rows)
            self._known[place] = known
        for place, names in booking.booked.gone.items():
            self._known[place].update(dict.fromkeys(names))
        if booking.spent.forgotten and self.blocks:
            self.gone |= {name[8:] for name in booking.spent.forgotten}
        n_known = sum(map(len, self._known.values()))
        while n_known > MOST_KNOWN:
            oldest = next(iter(self._known))
            n_known -= len(self._known[oldest])
            self.drop(oldest)

    def drop(self, place: Place) -> None:
        """Know nothing any more of the rows of a place."""
        self._known.pop(place, None)
        self._whole.discard(place)

    def _stored(self, spent: Spent) -> Stored:
        places = {place for place in self._known if place[0] is LedgerTable.USERS}
        touched = {(table, span) for table, r in spent.tables.items() for span in r.spans.tolist()}
        return {p: self._known[p] for p in (places | touched) if p in self._known}
