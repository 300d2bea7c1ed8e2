"""Which records of the last days a job reads: of the newest files, and of what is in none yet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from telemetry import keys
from workers.archive import files as archive_files
from workers.archive.archive import Archive
from workers.archive.files import ArchiveFile
from workers.folding.batch import DAY_MS, START, position, take_apart

QUIET_MS = 3_600_000
"""Where no record came, only time changes what there is to say."""
SHARE = 50
"""A job that reads all of it may take this part of one core."""


@dataclass(frozen=True, slots=True)
class RecentFiles:
    """Files that are read, the newest first."""

    files: list[ArchiveFile]
    since_ms: int  # all that came from then on is in them
    is_truncated: bool  # for want of room


def choose(found: list[ArchiveFile], *, days: int, most_bytes: int, now_ms: int) -> RecentFiles:
    """Return the files of the last days, the newest first, as many as are read at once."""
    since_ms, room, chosen = now_ms - days * DAY_MS, most_bytes, list[ArchiveFile]()
    since_ms = max([since_ms, *_begins(found)])
    for file in sorted(found, key=lambda file: position(file.mark), reverse=True):
        if archive_files.age_days(file, now_ms=now_ms) > days:
            break
        room -= file.path.stat().st_size
        if room < 0:
            return RecentFiles(chosen, max(since_ms, position(file.mark)[0]), is_truncated=True)
        chosen.append(file)
    return RecentFiles(chosen, since_ms, is_truncated=False)


def _begins(found: list[ArchiveFile]) -> list[int]:
    """Return since when each shard's records are there, in ms."""
    oldest: dict[object, int] = {}
    for file in found:
        begin = position(file.mark if file.start is None else file.start)[0]
        shard = file.path.parent
        oldest[shard] = min(begin, oldest.get(shard, begin))
    return list(oldest.values())


def tail(archive: Archive, *, most_bytes: int) -> Iterator[NDArray[np.void]]:
    """Yield what is folded and in no file yet, by shard; nothing where that is too much."""
    spans = []
    for shard in range(archive.n_shards):
        fields = ["archived", "mark", "n_bytes", "archived_bytes"]
        archived, mark, n_bytes, kept = archive.client.hmget(keys.meta(shard), fields)
        most_bytes -= int(n_bytes or 0) - int(kept or 0)
        if mark is not None and mark != archived:
            spans.append((shard, archived or START, mark))
    for shard, after, upto in spans if most_bytes >= 0 else ():
        frames = archive.entries(shard, after, upto)
        yield take_apart([(entry, {b"f": frame}) for entry, frame in frames.items()], {}).records


def marks(archive: Archive) -> list[str]:
    """Return up to where each shard is folded."""
    pipeline = archive.client.pipeline(transaction=False)
    for shard in range(archive.n_shards):
        pipeline.hget(keys.meta(shard), "mark")
    return [(mark or START).decode() for mark in pipeline.execute()]


def is_due(last: bytes | None, now: list[str], *, now_ms: int) -> bool:
    """Return whether figures are to be worked out again.

    Args:
        last: what was left of them: `at_ms`, `took_s`, and `marks` as of then.
        now: marks.
    """
    if last is None:
        return True
    found = json.loads(last)
    age_ms = now_ms - found["at_ms"]
    if found["marks"] == now and age_ms < QUIET_MS:
        return False
    return bool(age_ms >= SHARE * 1000 * found["took_s"] or age_ms < 0)
