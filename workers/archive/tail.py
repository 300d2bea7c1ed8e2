"""What was said since the archive's last file: the stream has it until the next one.

It has all of it or it says nothing: entries may go unarchived where the archive is too far behind,
and then as many bytes are missing as the store's books have more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from telemetry.events import Flag, Kind
from workers.archive.archive import EVERY_BYTES, Archive
from workers.folding import hearing
from workers.folding.batch import DAY_MS, take_apart
from workers.folding.effects import is_heard
from workers.folding.hearing import pieces
from workers.folding.history import History

MOST_BYTES = EVERY_BYTES
"""With so many a file is due, which is soon there; under a second to read, in a job of its own."""


@dataclass(slots=True)
class Tail:
    """Words of the stream behind the archive's last file, of those decisions that were asked for.

    Only what was folded as it came: what was cold then is folded when it is sent again.
    """

    is_whole: bool = False
    labels: dict[bytes, bytes] = field(default_factory=dict)
    """By nonce, what holds once its words were heard as well."""
    unsure: set[bytes] = field(default_factory=set)
    """Nonces of decisions that others told of: where that was not for the first time, the word
    that came with it does not count. An index of the archive knows that."""


def read_tail(
    archive: Archive,
    shard: int,
    known: Mapping[bytes, bytes],
    *,
    after: bytes,
    upto: bytes,
    n_bytes: int,
    history: History,
) -> Tail:
    """Return what entries after one mark up to another say of decisions.

    Args:
        known: by nonce, what was said of them before.
        n_bytes: of the frames of all entries between the marks, by the store's books.
        history: for how long decisions were young when they came.
    """
    if n_bytes > MOST_BYTES:
        return Tail()
    frames = archive.entries(shard, after, upto)
    if sum(map(len, frames.values())) != n_bytes:
        return Tail()
    out = Tail(is_whole=True)
    if not frames:
        return out
    batch = take_apart([(entry, {b"f": frame}) for entry, frame in frames.items()], {})
    age = batch.today - batch.records["token"]["decided_at_ms"] // DAY_MS
    counts = batch.is_said & is_heard(age) & ~batch.is_cold(history)
    said = batch.records.compress(counts)
    is_asked = map(known.__contains__, pieces(said["token"]["nonce"]))
    said = said.compress(np.fromiter(is_asked, dtype=bool, count=len(said)))
    is_told = (said["kind"] == Kind.OUTCOME) & ((said["flags"] & Flag.INGESTED) > 0)
    out.unsure.update(pieces(said.compress(is_told)["token"]["nonce"]))
    distinct, slots = hearing.slots_of(pieces(said["token"]["nonce"]))
    before = [known[nonce] or None for nonce in distinct]
    out.labels = dict(zip(distinct, hearing.hear(before, slots, said).rows, strict=True))
    return out
