"""A shard's state, rebuilt from archived entries by the learner's own fold. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bandit.cells import KEY, N_COLUMNS, Family
from telemetry.secret import RATERS_FIELD
from workers.archive.files import Content
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
    effects,
    take_apart,
)
from workers.folding.raters import Seat
from workers.folding.shard import stale_rows

AT_ONCE = 48
"""Entries folded in one go: 12,000 records; more leave the processor's cache."""

Sums = dict[bytes, NDArray[np.int64]]


@dataclass(slots=True)
class Rebuilt:
    """State as of a mark."""

    mark: bytes = START
    rows: Sums = field(default_factory=dict)
    windows: dict[bytes, Window] = field(default_factory=dict)
    labels: dict[Decision, bytes] = field(default_factory=dict)
    raters: dict[Seat, bytes] = field(default_factory=dict)
    raters_key: bytes = b""  # of the store; before anything of a rater is folded
    ingested: dict[bytes, int] = field(default_factory=dict)  # nonce -> span of days
    n_bytes: bytes = b"0"  # of all frames up to the mark, as the checkpoint says
    n_records: int = 0

    def stand_at(self, content: Content) -> None:
        """Take over a checkpoint; labels and raters stay, unless it is a base and has its own."""
        self.mark = content.mark
        self.rows = parse_rows(content.rows)
        self.windows = content.windows
        self.n_bytes = content.meta.get(b"n_bytes", b"0")
        self.labels.update(content.labels)
        self.raters.update(content.raters)
        self.ingested.update({nonce: int(span) for nonce, span in content.ingested.items()})

    def follow(self, content: Content) -> None:
        """Fold the entries of a file in, ranking raters' decisions as it says."""
        # Whoever folded them made it before, so that it is beside every state that rests on it.
        self.raters_key = content.store.get(RATERS_FIELD.encode(), self.raters_key)
        self.fold(content.as_entries())

    def fold(self, entries: Entries) -> None:
        """Fold entries in, as the learner did."""
        for i in range(0, len(entries), AT_ONCE):
            self._fold(entries[i : i + AT_ONCE])

    def forget(self) -> None:
        """Drop what counts no more as of the mark: the learner may have, or not yet."""
        now_ms = at_ms(self.mark)
        for name in stale_rows(self.rows, now_ms=now_ms):
            del self.rows[name]
        self.windows = {n: w for n, w in self.windows.items() if not w.is_forgotten(now_ms)}
        oldest = now_ms // DAY_MS - LABEL_DAYS
        self.labels = {d: row for d, row in self.labels.items() if d[0] >= oldest}
        self.raters = {s: row for s, row in self.raters.items() if s[0] >= oldest}
        first = now_ms // DAY_MS // SPAN_DAYS - SPANS + 1
        self.ingested = {nonce: span for nonce, span in self.ingested.items() if span >= first}

    def _fold(self, entries: Entries) -> None:
        batch = take_apart(entries, self.windows)
        batch.drop_told(self.ingested)
        self.ingested.update(batch.ingested)
        found = effects(batch, self.labels, seated=self.raters, raters_key=self.raters_key)
        for key, value in zip(found.terms.keys, found.terms.values, strict=True):
            name = key.tobytes()
            self.rows[name] = self.rows[name] + value if name in self.rows else value
        self.windows.update(batch.windows)
        self.labels.update(found.labels)
        self.raters.update(found.raters)
        self.n_records += len(batch.records)
        self.mark = entries[-1][0]


def parse_rows(rows: dict[bytes, bytes]) -> Sums:
    """Return stored rows as sums; one of a wrong size stays as it is, and so equals none."""
    return {
        name: np.frombuffer(row[: len(row) // 8 * 8], dtype="<i8") for name, row in rows.items()
    }


def difference(rebuilt: Rebuilt, stored: Rebuilt) -> str | None:
    """Return the first row or producer in which two states differ; None where they are equal.

    Both have forgotten what counts no more. A row of zeros says what a missing one does.
    """
    for name in sorted(rebuilt.rows.keys() | stored.rows.keys()):
        ours, theirs = rebuilt.rows.get(name, _ZERO), stored.rows.get(name, _ZERO)
        if len(ours) != len(theirs):
            return f"{_named(name)}: {8 * len(theirs)} bytes"
        for column in np.flatnonzero(ours != theirs)[:1]:
            values = f"{ours[column]} by the records, {theirs[column]} stored"
            return f"{_named(name)}, column {column}: {values}"
    for producer in sorted(rebuilt.windows.keys() | stored.windows.keys()):
        known, kept = rebuilt.windows.get(producer), stored.windows.get(producer)
        if known != kept:
            return f"producer {producer.hex()}: {known} by the records, {kept} stored"
    return None


_ZERO = np.zeros(N_COLUMNS, dtype=np.int64)


def _named(name: bytes) -> str:
    if len(name) != KEY.itemsize:
        return f"row {name.hex()}"
    key = np.frombuffer(name, dtype=KEY)[0]
    known = int(key["family"]) in list(Family)
    family = Family(int(key["family"])).name.lower() if known else int(key["family"])
    cell = f"category {int(key['category']):016x}, endpoint {int(key['endpoint']):016x}"
    regime = f"regime {int(key['regime'])}, " if key["regime"] else ""
    return f"row of {cell}, {family}, {regime}window {int(key['window'])}"
