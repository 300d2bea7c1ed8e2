"""A shard's state, rebuilt from archived entries by the learner's own fold. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit.cells import CARRY, EPOCH_BITS, KEY, add, from_bytes, unsound
from bandit.epochs import PROFILE, epochs_of
from bandit.exact import UNIT
from bandit.families import N_COLUMNS, Family
from telemetry.ledger_rows import SINCE_FIELD
from telemetry.secret import RATERS_FIELD
from telemetry.young import SPAN_MS, name_of
from workers.archive import budgets as budget_files
from workers.archive import spent as spent_files
from workers.archive.files import Content, Placed
from workers.folding.batch import (
    DAY_MS,
    LABEL_DAYS,
    SPAN_DAYS,
    SPANS,
    START,
    Decision,
    Entries,
    Window,
    at_ms,
    cold_field,
    take_apart,
)
from workers.folding.budget_rows import add_spends
from workers.folding.effects import effects
from workers.folding.forgetting import forget, forgotten_in, parts_of
from workers.folding.hearing import pieces
from workers.folding.history import History, lies_by_span
from workers.folding.labels import narrowed, widened
from workers.folding.raters import Seat
from workers.folding.spending import MOST_NAMES, Loose, apply, book, spent_in
from workers.folding.trimming import stale_rows

AT_ONCE = 24
"""Entries folded in one go: 6,000 records; more leave the processor's cache."""

Sums = dict[bytes, NDArray[np.int64]]


@dataclass(slots=True)
class Said(Mapping[Decision, bytes]):
    """What was said of decisions, of all that feedback is heard for, wherever it was read from."""

    labels: dict[Decision, bytes] = field(default_factory=dict)  # folded here
    short: Placed = field(default_factory=dict)  # of a base, by span and last bytes of nonces
    by_day: Placed = field(default_factory=dict)  # of a base, by day and nonce
    thawed: dict[bytes, bytes] = field(default_factory=dict)  # of a base, by nonce

    def __getitem__(self, decision: Decision) -> bytes:
        """Return the row of a decision, as it is stored now."""
        span, nonce = decision
        row = self.labels.get(decision)
        if row is None:
            row = self.short.get((span, name_of(nonce)))
        if row is None:
            row = self.by_day.get((span * SPAN_MS // DAY_MS, nonce), self.thawed.get(nonce))
        if row is None:
            raise KeyError(decision)
        return row

    @property
    def table(self) -> Mapping[Decision, bytes]:
        """What tells the same: where there is no base, a plain table, which is told sooner."""
        return self if self.short or self.by_day or self.thawed else self.labels

    def __iter__(self) -> Iterator[Decision]:
        """Yield the decisions whose records were folded here."""
        return iter(self.labels)

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.labels) + len(self.short) + len(self.by_day) + len(self.thawed)

    def add(self, content: Content) -> None:
        """Take over what a base holds."""
        self.short.update(content.words)
        self.by_day.update({place: narrowed(row) for place, row in content.labels.items()})
        self.thawed.update(content.thawed)

    def forget(self, oldest_day: int) -> None:
        """Drop what was said of decisions of earlier days."""
        first = oldest_day * DAY_MS // SPAN_MS
        self.labels = {d: row for d, row in self.labels.items() if d[0] >= first}
        self.short = {d: row for d, row in self.short.items() if d[0] >= first}
        self.by_day = {d: row for d, row in self.by_day.items() if d[0] >= oldest_day}

    def placed(self, history: History) -> tuple[Placed, Placed]:
        """Return where rows lie: by day and nonce, and by span and last bytes of nonces."""
        by_day, by_span = dict(self.by_day), dict(self.short)
        for (span, nonce), row in self.labels.items():
            if lies_by_span(span, history):
                by_span[span, name_of(nonce)] = row
            else:
                by_day[span * SPAN_MS // DAY_MS, nonce] = row
        return {place: widened(row) for place, row in by_day.items()}, by_span


@dataclass(slots=True)
class Rebuilt:
    """State as of a mark."""

    mark: bytes = START
    rows: Sums = field(default_factory=dict)
    windows: dict[bytes, Window] = field(default_factory=dict)
    history: History = field(default_factory=History)
    said: Said = field(default_factory=lambda: Said())
    cold: dict[bytes, bytes] = field(default_factory=dict)  # feedback for old decisions, as kept
    raters: dict[Seat, bytes] = field(default_factory=dict)
    raters_key: bytes = b""  # of the store; before anything of a rater is folded
    ingested: dict[bytes, int] = field(default_factory=dict)  # nonce -> span of days
    n_bytes: bytes = b"0"  # of all frames up to the mark, as the checkpoint says
    n_records: int = 0
    spent: Loose | None = None  # loose rows of the ledger; None: not all of it is known
    blocks: spent_files.Blocks = field(default_factory=dict)
    most_names: int = MOST_NAMES
    budgets: Placed = field(default_factory=dict)  # rows of their accounts

    def stand_at(self, content: Content) -> None:
        """Take over a checkpoint; labels and raters stay, unless it is a base and has its own."""
        self.mark = content.mark
        self.rows = parse_rows(content.rows)
        self.windows = content.windows
        self.n_bytes = content.meta.get(b"n_bytes", b"0")
        self.history = History.parse(content.meta.get(b"young"))
        self.said.add(content)
        self.cold.update(content.cold)
        self.raters.update(content.raters)
        self.ingested.update({nonce: int(span) for nonce, span in content.ingested.items()})
        is_there = SINCE_FIELD.encode() in content.meta
        self.spent = spent_files.loose_of(content) if is_there else None
        self.blocks = spent_files.blocks_of(content)
        self.budgets = dict(content.budgets)

    def follow(self, content: Content) -> None:
        """Fold the entries of a file in, ranking raters' decisions as it says."""
        # Whoever folded them made it before, so that it is beside every state that rests on it.
        self.raters_key = content.store.get(RATERS_FIELD.encode(), self.raters_key)
        # Of the whole file, and so of each of its entries.
        self.history = History.parse(content.meta.get(b"young"))
        self.most_names = MOST_NAMES // int(content.store.get(b"shards", 1))
        if self.spent is None and content.meta.get(SINCE_FIELD.encode()) == self.mark:
            self.spent = {}  # it begins here
        self.fold(content.as_entries())

    def fold(self, entries: Entries) -> None:
        """Fold entries in, as the learner did."""
        for part in parts_of(entries):
            for i in range(0, len(part), AT_ONCE):
                self._fold(part[i : i + AT_ONCE])

    def forget(self) -> None:
        """Drop what counts no more as of the mark: the learner may have, or not yet."""
        now_ms = at_ms(self.mark)
        for name in stale_rows(self.rows, now_ms=now_ms):
            del self.rows[name]
        self.windows = {n: w for n, w in self.windows.items() if not w.is_forgotten(now_ms)}
        oldest = now_ms // DAY_MS - LABEL_DAYS
        self.said.forget(oldest)
        self.raters = {s: row for s, row in self.raters.items() if s[0] >= oldest}
        first = now_ms // DAY_MS // SPAN_DAYS - SPANS + 1
        self.ingested = {nonce: span for nonce, span in self.ingested.items() if span >= first}
        self.budgets = budget_files.forget(self.budgets, now_ms=now_ms)

    def put_into(self, content: Content) -> None:
        """Have a base hold what was said, and by whom."""
        content.labels, content.words = self.said.placed(self.history)
        content.raters, content.cold, content.thawed = self.raters, self.cold, self.said.thawed
        content.ingested = {nonce: b"%d" % span for nonce, span in self.ingested.items()}

    def _fold(self, entries: Entries) -> None:
        batch = take_apart(entries, self.windows)
        batch.drop_told(self.ingested)
        self.ingested.update(batch.ingested)
        found = effects(
            batch,
            self.said.table,
            history=self.history,
            seated=self.raters,
            raters_key=self.raters_key,
        )
        after = add(found.terms, self._stored)
        self.rows.update(zip(pieces(after.keys), after.values, strict=True))
        self.windows.update(batch.windows)
        self.said.labels.update(found.labels)
        self.cold.update({cold_field(record): record.tobytes() for record in found.cold})
        for field_of_it in batch.done():
            self.cold.pop(field_of_it, None)
        for seat in forget(found, self.raters, users) if (users := forgotten_in(batch)) else ():
            self.raters.pop(seat, None)
        self.raters.update(found.raters)
        if self.spent is not None:
            apply(book(spent_in(batch), self.spent, most_names=self.most_names), self.spent)
        add_spends(batch, self.budgets)
        self.n_records += batch.n_new
        self.mark = entries[-1][0]

    def _stored(self, names: NDArray[np.void]) -> NDArray[np.int64]:
        """Return the rows of these keys; one of a wrong size counts as none, as for the learner."""
        rows = [self.rows.get(name, _ZERO) for name in pieces(names)]
        return np.array([row if len(row) == N_COLUMNS else _ZERO for row in rows]).reshape(
            -1, N_COLUMNS
        )


def parse_rows(rows: dict[bytes, bytes]) -> Sums:
    """Return stored rows as sums; one of a wrong size stays as it is, and so equals none."""
    return {
        name: np.frombuffer(row[: len(row) // 8 * 8], dtype="<i8") for name, row in rows.items()
    }


def damaged_rows(rows: Mapping[bytes, bytes]) -> list[bytes]:
    """Return the names of stored rows that hold what no sum of records can, in their order."""
    whole = {
        name: row
        for name, row in sorted(rows.items())
        if len(name) == KEY.itemsize and len(row) == 8 * N_COLUMNS
    }
    bad = unsound(from_bytes(b"".join(whole), b"".join(whole.values())))
    return [name for name, is_bad in zip(whole, bad, strict=True) if is_bad]


def difference(rebuilt: Rebuilt, stored: Rebuilt) -> str | None:
    """Return the first row or producer in which two states differ; None where they are equal.

    The ledger is compared where both have all of it.

    Both have forgotten what counts no more. A row of zeros says what a missing one does, and a sum
    is compared as a whole: where its sign changed on the way, row and carry may share it otherwise.
    """
    for name in sorted({_uncarried(name) for name in rebuilt.rows.keys() | stored.rows.keys()}):
        ours, theirs = _whole(rebuilt.rows, name), _whole(stored.rows, name)
        if len(ours) != len(theirs):
            return f"{named(name)}: {8 * len(theirs)} bytes"
        for column in np.flatnonzero(ours != theirs)[:1]:
            values = f"{ours[column]} by the records, {theirs[column]} stored"
            return f"{named(name)}, column {column}: {values}"
    for producer in sorted(rebuilt.windows.keys() | stored.windows.keys()):
        known, kept = rebuilt.windows.get(producer), stored.windows.get(producer)
        if known != kept:
            return f"producer {producer.hex()}: {known} by the records, {kept} stored"
    if unequal := budget_files.difference(rebuilt.budgets, stored.budgets):
        return unequal
    if rebuilt.spent is None or stored.spent is None:
        return None
    kept_blocks = stored.blocks
    return spent_files.difference(
        rebuilt.spent, rebuilt.blocks, stored.spent, kept_blocks, stored.mark
    )


def _uncarried(name: bytes) -> bytes:
    """Return the name of the row that a carry is of, and any other as it is."""
    return _with_family_above(name, 0) if len(name) == KEY.itemsize else name


def _whole(rows: Sums, name: bytes) -> NDArray[Any]:
    """Return a row's sums, carry included; a carry of a wrong size is returned in their place."""
    row = rows.get(name, _ZERO)
    carry = rows.get(_with_family_above(name, CARRY)) if len(name) == KEY.itemsize else None
    if carry is None or len(row) != len(_ZERO):
        return row
    if len(carry) != len(_ZERO):
        return carry
    whole: NDArray[Any] = row.astype(object) + UNIT * carry.astype(object)
    return whole


def _with_family_above(name: bytes, above: int) -> bytes:
    """Return a row's name with its family's upper byte, which says whether it is a carry."""
    at = KEY.fields["family"][1] + 1 if KEY.fields else 0
    return name[:at] + bytes([above >> 8]) + name[at + 1 :]


_ZERO = np.zeros(N_COLUMNS, dtype=np.int64)


def named(name: bytes) -> str:
    """Return the name of a row as people read it."""
    if len(name) != KEY.itemsize:
        return f"row {name.hex()}"
    keys = np.frombuffer(name, dtype=KEY)
    key, epoch = keys[0], int(epochs_of(keys)[0])
    kind, carry = int(key["family"]) % CARRY, int(key["family"]) >= CARRY
    known = kind in list(Family)
    family = Family(kind).name.lower() + " carry" * carry if known else int(key["family"])
    cell = f"category {int(key['category']):016x}, endpoint {int(key['endpoint']):016x}"
    regime = f"regime {int(key['regime'])}, " if key["regime"] else ""
    regime += ("profile, " if epoch == PROFILE else f"epoch {epoch}, ") if epoch else ""
    window = int(key["window"]) - (epoch << EPOCH_BITS)
    return f"row of {cell}, {family}, {regime}window {window}"
