"""The audit trail: from its stream into files of its own, kept as long as `audit.keep_days` says.

First the file, then the mark and the trim, in one step: killed between, the same entries are added
once more, and whoever reads them takes each record once. What is not archived is never trimmed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import structlog

from telemetry import frames, keys, scripts
from telemetry.errors import MalformedEvent
from telemetry.store import Client
from workers.archive import trail_files
from workers.archive.archive import HOLDER_TTL_MS, identity, locked, next_id
from workers.archive.trail_files import DAY_MS, KEPT_SINCE, TrailFrame
from workers.folding.batch import START, position

log = structlog.get_logger()

READ_ENTRIES = 128
DUE_ENTRIES = 2048
"""So many wait at most for the next file: some megabytes of the store."""
MAX_ROUNDS = 200
"""Of a call; what is left is for the next one."""


@dataclass(frozen=True, slots=True)
class Trail:
    """The audit trail as one archive takes it."""

    client: Client
    root: Path  # of the archive
    n_shards: int

    @property
    def directory(self) -> Path:
        """Where its files lie."""
        return self.root / "trail"

    def take(self, *, now_ms: int, every_s: float) -> int:
        """Archive what is due, if it is ours to take; return how many entries.

        Raises:
            OSError: a file cannot be written; then nothing of that is trimmed.
            redis.RedisError: the store is away.
        """
        if not self.is_due(now_ms=now_ms, every_s=every_s) or not self.holds():
            return 0
        mark, n = self._mark(), 0
        with locked(self.directory) as mine:
            for _ in range(MAX_ROUNDS if mine else 0):
                found = self.client.xrange(self._stream, min=next_id(mark), count=READ_ENTRIES)
                if not found:
                    break
                trail_files.add(self.directory, _frames_of(found))
                mark = found[-1][0]
                self._pass(mark)
                n += len(found)
        return n

    def is_due(self, *, now_ms: int, every_s: float) -> bool:
        """Return whether there is enough to archive, or something that waited long enough."""
        oldest = self.client.xrange(self._stream, min=next_id(self._mark()), count=1)
        if not oldest:
            return False
        is_old = now_ms - position(oldest[0][0])[0] >= every_s * 1000
        return is_old or self.client.xlen(self._stream) >= DUE_ENTRIES

    def prune(self, *, days: float, now_ms: int) -> int:
        """Delete the files of days that need not be kept any more; return how many."""
        first = int(now_ms - days * DAY_MS) // DAY_MS
        n = 0
        with locked(self.directory) as mine:
            old = [path for day, path in trail_files.days(self.directory) if mine and day < first]
            if old:
                self._say_kept_since(first * DAY_MS)
            for path in old:
                path.unlink(missing_ok=True)
                n += 1
        return n

    @property
    def _stream(self) -> str:
        return keys.stream(self.n_shards)

    def _mark(self) -> bytes:
        return self.client.get(keys.trail_mark(self.n_shards)) or START

    def holds(self) -> bool:
        """Return whether this archive is the one that takes it: of two each would have holes."""
        owner = identity(self.root)
        return scripts.hold(self.client, keys.TRAIL_KEEPER, owner=owner, ttl_ms=HOLDER_TTL_MS)

    def _pass(self, mark: bytes) -> None:
        pipeline = self.client.pipeline(transaction=True)
        pipeline.set(keys.trail_mark(self.n_shards), mark)
        pipeline.xtrim(self._stream, minid=next_id(mark), approximate=False)
        pipeline.execute()

    def _say_kept_since(self, at_ms: int) -> None:
        """Say it before anything goes, so that what is gone is not taken for lost."""
        fresh = self.directory / f".{KEPT_SINCE}"
        fresh.write_text(str(at_ms))
        fresh.replace(self.directory / KEPT_SINCE)


def _frames_of(entries: list[tuple[bytes, dict[bytes, bytes]]]) -> list[TrailFrame]:
    """Return the frames in entries; one that cannot be read is missing by its numbers."""
    out = []
    for entry_id, fields in entries:
        try:
            frame = frames.unpack(fields.get(b"f", b""))
        except MalformedEvent as error:
            log.error("an entry of the audit trail cannot be read", error=str(error))
            continue
        out.append(TrailFrame(position(entry_id)[0], frame))
    return out
