"""Stream entries, taken apart. Pure: the same entries give the same, now and in an audit.

No store and no clock: what is known already (producers' numbers) is passed in, and the only time
that counts is that of the entry itself, given by the store as part of its id.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from telemetry import frames
from telemetry.budget_layout import SPEND_RECORD, spends_of
from telemetry.decisions import Decisions
from telemetry.decoding import decode, size_of
from telemetry.errors import MalformedEvent
from telemetry.events import NO_DIGEST, RECORD, Flag, Kind
from telemetry.young import SPAN_MS
from workers.folding import raters
from workers.folding.budget_sums import BudgetPlace, SpentRow, sum_spends
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
        # `compress` copies records whole: ten times as fast as `records[…]`, field by field.
        mine = self.records["kind"] == kind
        return np.asarray(self.records.compress(mine)) if mine.any() else self.records[:0]

    @property
    def is_said(self) -> NDArray[np.bool_]:
        """Which records say what an answer was worth: feedback, and outcomes that bring a word."""
        is_outcome = self.records["kind"] == Kind.OUTCOME
        brings = is_outcome & (self.records["feedback_kind"] > 0)
        return np.asarray((self.records["kind"] == Kind.FEEDBACK) | brings)

    def is_old(self, history: History) -> NDArray[np.bool_]:
        """Return which decisions lie by span and were not young any more when their record came."""
        decided, since_ms = self.records["token"]["decided_at_ms"], history.since_ms
        if since_ms is None or not len(decided):
            return np.zeros(len(self.records), dtype=bool)
        oldest = np.array([history.oldest_ms(entry) for entry in self.entries], dtype=np.int64)
        return np.asarray((decided >= since_ms) & (decided < oldest[self.came]))

    def is_cold(self, history: History) -> NDArray[np.bool_]:
        """Return which records say something of an old decision, so that it must be put back first.

        An event of others brings its word when its decision is told for the first time: nothing
        can have been said of it before.
        """
        is_done = (self.records["flags"] & Flag.THAWED) > 0
        return np.asarray(self.is_said & self.is_old(history) & ~is_done & ~self._is_told)

    def thawed(self, history: History) -> set[Decision]:
        """Return the old decisions that were put back so that more can be said of them."""
        is_thawed = (self.records["flags"] & Flag.THAWED) > 0
        if not is_thawed.any():
            return set()
        mine = self.is_said & is_thawed & self.is_old(history)
        return set(decisions_of(self.records.compress(mine)["token"]))

    def done(self) -> list[bytes]:
        """Return under which fields the cold feedback was kept that is folded now."""
        is_done = (self.records["flags"] & Flag.THAWED) > 0
        return [cold_field(record) for record in self.records[is_done]] if is_done.any() else []

    def decisions(self, history: History) -> list[Decision]:
        """Return the decisions whose labels `effects` needs, each once."""
        mine = self.is_said & ~self.is_cold(history)
        return list(dict.fromkeys(decisions_of(self.records.compress(mine)["token"])))

    def seats(self, history: History) -> list[Seat]:
        """Return the seats of raters whose rows `effects` needs, each once; mostly none."""
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
        told = self._is_told
        return pieces(self.records.compress(told)["token"]["nonce"]) if told.any() else []

    def drop_told(self, before: Container[bytes]) -> None:
        """Drop outcomes that were told of before, or earlier in this batch.

        Frames are numbered by the process that sends them; the same event told twice comes under
        two numbers. So the nonces of ingested outcomes are kept for 32 days at least.
        """
        places = np.flatnonzero(self._is_told)
        if not len(places):
            return
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
    batch = Batch(np.empty(0, dtype=RECORD), np.empty(0, dtype=np.int64))
    bodies: list[tuple[int, int, int, bytes]] = []  # by day and version: which entry, and records
    for entry_id, fields in entries:
        raw = fields.get(b"f", b"")
        batch.n_bytes += len(raw)
        try:
            frame = frames.unpack(raw)
        except MalformedEvent as error:
            batch.dead.append((str(error), raw))
            continue
        now_ms = at_ms(entry_id)
        skip = _count(batch, windows, expected, frame, now_ms)
        new = frame.body[skip * frame.record_size :]
        bodies.append((now_ms // DAY_MS, frame.version, len(batch.entries), new))
        batch.entries.append(position(entry_id))
    parts: list[NDArray[np.void]] = []
    days: list[int] = []
    came: list[NDArray[np.intp]] = []
    for (day, version), those in groupby(bodies, key=itemgetter(0, 1)):
        sound, numbers, bad = _decode([(number, body) for *_, number, body in those], version)
        batch.dead += [("a record with a wrong checksum or field", raw) for raw in bad]
        parts.append(sound)
        days.append(day)
        came.append(numbers)
    if parts:
        batch.records = parts[0] if len(parts) == 1 else np.concatenate(parts)
        batch.today = np.repeat(np.array(days, dtype=np.int64), [len(p) for p in parts])
        batch.came = np.concatenate(came)
    _set_spends_apart(batch)
    return batch


def _set_spends_apart(batch: Batch) -> None:
    """Take what budgets' accounts are told out of the records: its fields lie as none of theirs."""
    is_spend = batch.records["kind"] == Kind.BUDGET_SPEND
    if is_spend.any():
        batch.spends = spends_of(batch.records.compress(is_spend))
        batch.records = batch.records.compress(~is_spend)
        batch.today, batch.came = batch.today[~is_spend], batch.came[~is_spend]


def _decode(
    bodies: list[tuple[int, bytes]], version: int
) -> tuple[NDArray[np.void], NDArray[np.intp], list[bytes]]:
    """Return the sound records of several entries, which entry each is of, and the unsound ones."""
    sound, bad = decode(b"".join(body for _, body in bodies), version)
    size, numbers = size_of(version), [number for number, _ in bodies]
    if not bad:  # all at once, as nearly always
        return sound, np.repeat(numbers, [len(body) // size for _, body in bodies]), []
    each = [decode(body, version) for _, body in bodies]
    sizes = [len(found) for found, _ in each]
    whole = np.concatenate([found for found, _ in each])
    return whole, np.repeat(numbers, sizes), [raw for _, bad in each for raw in bad]


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


def cold_field(record: np.void) -> bytes:
    """Return under which field feedback for an old decision is kept: its event id and the nonce."""
    return bytes(record["event"].tobytes() + record["token"]["nonce"].tobytes())


@dataclass(frozen=True, slots=True)
class Named:
    """Decisions, and what names them."""

    decisions: Decisions
    spans: NDArray[np.int64]  # (n_names,) in which the decision was made
    places: NDArray[np.intp]  # (n_names,) which decision each one names
    digests: NDArray[np.void]  # (n_names,) of 16 bytes each

    def of(self, picked: NDArray[np.bool_]) -> Named:
        """Return these with some of the names."""
        return Named(self.decisions, self.spans[picked], self.places[picked], self.digests[picked])


def references_of(outcomes: NDArray[np.void]) -> Named:
    """Return the decisions of final outcomes, and what names them.

    As `names_of` has it.
    """
    final = outcomes.compress(_is_final(outcomes))
    places, digests = names_of(final)
    spans = final["token"]["decided_at_ms"] // SPAN_MS
    return Named(Decisions.of(final["token"]), spans[places], places, digests)


def names_of(final: NDArray[np.void]) -> tuple[NDArray[np.intp], NDArray[np.void]]:
    """Return what final outcomes are named by: (n_names,) which of them, and 16 bytes each.

    A decision whose id left before it was known who would answer is named by its nonce as well, and
    the first one of its role and endpoint by its episode. Of one name they are as they came.
    """
    nothing, flags = np.void(NO_DIGEST), final["flags"]
    names = [final["response"], final["reference"]]
    names.append(np.where((flags & Flag.PROMISED) > 0, final["token"]["nonce"], nothing))
    if (by_episode := (flags & Flag.NAMES_EPISODE) > 0).any():
        names.append(np.where(by_episode, episode_names(final["episode"]), nothing))
    digests = np.concatenate(names)
    given = np.flatnonzero(digests != nothing)
    return given % max(len(final), 1), digests.take(given)


def episode_names(episodes: NDArray[np.uint64]) -> NDArray[np.void]:
    """Return (n,) `digests.episode_name` of digests; 0, of no episode, has none."""
    return np.repeat(episodes.astype("<u8"), 2).view("V16")


def final_tokens(outcomes: NDArray[np.void]) -> NDArray[np.void]:
    """Return the whole tokens of the decisions that `references_of` returns, in their order."""
    return np.asarray(outcomes.compress(_is_final(outcomes))["token"])


def _is_final(outcomes: NDArray[np.void]) -> NDArray[np.bool_]:
    return np.asarray((outcomes["flags"] & Flag.FINAL) > 0)
