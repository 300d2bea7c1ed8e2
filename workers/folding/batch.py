"""Stream entries, taken apart. Pure: the same entries give the same, now and in an audit.

No store and no clock: what is known already (producers' numbers) is passed in, and the only time
that counts is that of the entry itself, given by the store as part of its id.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from telemetry import frames
from telemetry.budget_layout import SPEND_RECORD, spends_of
from telemetry.decoding import decode
from telemetry.errors import MalformedEvent
from telemetry.events import RECORD_SIZE, RECORD_VERSION, TOKEN_OFFSET, Flag, Kind
from telemetry.layouts import RECORD, TOKEN
from telemetry.tokens import TOKEN_SIZE
from telemetry.young import SPAN_MS
from workers.folding import raters
from workers.folding.budget_sums import BudgetPlace, SpentRow, sum_spends
from workers.folding.contents import Contents, are_said, of_kind
from workers.folding.hearing import pieces
from workers.folding.history import History, Position
from workers.folding.raters import Seat

DAY_MS = 86_400_000
LABEL_DAYS = 30
"""Feedback for older decisions is refused and counted; their labels rows are gone."""
PRODUCER_DAYS = 30
"""A producer silent this long has no frame on its way any more."""

SPAN_DAYS = 16
SPANS = 3
"""Nonces of ingested outcomes are kept by the span of days in which they came: the one under way
and two whole ones before it, so 32 days at least. Sets that end by themselves; one sorted by time
would need twice the memory, 75 bytes a nonce."""
START = b"0-0"
"""Before every entry."""
Decision = tuple[int, bytes]
"""The span in which it was made (`young.span_of`), and its nonce."""
Entries = list[tuple[bytes, dict[bytes, bytes]]]
"""Ids and fields, as the store gives them."""


class Window(NamedTuple):
    """What is known of one producer."""

    following: int  # number of its next record
    heard_ms: int  # when its last frame came

    @classmethod
    def parse(cls, value: bytes) -> Window:
        """Return the window in a stored value."""
        following, heard_ms = value.split(b":")
        return cls(int(following), int(heard_ms))

    def pack(self) -> bytes:
        """Return the value to store."""
        return b"%d:%d" % self

    def is_forgotten(self, now_ms: int) -> bool:
        """Return whether it counts no more; then its row may go at any later time."""
        return now_ms - self.heard_ms > PRODUCER_DAYS * DAY_MS


NEVER = Window(0, 0)
_NO_RECORDS, _NO_DAYS = np.empty(0, dtype=RECORD), np.empty(0, dtype=np.int64)


@dataclass(slots=True)
class Batch:
    """Entries taken apart: new records, and what could not be read."""

    records: NDArray[np.void]
    today: NDArray[np.int64]  # (n_records,) day of each one's entry
    came: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, dtype=np.intp))
    """(n_records,) which of `entries` each one came in; not needed where all decisions are young"""
    entries: list[Position] = field(default_factory=list)
    dead: list[tuple[str, bytes]] = field(default_factory=list)
    windows: dict[bytes, Window] = field(default_factory=dict)
    n_repeated: int = 0
    n_missing: int = 0  # numbers that were passed over: dropped on the way, or lost by a store
    n_bytes: int = 0
    ingested: dict[bytes, int] = field(default_factory=dict)  # new nonces, with their span of days
    spends: NDArray[np.void] = field(default_factory=lambda: np.empty(0, dtype=SPEND_RECORD))
    """What attempts came to in accounts of budgets; none of them is among `records`"""
    _budget_sums: dict[BudgetPlace, SpentRow] | None = None
    _contents: Contents | None = None

    @classmethod
    def empty(cls) -> Batch:
        """Return one of nothing yet."""
        return cls(_NO_RECORDS, _NO_DAYS)

    @property
    def contents(self) -> Contents:
        """What there is among its records at all, and perhaps among those of others beside it."""
        if self._contents is None:
            self._contents = Contents.of(self.records)
        return self._contents

    @property
    def n_new(self) -> int:
        """How many records take effect."""
        return len(self.records) + len(self.spends)

    def budget_sums(self) -> dict[BudgetPlace, SpentRow]:
        """Return what the batch adds to the rows of budgets' accounts."""
        if self._budget_sums is None:
            self._budget_sums = sum_spends(self.spends) if len(self.spends) else {}
        return self._budget_sums

    def of_kind(self, kind: Kind) -> NDArray[np.void]:
        """Return the records of one kind."""
        return of_kind(self.records, self.contents, kind)

    @property
    def is_said(self) -> NDArray[np.bool_]:
        """Which records say what an answer was worth: feedback, and outcomes that bring a word."""
        return are_said(self.records)

    def is_old(self, history: History) -> NDArray[np.bool_]:
        """Return which decisions lie by span and were not young any more when their record came."""
        decided, since_ms = self.records["token"]["decided_at_ms"], history.since_ms
        if since_ms is None or not len(decided):
            return np.zeros(len(self.records), dtype=bool)
        if decided.min() >= history.oldest_ms(self.entries[-1]):  # of earlier ones it is no later
            return np.zeros(len(self.records), dtype=bool)
        oldest = np.array([history.oldest_ms(entry) for entry in self.entries], dtype=np.int64)
        return np.asarray((decided >= since_ms) & (decided < oldest[self.came]))

    def is_cold(self, history: History) -> NDArray[np.bool_]:
        """Return which records say something of an old decision, so that it must be put back first.

        An event of others brings its word when its decision is told for the first time: nothing
        can have been said of it before.
        """
        if not (is_old := self.is_old(history)).any():
            return is_old
        is_done = (self.records["flags"] & Flag.THAWED) > 0
        return np.asarray(self.is_said & is_old & ~is_done & ~self._is_told)

    def thawed(self, history: History) -> set[Decision]:
        """Return the old decisions that were put back so that more can be said of them."""
        if not self.contents.has(Flag.THAWED):
            return set()
        is_thawed = (self.records["flags"] & Flag.THAWED) > 0
        mine = self.is_said & is_thawed & self.is_old(history)
        return set(decisions_of(self.records.compress(mine)["token"]))

    def done(self) -> list[bytes]:
        """Return under which fields the cold feedback was kept that is folded now."""
        if not self.contents.has(Flag.THAWED):
            return []
        is_done = (self.records["flags"] & Flag.THAWED) > 0
        return [cold_field(record) for record in self.records[is_done]]

    def decisions(self, history: History) -> list[Decision]:
        """Return the decisions whose labels `effects` needs, each once."""
        if not self.contents.says:
            return []
        mine = self.is_said & ~self.is_cold(history)
        return list(dict.fromkeys(decisions_of(self.records.compress(mine)["token"])))

    def seats(self, history: History) -> list[Seat]:
        """Return the seats of raters whose rows `effects` needs, each once; mostly none."""
        if not (self.contents.says and self.contents.is_rated):
            return []
        tokens = self.records["token"]
        mine = raters.is_rated(tokens) & self.is_said
        if mine.any():
            mine &= ~self.is_cold(history)
        return list(dict.fromkeys(raters.seats_of(tokens.compress(mine)))) if mine.any() else []

    def rated_spans(self) -> set[int]:
        """Return the spans of decisions of which raters who are told apart say something."""
        tokens = self.records["token"]
        mine = tokens.compress(raters.is_rated(tokens) & self.is_said)
        return {span for span, _ in decisions_of(mine)}

    def told(self) -> list[bytes]:
        """Return the nonces of outcomes that others tell of, perhaps not for the first time."""
        if not self.contents.has(Flag.INGESTED):
            return []
        return pieces(self.records.compress(self._is_told)["token"]["nonce"])

    def drop_told(self, before: Container[bytes]) -> None:
        """Drop outcomes that were told of before, or earlier in this batch.

        Frames are numbered by the process that sends them; the same event told twice comes under
        two numbers. So the nonces of ingested outcomes are kept for 32 days at least.
        """
        if not self.contents.has(Flag.INGESTED):
            return
        places = np.flatnonzero(self._is_told)
        keep = np.ones(len(self.records), dtype=bool)
        for place, nonce in zip(places.tolist(), self.told(), strict=True):
            if nonce in before or nonce in self.ingested:
                keep[place] = False
            else:
                self.ingested[nonce] = int(self.today[place]) // SPAN_DAYS
        self.records = self.records.compress(keep)
        self.today = self.today[keep]
        self.came = self.came[keep] if len(self.came) else self.came
        self.n_repeated += int((~keep).sum())

    @property
    def _is_told(self) -> NDArray[np.bool_]:
        is_outcome = self.records["kind"] == Kind.OUTCOME
        return np.asarray(is_outcome & ((self.records["flags"] & Flag.INGESTED) > 0))


def position(entry_id: bytes) -> tuple[int, int]:
    """Return what entries are ordered by."""
    ms, number = entry_id.split(b"-")
    return int(ms), int(number)


def at_ms(entry_id: bytes) -> int:
    """Return when the store took an entry."""
    return position(entry_id)[0]


def take_apart(
    entries: Entries,
    windows: Mapping[bytes, Window],
    *,
    expected: Mapping[bytes, int] = MappingProxyType({}),
) -> Batch:
    """Return the records that `windows` does not know yet, and the windows that moved.

    Args:
        expected: next numbers of producers of which `windows` may know nothing any more; they
            only tell what never arrived.
    """
    batch = Batch.empty()
    put_in([(batch, unframed(batch, entries, windows, expected=expected))])
    return batch


class Body(NamedTuple):
    """The new records of one entry."""

    day: int  # of the entry
    version: int  # of its records
    number: int  # of the entry among those that were frames
    raw: bytes


def unframed(
    batch: Batch,
    entries: Entries,
    windows: Mapping[bytes, Window],
    *,
    expected: Mapping[bytes, int] = MappingProxyType({}),
) -> list[Body]:
    """Return the bodies of entries; note in `batch` all that is told beside the records."""
    bodies: list[Body] = []
    for entry_id, fields in entries:
        raw = fields.get(b"f", b"")
        batch.n_bytes += len(raw)
        try:
            frame = frames.unpack(raw)
        except MalformedEvent as error:
            batch.dead.append((str(error), raw))
            continue
        place = position(entry_id)
        skip = _count(batch, windows, expected, frame, place[0])
        new = frame.body[skip * frame.record_size :] if skip else frame.body
        bodies.append(Body(place[0] // DAY_MS, frame.version, len(batch.entries), new))
        batch.entries.append(place)
    return bodies


def owners_of(batches: Sequence[Batch]) -> NDArray[np.uint64] | None:
    """Return (n_records,) which of batches each record is in; None where there is one batch."""
    if len(batches) == 1:
        return None
    sizes = [len(batch.records) for batch in batches]
    return np.repeat(np.arange(len(batches), dtype=np.uint64), sizes)


def joined(batches: Sequence[Batch]) -> Batch:
    """Return all records of batches, one behind the other."""
    if len(batches) == 1:
        return batches[0]
    return Batch(
        np.concatenate([batch.records for batch in batches]),
        np.concatenate([batch.today for batch in batches]),
    )


def put_in(parts: Sequence[tuple[Batch, list[Body]]]) -> Batch:
    """Put the records in bodies into their batches; return all of them, batch after batch.

    They are decoded at once, if all are sound and of one version, as nearly always.
    """
    whole = _decoded_at_once([body for _, bodies in parts for body in bodies])
    if whole is None:
        for batch, bodies in parts:
            _decode_each(batch, bodies)
        return joined([batch for batch, _ in parts])
    records, today, came = whole
    is_spend = records["kind"] == Kind.BUDGET_SPEND
    spends = spends_of(records.compress(is_spend)) if is_spend.any() else None
    ends = np.cumsum([sum(len(body.raw) for body in bodies) for _, bodies in parts])
    bounds, apart = [0, *(ends // RECORD_SIZE).tolist()], [0] * (len(parts) + 1)
    if spends is not None:  # their fields lie as none of the others'
        apart = np.concatenate([[0], np.cumsum(is_spend)])[bounds].tolist()
        bounds = [end - before for end, before in zip(bounds, apart, strict=True)]
        records, today, came = (x.compress(~is_spend) for x in (records, today, came))
    contents = Contents.of(records)
    for (batch, _), own, beside in zip(parts, pairwise(bounds), pairwise(apart), strict=True):
        place = slice(*own)
        batch.records, batch.today, batch.came = records[place], today[place], came[place]
        batch._contents = contents
        if spends is not None:
            batch.spends = spends[slice(*beside)]
    return Batch(records, today, _contents=contents)


def _decoded_at_once(
    bodies: list[Body],
) -> tuple[NDArray[np.void], NDArray[np.int64], NDArray[np.intp]] | None:
    """Return records, days and numbers of entries; None where not all are sound and of today."""
    if any(body.version != RECORD_VERSION for body in bodies):
        return None
    records, bad = decode(b"".join(body.raw for body in bodies))
    if bad:
        return None
    sizes = [len(body.raw) // RECORD_SIZE for body in bodies]
    today = np.repeat(np.array([body.day for body in bodies], dtype=np.int64), sizes)
    return records, today, np.repeat(np.array([b.number for b in bodies], dtype=np.intp), sizes)


def _decode_each(batch: Batch, bodies: list[Body]) -> None:
    """Put the sound records of entries into their batch, and set the others apart."""
    found = [(body, *decode(body.raw, body.version)) for body in bodies]
    batch.dead += [
        ("a record with a wrong checksum or field", raw) for *_, bad in found for raw in bad
    ]
    if not found:
        return
    batch.records = np.concatenate([sound for _, sound, _ in found])
    sizes = [len(sound) for _, sound, _ in found]
    batch.today = np.repeat(np.array([body.day for body in bodies], dtype=np.int64), sizes)
    batch.came = np.repeat(np.array([body.number for body in bodies], dtype=np.intp), sizes)
    is_spend = batch.records["kind"] == Kind.BUDGET_SPEND
    if is_spend.any():
        batch.spends = spends_of(batch.records.compress(is_spend))
        batch.records = batch.records.compress(~is_spend)
        batch.today, batch.came = batch.today[~is_spend], batch.came[~is_spend]


def _count(
    batch: Batch,
    windows: Mapping[bytes, Window],
    expected: Mapping[bytes, int],
    frame: frames.Frame,
    now_ms: int,
) -> int:
    """Move the producer's window past a frame; return how many of its records came before."""
    if frame.producer == frames.UNNUMBERED:
        return 0
    known = batch.windows.get(frame.producer) or windows.get(frame.producer, NEVER)
    told = expected.get(frame.producer, frame.first) if known is NEVER else known.following
    batch.n_missing += max(frame.first - told, 0)
    seen = 0 if known.is_forgotten(now_ms) else known.following
    skip = min(max(seen - frame.first, 0), frame.n_records)
    following = max(seen, frame.first + frame.n_records)
    batch.windows[frame.producer] = Window(following, max(known.heard_ms, now_ms))
    batch.n_repeated += skip
    return skip


def decisions_of(token: NDArray[np.void]) -> list[Decision]:
    """Return where what was said of the decisions in (n,) tokens lies."""
    spans = (token["decided_at_ms"] // SPAN_MS).tolist()
    return list(zip(spans, pieces(token["nonce"]), strict=True))


def tokens_in(records: NDArray[np.void]) -> NDArray[np.void]:
    """Return the tokens of (n,) records in one piece: by bytes, not field by field."""
    raw = np.ascontiguousarray(records).view(np.uint8).reshape(-1, RECORD_SIZE)
    own = raw[:, TOKEN_OFFSET : TOKEN_OFFSET + TOKEN_SIZE]
    return np.ascontiguousarray(own).view(TOKEN).reshape(-1)


def cold_field(record: np.void) -> bytes:
    """Return under which field feedback for an old decision is kept: its event id and the nonce."""
    return bytes(record["event"].tobytes() + record["token"]["nonce"].tobytes())
