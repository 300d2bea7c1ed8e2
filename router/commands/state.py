"""The state directory, before anything is written there: can it be used, and else why not."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from router.commands.console import BAD_INPUT, fail

PARTS = ("journal", "decisions", "archive", "store")
FIXES = {
    errno.EACCES: "give its owner, or whoever runs pointsman, the right to write there",
    errno.EPERM: "give its owner, or whoever runs pointsman, the right to write there",
    errno.EROFS: "the file system is read-only; name a directory on another one",
    errno.ENOSPC: "the disk is full; make room, or name a directory on another one",
    errno.EDQUOT: "the quota is used up; make room, or name a directory on another disk",
    errno.ENOTDIR: "a part of this path is a file; name a directory",
    errno.EEXIST: "this is a file; name a directory",
    errno.ENAMETOOLONG: "name a shorter path",
}


def require_state(directory: Path) -> None:
    """See to it that the state directory is there and can be written, or end with a word of why."""
    with naming_state(directory):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for part in (directory, *(directory / name for name in PARTS)):
            if part == directory or part.exists():
                _try_to_write(part)


@contextmanager
def naming_state(directory: Path) -> Iterator[None]:
    """Say in one line what keeps the state directory from being used."""
    try:
        yield
    except OSError as error:
        named = error.filename
        within = isinstance(named, str | bytes | os.PathLike) and _is_within(directory, named)
        if not within and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = Path(os.fsdecode(named)) if within else directory
        fix = FIXES.get(error.errno or 0, "set server.state_dir to a directory that can be written")
        fail(f"server.state_dir: {where}: {error.strerror}: {fix}", BAD_INPUT)


def _try_to_write(directory: Path) -> None:
    with tempfile.TemporaryFile(dir=directory) as file:
        file.write(b"\0")


def _is_within(directory: Path, named: str | bytes | os.PathLike[str]) -> bool:
    """Return whether a path is the directory, one in it, or one on the way to it."""
    path, directory = Path(os.fsdecode(named)).absolute(), directory.absolute()
    return path.is_relative_to(directory) or directory.is_relative_to(path)
