"""Frames: how records of one shard travel in one stream entry.

A producer numbers the records that it sends to a shard, from 0, without gaps unless it had to
drop some. The frame says which number its first record has; so whoever reads can tell a repeated
record from a new one by one integer per producer, however often a write was tried again.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from telemetry.errors import MalformedEvent
from telemetry.events import (
    NARROW_VERSION,
    RECORD_SIZE,
    RECORD_VERSION,
    TOKEN_OFFSET,
    size_of,
)

MAX_RECORDS = 256
"""94 kB an entry: large enough that the store's work per record vanishes, small enough to
interleave with other producers."""
FEW_RECORDS = 64
"""Up to so many are sorted by shard sooner one by one than as an array."""
_HEADER = struct.Struct("<4s16sBBHQ")
_MAGIC_OF = {NARROW_VERSION: b"PMF1", RECORD_VERSION: b"PMF2"}
_VERSIONS = {magic: version for version, magic in _MAGIC_OF.items()}
"""Of a frame's records, by how it begins."""
SHARD_OFFSET = TOKEN_OFFSET + 2
"""Where in a record of any version its shard stands."""
UNNUMBERED = bytes(16)
"""Producer of frames whose repetition has no effect anyway."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Records `first` … of one producer for one shard."""

    producer: bytes
    shard: int
    first: int
    body: bytes
    version: int = RECORD_VERSION  # of its records

    @property
    def record_size(self) -> int:
        """Bytes of a record."""
        return size_of(self.version)

    @property
    def n_records(self) -> int:
        """How many records it holds."""
        return len(self.body) // self.record_size


def pack(frame: Frame) -> bytes:
    """Return the stream entry of a frame."""
    magic = _MAGIC_OF[frame.version]
    header = _HEADER.pack(magic, frame.producer, frame.shard, 0, frame.n_records, frame.first)
    return header + frame.body


def holds(data: bytes, kind: int) -> bool:
    """Return whether any record in a stream entry is of this kind, by a look at one byte of each.

    Of what is no frame of today nothing is said: it is taken for one that holds none.
    """
    return data[:4] == _MAGIC_OF[RECORD_VERSION] and kind in data[_HEADER.size :: RECORD_SIZE]


def unpack(data: bytes) -> Frame:
    """Return the frame in a stream entry.

    Raises:
        MalformedEvent: no header, or another length than the header says.
    """
    if len(data) < _HEADER.size or data[:4] not in _VERSIONS:
        raise MalformedEvent(f"an entry of {len(data)} bytes without a frame header")
    magic, producer, shard, _, n_records, first = _HEADER.unpack_from(data)
    body, version = data[_HEADER.size :], _VERSIONS[magic]
    if len(body) != n_records * size_of(version):
        raise MalformedEvent(f"a frame of {n_records} records holds {len(body)} bytes")
    return Frame(producer, shard, first, body, version)


def cut(
    data: bytes, producer: bytes, bases: list[int], *, version: int = RECORD_VERSION
) -> list[Frame]:
    """Return frames of `data` by shard; `bases` advances to the next record of each."""
    size = size_of(version)
    data = data[: len(data) // size * size]
    shards = data[SHARD_OFFSET::size]
    mixed = sorted(set(shards))
    out = []
    for shard in mixed:
        if shard >= len(bases):
            continue
        mine = data if len(mixed) == 1 else _picked(data, size, shards, shard)
        for start in range(0, len(mine), MAX_RECORDS * size):
            part = mine[start : start + MAX_RECORDS * size]
            out.append(Frame(producer, shard, bases[shard], part, version))
            bases[shard] += len(part) // size
    return out


def _picked(data: bytes, size: int, shards: bytes, shard: int) -> bytes:
    """Return the records of one shard, each of `size` bytes; `shards` has that of each."""
    if len(shards) <= FEW_RECORDS:
        return b"".join(
            data[at * size : (at + 1) * size] for at, of in enumerate(shards) if of == shard
        )
    import numpy as np  # who never sends so many needs none of it

    records = np.frombuffer(data, dtype=f"V{size}")
    return bytes(records.compress(np.frombuffer(shards, dtype=np.uint8) == shard).tobytes())
