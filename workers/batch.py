"""What stream entries change. Pure: the same entries change the same, now and in an audit.

No store and no clock: what is known already (producers' numbers, labels) is passed in, and the
only time that counts is that of the entry itself, given by the store as part of its id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandit import cells
from telemetry import frames
from telemetry.errors import MalformedEvent
from telemetry.events import RECORD, Kind, decode
from workers import fold, labels

DAY_MS = 86_400_000
LABEL_DAYS = 30
"""Feedback for older decisions is refused and counted; their labels rows are gone."""
PRODUCER_DAYS = 30
"""A producer silent this long has no frame on its way any more."""

START = b"0-0"
"""Before every entry."""
Entries = list[tuple[bytes, dict[bytes, bytes]]]
"""Ids and fields, as the store gives them."""
Decision = tuple[int, bytes]
"""The day on which it was made, and its nonce."""


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
    heard_ms: NDArray[np.int64]  # (n_records,) time of each one's entry
    dead: list[tuple[str, bytes]] = field(default_factory=list)
    windows: dict[bytes, Window] = field(default_factory=dict)
    n_repeated: int = 0
    n_bytes: int = 0

    def decisions(self) -> list[Decision]:
        """Return the decisions whose labels `effects` needs, each once."""
        said = self.records[self.records["kind"] == Kind.FEEDBACK]["token"]
        days = (said["decided_at_ms"] // DAY_MS).tolist()
        nonces = [nonce.tobytes() for nonce in said["nonce"]]
        return list(dict.fromkeys(zip(days, nonces, strict=True)))


@dataclass(slots=True)
class Effects:
    """What a batch changes, beside the numbers of its producers."""

    terms: cells.Terms  # one a row
    labels: dict[Decision, labels.Labels]  # those that changed
    outcomes: NDArray[np.void]
    waiting: NDArray[np.void]  # feedback whose decision is not known yet
    dead: list[tuple[str, bytes]]
    counts: Counter[str]


def position(entry_id: bytes) -> tuple[int, int]:
    """Return what entries are ordered by."""
    ms, number = entry_id.split(b"-")
    return int(ms), int(number)


def at_ms(entry_id: bytes) -> int:
    """Return when the store took an entry."""
    return position(entry_id)[0]


def take_apart(entries: Entries, windows: Mapping[bytes, Window]) -> Batch:
    """Return the records that `windows` does not know yet, and the windows that moved."""
    batch = Batch(np.empty(0, dtype=RECORD), np.empty(0, dtype=np.int64))
    parts: list[NDArray[np.void]] = []
    times: list[int] = []
    for entry_id, fields in entries:
        raw = fields.get(b"f", b"")
        batch.n_bytes += len(raw)
        try:
            frame = frames.unpack(raw)
        except MalformedEvent as error:
            batch.dead.append((str(error), raw))
            continue
        now_ms = at_ms(entry_id)
        skip = _count(batch, windows, frame, now_ms)
        size = len(frame.body) // max(frame.n_records, 1)
        sound, bad = decode(frame.body[skip * size :])
        batch.dead += [("a record with a wrong checksum or field", raw) for raw in bad]
        parts.append(sound)
        times.append(now_ms)
    if parts:
        batch.records = np.concatenate(parts)
        batch.heard_ms = np.repeat(np.array(times, dtype=np.int64), [len(p) for p in parts])
    return batch


def _count(batch: Batch, windows: Mapping[bytes, Window], frame: frames.Frame, now_ms: int) -> int:
    """Move the producer's window past a frame; return how many of its records came before."""
    if frame.producer == frames.UNNUMBERED:
        return 0
    known = batch.windows.get(frame.producer) or windows.get(frame.producer, NEVER)
    seen = 0 if known.is_forgotten(now_ms) else known.following
    skip = min(max(seen - frame.first, 0), frame.n_records)
    following = max(seen, frame.first + frame.n_records)
    batch.windows[frame.producer] = Window(following, max(known.heard_ms, now_ms))
    batch.n_repeated += skip
    return skip


def effects(batch: Batch, stored: Mapping[Decision, bytes | None]) -> Effects:
    """Return what a batch changes.

    Args:
        stored: the labels rows of `batch.decisions()`; of those not named nothing was said yet.
    """
    kind = batch.records["kind"]
    outcomes = batch.records[kind == Kind.OUTCOME]
    waiting = batch.records[kind == Kind.REFERENCE_FEEDBACK]
    said = kind == Kind.FEEDBACK
    counts: Counter[str] = Counter(
        repeated=batch.n_repeated, bytes=batch.n_bytes, outcomes=len(outcomes), held=len(waiting)
    )
    out = Effects(_NOTHING, {}, outcomes, waiting, list(batch.dead), counts)
    changes = _hear(out, batch.records[said], batch.heard_ms[said].tolist(), stored)
    terms = fold.outcome_terms(outcomes) if len(outcomes) else []
    out.terms = cells.merge(terms + (fold.label_terms(changes) if changes else []))
    counts["dead"] = len(out.dead)
    return out


def _hear(
    out: Effects,
    said: NDArray[np.void],
    heard_ms: list[int],
    stored: Mapping[Decision, bytes | None],
) -> list[fold.LabelChange]:
    """Note what feedback says; return what it changes in the rewards.

    One change a record, not one a decision: so how records are grouped into batches shows nowhere.
    """
    changes: list[fold.LabelChange] = []
    known: dict[Decision, labels.Labels] = {}
    for record, now_ms in zip(said, heard_ms, strict=True):
        day, today = int(record["token"]["decided_at_ms"]) // DAY_MS, now_ms // DAY_MS
        if not today - LABEL_DAYS <= day <= today + 1:
            age = "over 30 days ago" if day <= today else "the future"
            out.dead.append((f"feedback for a decision of {age}", record.tobytes()))
            continue
        decision = day, record["token"]["nonce"].tobytes()
        if decision not in known:
            known[decision] = labels.parse(stored.get(decision))
        before = known[decision]
        after = labels.hear(before, int(record["feedback_kind"]), labels.said_in(record))
        if after is before:
            out.counts["feedback_outdated"] += 1
            continue
        out.counts["feedback"] += 1
        known[decision] = out.labels[decision] = after
        old, new = labels.standing(before), labels.standing(after)
        if old != new:
            changes.append(fold.LabelChange.of(record["token"], old, new))
    return changes


_NOTHING = cells.merge([])
