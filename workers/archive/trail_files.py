"""The files of the audit trail: one a day, in blocks that are added and never changed.

A block is an index of frames, by which gaps are found without unpacking anything, and their records
compressed. It counts once it is whole: what a crash left of one is cut off by who writes next, and
passed over by who reads. Nothing is added behind what cannot be read: such a file is put aside, and
read as far as it goes. Days are those of the store's clock, in UTC.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple

from telemetry.errors import MalformedEvent
from telemetry.events import RECORD_SIZE
from telemetry.frames import Frame
from workers.archive import files as archive_files

SUFFIX, ASIDE = ".trail", ".damaged"
KEPT_SINCE = "kept_since"
"""Name of the file that says from which day on files are kept, once some were deleted."""
DAY_MS = 86_400_000
_BLOCK = struct.Struct("<4sIIII")
_MAGIC = b"PMT1"
_FRAME = struct.Struct("<qB16sQH")


class TrailFrame(NamedTuple):
    """A frame of the trail, and when the store took it."""

    at_ms: int
    frame: Frame


class TrailBlock(NamedTuple):
    """A block as it is read: which numbers it holds, and what unpacks them."""

    numbers: list[tuple[int, bytes, int, int]]  # when, producer, first number, how many records
    shard: int
    packed: bytes | None  # None where only the index was asked for
    is_damaged: bool  # its records cannot be read; what stands behind them can

    def frames(self) -> Iterator[TrailFrame]:
        """Yield the frames in it."""
        body, at = zlib.decompress(self.packed or b""), 0
        for at_ms, producer, first, n in self.numbers:
            end = at + n * RECORD_SIZE
            yield TrailFrame(at_ms, Frame(producer, self.shard, first, body[at:end]))
            at = end


def add(directory: Path, frames: Iterable[TrailFrame]) -> None:
    """Add frames to the files of their days; safe from a power cut once this returns.

    Raises:
        OSError: no room left, for instance. What was added of a block does not count.
    """
    by_day: dict[int, list[TrailFrame]] = {}
    for one in frames:
        by_day.setdefault(one.at_ms // DAY_MS, []).append(one)
    for day, found in by_day.items():
        _append(path_of(directory, day), _block_of(found))


def path_of(directory: Path, day: int) -> Path:
    """Return where the trail of a day lies, counted in days since 1970."""
    return directory / f"{datetime.fromtimestamp(day * 86_400, UTC):%Y-%m-%d}{SUFFIX}"


def days(directory: Path) -> list[tuple[int, Path]]:
    """Return the days of which there is a file, oldest first; one that was put aside as well."""
    out = []
    for path in sorted([*directory.glob(f"*{SUFFIX}"), *directory.glob(f"*{ASIDE}")]):
        try:
            at = datetime.strptime(path.name[:10], "%Y-%m-%d").replace(tzinfo=UTC)
        except ValueError:
            continue
        out.append((int(at.timestamp()) // 86_400, path))
    return out


def blocks(path: Path, *, whole: bool) -> Iterator[TrailBlock]:
    """Yield the blocks of a file.

    Args:
        whole: False reads only which numbers they hold.

    Raises:
        MalformedEvent: where one ends cannot be told; what stands behind it is not read.
        FileNotFoundError: the file is gone.
    """
    with path.open("rb") as file:
        while (block := _next(file, whole=whole)) is not None:
            yield block


def _block_of(frames: list[TrailFrame]) -> bytes:
    index = b"".join(
        _FRAME.pack(at_ms, one.shard, one.producer, one.first, one.n_records)
        for at_ms, one in frames
    )
    packed = zlib.compress(b"".join(one.body for _, one in frames), 6)
    sums = zlib.crc32(index), zlib.crc32(packed)
    return _BLOCK.pack(_MAGIC, len(frames), len(packed), *sums) + index + packed


def _append(path: Path, block: bytes) -> None:
    try:
        end = _end(path)
    except MalformedEvent:
        path.rename(path.with_name(f"{path.stem}.{time.time_ns()}{ASIDE}"))
        end = 0
    is_new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        file.truncate(end)  # what was cut by a crash is nobody's
        file.seek(end)
        try:
            file.write(block)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            os.truncate(path, end)
            raise
    if is_new:
        archive_files.sync(path.parent)


def _end(path: Path) -> int:
    """Return where the last whole block of a file ends; 0 where there is none."""
    end = 0
    if path.exists():
        with path.open("rb") as file:
            while _next(file, whole=False) is not None:
                end = file.tell()
    return end


def _next(file: BinaryIO, *, whole: bool) -> TrailBlock | None:
    """Return the next block; None at the end, or where the last one is cut."""
    head = file.read(_BLOCK.size)
    if len(head) < _BLOCK.size:
        return None
    magic, n_frames, n_packed, index_sum, packed_sum = _BLOCK.unpack(head)
    if magic != _MAGIC:
        raise MalformedEvent("no block of the audit trail begins here")
    index = file.read(n_frames * _FRAME.size)
    if len(index) < n_frames * _FRAME.size:
        return None
    if zlib.crc32(index) != index_sum:
        raise MalformedEvent("the index of a block of the audit trail is damaged")
    start = file.tell()
    if start + n_packed > file.seek(0, os.SEEK_END):
        return None
    file.seek(start if whole else start + n_packed)
    packed = file.read(n_packed) if whole else None
    found = list(_FRAME.iter_unpack(index))
    return TrailBlock(
        [(at, who, first, n) for at, _, who, first, n in found],
        found[0][1] if found else 0,
        packed,
        packed is not None and zlib.crc32(packed) != packed_sum,
    )
