"""A document as a file: whole or not at all, and its owner's alone."""

from __future__ import annotations

import os
import sys
from pathlib import Path

STDOUT = Path("-")


def keep(html: str, to: Path) -> None:
    """Write a document in one step, over what was there; `-` is the standard output.

    Raises:
        OSError: it cannot be written there.
    """
    if to == STDOUT:
        sys.stdout.write(html)
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
