"""Indexes kept whole: made where they are missing or damaged, deleted where their file is gone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from workers.archive import files as archive_files
from workers.archive import index, indexing
from workers.archive.archive import Archive, locked
from workers.archive.files import INDEX_SUFFIX, ArchiveFile, Damaged
from workers.archive.index import DamagedIndex, Index

log = structlog.get_logger()


def ensure(archive: Archive, between: Callable[[], object] = lambda: None) -> int:
    """Make the indexes that are missing or damaged; return how many.

    An index that belongs to no file is deleted. Where somebody else works on the shard, what is
    missing is left to the next time.

    Args:
        between: called before each is made, for who has something else to do meanwhile.
    """
    n = 0
    for directory in map(archive.directory, range(archive.n_shards)):
        for file in archive_files.list_files(directory):
            try:
                index.read_head(file)
            except (DamagedIndex, OSError):
                between()
                with suppress(FileNotFoundError, Damaged):
                    n += _make(file)[1]
        if any(directory.glob(f"*{INDEX_SUFFIX}")):
            _sweep(directory)
    return n


def opened(file: ArchiveFile, unread: set[str], oldest_ms: int | None = None) -> Index | None:
    """Return the index of a file, made where it must be; None where the file is damaged.

    Args:
        unread: names of such files; is kept up to date.
        oldest_ms: None as well where all decisions in it were made before.

    Raises:
        FileNotFoundError: the file is gone.
    """
    if file.path.name in unread:
        return None
    try:
        head = index.read_head(file)
        if oldest_ms is not None and head.newest_ms < oldest_ms:
            return None
        return index.read(file, head)
    except (DamagedIndex, OSError):
        pass  # of one that is there and may not be read, another is made, in memory
    try:
        return _make(file)[0]
    except Damaged:
        unread.add(file.path.name)
        return None


def _make(file: ArchiveFile) -> tuple[Index, bool]:
    """Return the index of a file, made anew, and whether it is kept.

    Raises:
        Damaged, FileNotFoundError: as of the file.
    """
    try:
        content = archive_files.read(file)
    except Damaged as error:
        log.error("a file of the archive is damaged", file=error.path.name)
        raise
    with suppress(OSError), locked(file.path.parent) as mine:
        if mine and file.path.exists():  # not ours, it is made again another time
            return index.parse(indexing.make(file, content), file.digest), True
    return index.parse(indexing.build(file, content), file.digest), False


def _sweep(directory: Path) -> None:
    """Delete indexes that belong to no file, unless somebody else works here."""
    with locked(directory) as mine:
        own = {file.index_path for file in archive_files.list_files(directory)}
        for path in directory.glob(f"*{INDEX_SUFFIX}"):
            if mine and path not in own:
                path.unlink(missing_ok=True)
