"""The journal: where a record is safe from a crash before the answer ends.

Appending is one copy into a shared mapping of the file: what was copied is the kernel's, so
`kill -9` cannot take it, and no system call is made. The file's blocks are allocated before it is
mapped, so a full disk is an error at a known place and never a fault in the middle of a copy.

A journal is a directory of segments, locked by the process that writes it. Segments are numbered;
each begins with the number of the next record of every shard, and behind them of the audit trail
(`telemetry/trail.py`), so that whoever reads it, the
writer or, after a crash, somebody else, cuts the very same frames.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import secrets
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import structlog

from telemetry.errors import MalformedEvent
from telemetry.events import INTENT, NARROW_VERSION, RECORD_SIZE, RECORD_VERSION, size_of
from telemetry.frames import SHARD_OFFSET

log = structlog.get_logger()

SEGMENT_BYTES = 4 << 20
"""11,000 records: what is read again at most after a crash."""
MAX_BYTES = 1 << 30
"""Three million records wait for a store that is away; beyond that the oldest go, counted."""
MAX_ORPHAN_BYTES = 1 << 30
"""All journals together that processes left behind: as much as one process that lives may keep. A
sidecar that is started again and again while the store is away leaves 4 MiB each time."""
FULL_REST_S = 0.1
"""A full disk is tried again so often, rather than by each call."""
SAY_AGAIN_S = 60.0
"""A full disk is one line a minute, which is lost there, too, if the log lies on it."""
_HEADER = struct.Struct("<4s16sB")
_VERSIONS = {b"PMJ1": NARROW_VERSION, b"PMJ2": RECORD_VERSION}
"""Of the records of a segment, by how it begins; the last is written."""
_MAGIC = b"PMJ2"


class Dropped(StrEnum):
    """Why a record goes no further; each one is counted under its reason."""

    DISK = "disk"  # no room for the next segment
    FULL = "full"  # the oldest, of a journal that reached its bound
    ORPHANED = "orphaned"  # the oldest that processes left behind, beyond the bound of all those
    SHARD = "shard"  # names a shard that there is none of
    MALFORMED = "malformed"  # in a segment whose header cannot be read


@dataclass(slots=True)
class Segment:
    """One file of a journal, and how far it was read."""

    path: Path
    producer: bytes
    bases: list[int]  # number of the next record of each shard
    offset: int  # bytes up to which everything was sent
    version: int = RECORD_VERSION  # of its records

    @classmethod
    def open(cls, path: Path) -> Segment:
        """Return the segment at `path`, from its beginning.

        Raises:
            MalformedEvent: the file has no whole header.
        """
        with path.open("rb") as file:
            head = file.read(_HEADER.size)
            if len(head) < _HEADER.size or head[:4] not in _VERSIONS:
                raise MalformedEvent(f"{path.name}: no journal header")
            magic, producer, n_shards = _HEADER.unpack(head)
            bases = file.read(8 * n_shards)
        if len(bases) < 8 * n_shards:
            raise MalformedEvent(f"{path.name}: the journal header is cut")
        start = _HEADER.size + 8 * n_shards
        known = list(struct.unpack(f"<{n_shards}Q", bases))
        return cls(path, producer, known, start, _VERSIONS[magic])

    def read(self, limit: int) -> bytes:
        """Return up to `limit` records that were written and not sent yet."""
        with self.path.open("rb") as file:
            data = os.pread(file.fileno(), limit * self.record_size, self.offset)
        whole = data[: len(data) // self.record_size * self.record_size]
        first_bytes = whole[:: self.record_size]  # of a record never written it is 0
        # Records are written while this reads: the first that was not there yet ends what counts,
        # even where later ones are there by the time that the read gets to them.
        gap = first_bytes.find(0)
        return whole if gap < 0 else whole[: gap * self.record_size]

    @property
    def record_size(self) -> int:
        """Bytes of a record."""
        return size_of(self.version)

    def n_unsent(self) -> int:
        """Return how many records were written and not sent yet."""
        size = self.path.stat().st_size if self.path.exists() else 0
        return len(self.read(size // self.record_size)) // self.record_size if size else 0


@dataclass(slots=True)
class Journal:
    """The journal that this process writes. Not for several threads to append to."""

    root: Path
    n_shards: int
    max_bytes: int = MAX_BYTES
    segment_bytes: int = SEGMENT_BYTES
    producer: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    dropped: Counter[str] = field(default_factory=Counter)  # by Dropped
    current: Path = field(init=False)  # the segment that is being written
    _lock: int = -1
    _map: mmap.mmap | None = None
    _number: int = 0
    _size: int = 0
    _counts: list[int] = field(default_factory=list)
    _full_until: float = 0.0  # monotonic seconds
    _say_again_at: float = 0.0
    _n_said: int = 0

    @property
    def directory(self) -> Path:
        """Where the segments lie."""
        return self.root / self.producer.hex()

    @property
    def _n_streams(self) -> int:
        """How many streams there are records for: of each shard one, and that of the trail."""
        return self.n_shards + 1

    def open(self) -> None:
        """Take the directory and start the first segment."""
        # Locked before it has its name, so that nobody takes it for an orphan.
        unnamed = self.root / f".{self.producer.hex()}"
        unnamed.mkdir(parents=True, mode=0o700)
        self._lock = lock_directory(unnamed)
        unnamed.rename(self.directory)
        self._counts = [0] * self._n_streams
        self._rotate()

    def append(self, record: bytes) -> bool:
        """Write one record; return whether it is safe. Never raises: no call fails for it."""
        end = self._size + RECORD_SIZE
        is_of_trail = record[0] >= INTENT  # whose stream follows those of the shards
        if record[SHARD_OFFSET] >= self.n_shards + is_of_trail:
            self.dropped[Dropped.SHARD] += 1
            return False
        if end > self.segment_bytes:
            if not self._has_room():
                self.dropped[Dropped.DISK] += 1
                return False
            end = self._size + RECORD_SIZE
        assert self._map is not None
        # All but the first byte, then the first: a reader never sees a record without its rest.
        self._map[self._size + 1 : end] = record[1:]
        self._map[self._size] = record[0]
        self._size = end
        self._counts[record[SHARD_OFFSET]] += 1
        return True

    def close(self) -> None:
        """Let go of the directory; what was not sent is for whoever adopts it."""
        if self._map is not None:
            self._map.close()
        os.close(self._lock)

    def _has_room(self) -> bool:
        """Start the next segment; return whether the disk had room for it."""
        now = time.monotonic()
        if now < self._full_until:
            return False
        try:
            self._rotate()
        except OSError as error:
            self._full_until = now + FULL_REST_S
            self._complain(error, now)
            return False
        return True

    def _complain(self, error: OSError, now: float) -> None:
        """Say where no record can be written, and how many were lost since it was last said."""
        if now < self._say_again_at:
            return
        n_lost = self.dropped[Dropped.DISK]
        log.error(
            "the journal cannot be written: outcomes and feedback are lost, and counted",
            path=str(self.directory),
            reason=error.strerror,
            lost=n_lost - self._n_said,
            fix=what_helps(error),
        )
        self._say_again_at, self._n_said = now + SAY_AGAIN_S, n_lost

    def _rotate(self) -> None:
        path = segment_path(self.directory, self._number + 1)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        head = _HEADER.pack(_MAGIC, self.producer, self._n_streams)
        head += struct.pack(f"<{self._n_streams}Q", *self._counts)
        try:
            os.write(descriptor, head)
            _allocate(descriptor, self.segment_bytes)
            mapped = mmap.mmap(descriptor, self.segment_bytes)
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(descriptor)
        if self._map is not None:
            self._map.close()
        self._map, self._number, self._size = mapped, self._number + 1, len(head)
        self.current = path


def what_helps(error: OSError) -> str:
    """Return what helps where a journal cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room there, or set server.state_dir to a directory on another disk"
    return "let it be written again, or set server.state_dir to another directory"


def _allocate(descriptor: int, size: int) -> None:
    """Reserve the file's blocks; a system without the call gets zeros written instead."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    end = os.lseek(descriptor, 0, os.SEEK_END)
    while end < size:
        end += os.write(descriptor, bytes(min(size - end, 1 << 20)))


def segment_path(directory: Path, number: int) -> Path:
    """Return where segment `number` lies."""
    return directory / f"{number:08d}.seg"


def segments(directory: Path) -> list[Path]:
    """Return the segments of a journal, oldest first."""
    return sorted(directory.glob("*.seg"))


def sizes(directory: Path) -> list[tuple[Path, int]]:
    """Return the segments of a journal with their bytes, oldest first."""
    out = []
    for path in segments(directory):
        with suppress(FileNotFoundError):  # found no room and was taken back
            out.append((path, path.stat().st_size))
    return out


def written_at(path: Path) -> float:
    """Return when a segment was last written, in epoch seconds; of one that is gone 0."""
    with suppress(FileNotFoundError):
        return path.stat().st_mtime
    return 0.0


def n_records(path: Path) -> int:
    """Return how many records a segment holds; without a sound header, how many it may hold."""
    try:
        return Segment.open(path).n_unsent()
    except MalformedEvent:
        return len(path.read_bytes().rstrip(b"\0")) // RECORD_SIZE
    except FileNotFoundError:
        return 0


def lock_directory(directory: Path) -> int:
    """Return a descriptor that holds the journal's lock; it goes with the process.

    Raises:
        BlockingIOError: another process holds it.
    """
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    return descriptor


def orphans(root: Path, *, own: Path | None = None) -> Iterator[tuple[Path, Callable[[], None]]]:
    """Yield journals whose process is gone, locked for us, each with what lets go of it."""
    if not root.is_dir():
        return
    for directory in sorted(root.iterdir()):
        if directory == own or directory.name.startswith(".") or not directory.is_dir():
            continue
        try:
            descriptor = lock_directory(directory)
        except (BlockingIOError, FileNotFoundError):
            continue
        yield directory, lambda held=descriptor: os.close(held)  # type: ignore[misc]
