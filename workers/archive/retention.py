"""How long the archive keeps files, and what is left to begin from where they go.

Files go from the oldest on. What stays must still be checkable: so before they go, a base takes
the place of the last of them, with its state and the labels of 30 days.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from telemetry import keys
from workers.archive import files as archive_files
from workers.archive import indexing
from workers.archive.archive import Archive, locked
from workers.archive.files import HEARD_SINCE, ArchiveFile, Damaged
from workers.archive.rebuilt import Rebuilt

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Keep:
    """What the archive keeps, of all shards together."""

    days: float
    max_bytes: int


def prune(archive: Archive, keep: Keep, *, now_ms: int) -> int:
    """Delete files that are too old or too many; return how many.

    Raises:
        OSError: a base cannot be written; then nothing of that shard is deleted.
    """
    return sum(_prune_shard(archive, s, keep, now_ms=now_ms) for s in range(archive.n_shards))


def _prune_shard(archive: Archive, shard: int, keep: Keep, *, now_ms: int) -> int:
    directory = archive.directory(shard)
    with locked(directory) as mine, locked(directory, "readers.lock") as unread:
        if not mine or not unread:
            return 0  # the next round will do
        found = archive_files.list_files(directory)
        if not found:
            return 0
        chain = archive_files.chains(found)[-1]
        others = [file for file in found if file not in chain]
        room = keep.max_bytes // archive.n_shards
        old = {u for u in found if archive_files.age_days(u, now_ms=now_ms) > keep.days}
        gone = old | set(_too_many([*others, *chain[:-1]], found, room))
        n = 0
        while n < len(chain) - 1 and chain[n] in gone:
            n += 1
        if n == 1 and chain[0].is_base:
            n = 0  # it is what the rest begins from
        if n:
            _begin_from(chain[:n])
        leaving = [file for file in others if file in gone] + chain[:n]
        for file in leaving:
            archive_files.delete(file)
        early = [file for file in leaving if file not in old]
        if early:
            log.warning("the archive is full: its oldest files go", shard=shard, files=len(early))
            archive.client.hincrby(keys.meta(shard), "n_archive_files_dropped", len(early))
        return len(leaving)


def _too_many(
    candidates: list[ArchiveFile], found: list[ArchiveFile], room: int
) -> list[ArchiveFile]:
    """Return the first candidates without which the files fit."""
    total = sum(archive_files.n_bytes(file) for file in found)
    gone = []
    for file in candidates:
        if total <= room:
            break
        total -= archive_files.n_bytes(file)
        gone.append(file)
    return gone


def _begin_from(chain: list[ArchiveFile]) -> ArchiveFile | None:
    """Write a base with the state at the end of a chain that goes; None where none can be had."""
    state = Rebuilt()
    content = archive_files.Content()
    whole, since_ms = archive_files.is_whole(chain), 0
    for file in chain:
        try:
            content = archive_files.read(file)
        except Damaged as error:
            log.error("a file of the archive is damaged", file=error.path.name)
            whole = False
            continue
        if file.is_base:
            since_ms = content.heard_since_ms
        else:
            state.follow(content)
        state.stand_at(content)
    if not whole:
        return None
    state.forget()
    content.entries = {}
    content.meta[HEARD_SINCE] = b"%d" % since_ms
    state.put_into(content)
    base = archive_files.write(chain[-1].path.parent, content, start=None)
    indexing.make(base, content)
    return base
