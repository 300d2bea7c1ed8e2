"""The reader: rows in the store → this process's own copy of them.

Each round asks every shard for its version, and only where one has moved for the rows that
changed since. A store that is away, or that came back with less than it had, leaves the copy as
it is: an empty snapshot never replaces a full one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import structlog

from telemetry import keys
from telemetry.store import Client

log = structlog.get_logger()

MAX_FIELDS = 1000
"""Rows asked for at once: 100 kB a reply."""
POLL_S = 0.04
"""Between looks at the store where no message ends the wait earlier."""
DEBOUNCE_S = 0.008
"""Between looks at least, however many messages come: a busy store commits more often."""
MAX_BUSY_SHARE = 0.15
"""Reading and building may take this share of a thread's time; then it looks less often."""


@dataclass(slots=True)
class Reader:
    """A copy of all rows of all shards; not for several threads."""

    client: Client
    n_shards: int
    key_bytes: int
    row_bytes: int
    version: int = 0  # sum over shards: rises with every commit that was read
    n_bad_rows: int = 0  # rows of a wrong size, left out
    keeping: bool = False  # the store has less than this copy
    incarnation: bytes = b""
    _versions: list[int] = field(default_factory=list)
    _slots: dict[bytes, int] = field(default_factory=dict)
    _keys: bytearray = field(default_factory=bytearray)
    _rows: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self._versions = [0] * self.n_shards

    def poll(self) -> bool:
        """Read what changed; return whether anything did.

        Raises:
            redis.RedisError: the store is away; the copy stays.
        """
        pipeline = self.client.pipeline(transaction=False)
        pipeline.hget(keys.META, "incarnation")
        for shard in range(self.n_shards):
            pipeline.hget(keys.meta(shard), "version")
        incarnation, *found = pipeline.execute()
        versions = [int(v or 0) for v in found]
        if not self._is_same_store(incarnation or b"", versions):
            return False
        changed = [s for s, version in enumerate(versions) if version > self._versions[s]]
        if changed:
            self._read(changed)
        for shard in changed:
            self._versions[shard] = versions[shard]
        self.version = sum(self._versions)
        return bool(changed)

    def rows(self) -> tuple[bytes, bytes]:
        """Return all keys and all rows, back to back, in one order."""
        return bytes(self._keys), bytes(self._rows)

    @property
    def n_rows(self) -> int:
        """How many rows are known."""
        return len(self._slots)

    def _is_same_store(self, incarnation: bytes, versions: list[int]) -> bool:
        behind = any(new < old for new, old in zip(versions, self._versions, strict=True))
        if incarnation == self.incarnation and not behind:
            self.keeping = False
            return True
        if self.version == 0 or (incarnation and sum(versions) >= self.version):
            if self.version:
                log.warning("the store is another one: reading it from its beginning")
            self._forget()
            self.incarnation, self.keeping = incarnation, False
            return True
        if not self.keeping:
            self.keeping = True
            log.error("the store came back with less than it had: keeping the last posteriors")
        return False

    def _forget(self) -> None:
        self._versions = [0] * self.n_shards
        self._slots.clear()
        self._keys.clear()
        self._rows.clear()

    def _read(self, shards: list[int]) -> None:
        """Read the rows of these shards that changed since: two round trips for all of them."""
        pipeline = self.client.pipeline(transaction=False)
        for shard in shards:
            since = self._versions[shard]
            pipeline.zrangebyscore(keys.touched(shard), f"({since}", "+inf")
        parts = [
            (shard, names[start : start + MAX_FIELDS])
            for shard, names in zip(shards, pipeline.execute(), strict=True)
            for start in range(0, len(names), MAX_FIELDS)
        ]
        pipeline = self.client.pipeline(transaction=False)
        for shard, names in parts:
            pipeline.hmget(keys.rows(shard), names)
        for (shard, names), rows in zip(parts, pipeline.execute(), strict=True):
            for name, row in zip(names, rows, strict=True):
                self._keep(shard, name, row)

    def _keep(self, shard: int, name: bytes, row: bytes | None) -> None:
        if row is None:  # pruned between the two reads
            return
        if len(row) != self.row_bytes or len(name) != self.key_bytes:
            self.n_bad_rows += 1
            log.error("a row of a wrong size was left out", shard=shard, size=len(row))
            return
        slot = self._slots.setdefault(shard.to_bytes(2, "big") + name, len(self._slots))
        if slot * self.row_bytes == len(self._rows):
            self._keys += name
            self._rows += row
        else:
            self._rows[slot * self.row_bytes : (slot + 1) * self.row_bytes] = row
