"""Where the jobs of a process work."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

from telemetry.store import Address, connect
from workers.archive.archive import EVERY_S, Archive
from workers.archive.retention import Keep
from workers.archive.thaw import Thawing
from workers.archive.trail import Trail

TRAIL_DAYS = 400.0
TIMEOUT_S = 10.0
"""A checkpoint of 100,000 rows is one reply of 10 MB."""


@dataclass(frozen=True, slots=True)
class Place:
    """Store and archive, and how long what is kept."""

    address: Address
    root: Path  # of the archive
    n_shards: int
    keep: Keep
    every_s: float = EVERY_S  # a file at least
    trail_days: float = TRAIL_DAYS
    stop: threading.Event = field(default_factory=threading.Event)
    thawing: Thawing = field(default_factory=Thawing)

    def archive(self) -> Archive:
        """Return the archive, with a connection of its own."""
        return Archive(connect(self.address, timeout_s=TIMEOUT_S), self.root, self.n_shards)

    def trail(self) -> Trail:
        """Return the audit trail, with a connection of its own."""
        return Trail(connect(self.address, timeout_s=TIMEOUT_S), self.root, self.n_shards)
