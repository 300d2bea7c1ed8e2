"""What `pointsman check --live` found of endpoints, and when: kept, told, and not used.

An endpoint is known by its digest, which another address, model or setting changes: what was found
of it then holds no more. Nothing is decided by what is kept here: routing goes by what is declared.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import msgspec
from msgspec import Struct

from router.endpoints.capabilities import Capability

FILE = "verified.json"
MOST_KEPT = 10_000
"""Endpoints: those checked last are kept."""
MOST_BYTES = 64 << 20
"""More than so many endpoints take; what is longer is none of ours."""


class Verified(Struct, frozen=True):
    """What was found of one endpoint."""

    endpoint: str  # its id then
    at_ms: int
    found: dict[str, bool]  # capabilities, and `stream_usage`; what could not be told is left out
    served: str | None = None  # the name that its answers carry

    @property
    def on(self) -> str:
        """The day, in UTC."""
        return datetime.fromtimestamp(self.at_ms / 1000, UTC).date().isoformat()

    def of(self, capability: Capability) -> bool | None:
        """Return whether it was found; None: not looked for, or it could not be told."""
        return self.found.get(capability.value)


NOTHING: Mapping[int, Verified] = {}


def read_verified(state_dir: Path) -> Mapping[int, Verified]:
    """Return what is kept, by endpoint digest; nothing where it cannot be read, or is no file."""
    path = state_dir / FILE
    try:
        found = path.stat()
    except OSError:
        return NOTHING
    if not stat.S_ISREG(found.st_mode) or found.st_size > MOST_BYTES:
        return NOTHING  # who opens a pipe waits for whoever writes into it
    return _parsed(path, found.st_ino, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=4)
def _parsed(path: Path, *_: int) -> Mapping[int, Verified]:
    """Return what a file holds, once for each version of it."""
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=dict[str, Verified])
        found = {int(digest, 16): one for digest, one in kept.items()}
        return {digest: one for digest, one in found.items() if one.on}
    except (OSError, ValueError, OverflowError):  # of msgspec as well
        return NOTHING


def keep_verified(state_dir: Path, fresh: Mapping[int, Verified]) -> None:
    """Put what was found beside what is kept of other endpoints; its owner alone may read it.

    Raises:
        OSError: it cannot be written; what is there stays.
    """
    every = {**read_verified(state_dir), **fresh}
    last = sorted(every, key=lambda digest: -every[digest].at_ms)[:MOST_KEPT]
    value = msgspec.json.encode({f"{digest:016x}": every[digest] for digest in last})
    path = state_dir / f".{FILE}.{secrets.token_hex(4)}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(value)
            file.flush()
            os.fsync(descriptor)
        path.rename(state_dir / FILE)
    except OSError:
        path.unlink(missing_ok=True)
        raise
