"""Frames: how records of one shard travel in one stream entry.

A producer numbers the records that it sends to a shard, from 0, without gaps unless it had to
drop some. The frame says which number its first record has; so whoever reads can tell a repeated
record from a new one by one integer per producer, however often a write was tried again.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from telemetry.errors import MalformedEvent
from telemetry.events import RECORD_SIZE

MAX_RECORDS = 256
"""53 kB an entry: large enough that the store's work per record vanishes, small enough to
interleave with other producers."""
_HEADER = struct.Struct("<4s16sBBHQ")
_MAGIC = b"PMF1"
UNNUMBERED = bytes(16)
"""Producer of frames whose repetition has no effect anyway."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Records `first` … of one producer for one shard."""

    producer: bytes
    shard: int
    first: int
    body: bytes

    @property
    def n_records(self) -> int:
        """How many records it holds."""
        return len(self.body) // RECORD_SIZE


def pack(frame: Frame) -> bytes:
    """Return the stream entry of a frame."""
    header = _HEADER.pack(_MAGIC, frame.producer, frame.shard, 0, frame.n_records, frame.first)
    return header + frame.body


def unpack(data: bytes) -> Frame:
    """Return the frame in a stream entry.

    Raises:
        MalformedEvent: no header, or another length than the header says.
    """
    if len(data) < _HEADER.size or data[:4] != _MAGIC:
        raise MalformedEvent(f"an entry of {len(data)} bytes without a frame header")
    _, producer, shard, _, n_records, first = _HEADER.unpack_from(data)
    body = data[_HEADER.size :]
    if len(body) != n_records * RECORD_SIZE:
        raise MalformedEvent(f"a frame of {n_records} records holds {len(body)} bytes")
    return Frame(producer, shard, first, body)
