"""A shard's state, rebuilt from archived entries by the learner's own fold. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from bandit.cells import KEY, N_COLUMNS, Family
from workers.archive.files import Content
from workers.folding.batch import (
    DAY_MS,
    LABEL_DAYS,
    SPAN_DAYS,
    SPANS,
    START,
    TAUGHT_FROM,
    Decision,
    Entries,
    Window,
    at_ms,
    effects,
    position,
    take_apart,
)
from workers.folding.shard import stale_rows

AT_ONCE = 48
"""Entries folded in one go: 12,000 records; more leave the processor's cache."""

ALWAYS_TAUGHT: Mapping[bytes, bytes] = MappingProxyType({TAUGHT_FROM: START})
"""Meta of a shard that no earlier version has folded."""

Sums = dict[bytes, NDArray[np.int64]]


@dataclass(slots=True)
class Rebuilt:
    """State as of a mark."""

    mark: bytes = START
    rows: Sums = field(default_factory=dict)
    windows: dict[bytes, Window] = field(default_factory=dict)
    labels: dict[Decision, bytes] = field(default_factory=dict)
    ingested: dict[bytes, int] = field(default_factory=dict)  # nonce -> span of days
    n_bytes: bytes = b"0"  # of all frames up to the mark, as the checkpoint says
    n_records: int = 0

    def stand_at(self, content: Content) -> None:
        """Take over a checkpoint; the labels stay, unless it is a base and has its own."""
        self.mark = content.mark
        self.rows = parse_rows(content.rows)
        self.windows = content.windows
        self.n_bytes = content.meta.get(b"n_bytes", b"0")
        self.labels.update(content.labels)
        self.ingested.update({nonce: int(span) for nonce, span in content.ingested.items()})

    def fold(self, entries: Entries, meta: Mapping[bytes, bytes] = ALWAYS_TAUGHT) -> None:
        """Fold entries in, as the learner did.

        Args:
            meta: of the checkpoint that they lead to; says since when labels are counted by app.
        """
        taught_from = meta.get(TAUGHT_FROM)
        n = sum(not _is_after(entry_id, taught_from) for entry_id, _ in entries)
        for part, is_taught in ((entries[:n], False), (entries[n:], True)):
            for i in range(0, len(part), AT_ONCE):
                self._fold(part[i : i + AT_ONCE], is_taught=is_taught)

    def forget(self) -> None:
        """Drop what counts no more as of the mark: the learner may have, or not yet."""
        now_ms = at_ms(self.mark)
        for name in stale_rows(self.rows, now_ms=now_ms):
            del self.rows[name]
        self.windows = {n: w for n, w in self.windows.items() if not w.is_forgotten(now_ms)}
        oldest = now_ms // DAY_MS - LABEL_DAYS
        self.labels = {d: row for d, row in self.labels.items() if d[0] >= oldest}
        first = now_ms // DAY_MS // SPAN_DAYS - SPANS + 1
        self.ingested = {nonce: span for nonce, span in self.ingested.items() if span >= first}

    def _fold(self, entries: Entries, *, is_taught: bool) -> None:
        batch = take_apart(entries, self.windows)
        batch.drop_told(self.ingested)
        self.ingested.update(batch.ingested)
        found = effects(batch, self.labels)
        for key, value in zip(found.terms.keys, found.terms.values, strict=True):
            if key["family"] == Family.TEACHING and not is_taught:
                continue
            name = key.tobytes()
            self.rows[name] = self.rows[name] + value if name in self.rows else value
        self.windows.update(batch.windows)
        self.labels.update(found.labels)
        self.n_records += len(batch.records)
        self.mark = entries[-1][0]


def _is_after(entry_id: bytes, mark: bytes | None) -> bool:
    return mark is not None and position(entry_id) > position(mark)


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
