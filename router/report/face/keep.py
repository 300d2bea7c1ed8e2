"""A document as a file: whole or not at all, and its owner's alone."""

from __future__ import annotations

import os
import stat
import sys
from errno import EISDIR
from pathlib import Path

STDOUT = Path("-")
DEVICES = Path("/dev")


def keep(html: str, to: Path) -> None:
    """Write a document in one step, over what was there; `-` is the standard output.

    What is no file (a pipe, `/dev/stdout`) is written to, and stays what it is.

    Raises:
        OSError: it cannot be written there.
    """
    if to == STDOUT:
        sys.stdout.write(html)
        return
    kind = _kind(to)
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(EISDIR, os.strerror(EISDIR))
    if to.is_relative_to(DEVICES) or (kind and not stat.S_ISREG(kind)):
        with to.open("wb") as out:
            out.write(html.encode())
        return
    fresh = to.with_name(f".{to.name}.{os.getpid()}")
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(file, "wb") as out:
            out.write(html.encode())
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(to)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def _kind(to: Path) -> int:
    """Return what is there, where a link leads; 0: nothing."""
    try:
        return to.stat().st_mode
    except FileNotFoundError:
        return 0
