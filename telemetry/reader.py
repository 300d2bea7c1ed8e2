"""The reader: rows in the store → this process's own copy of them.

Each round asks every shard for its version, and only where one has moved for the rows that
changed since. A store that is away, or that came back with less than half of what it had, leaves
the copy as it is: an empty snapshot never replaces a full one. One that only lost its last commits,
as a replica that took over may, is believed: what it has is whole. Rows that were pruned show in
their number, and then all are read afresh.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import structlog

from telemetry import keys
from telemetry.store import Client

log = structlog.get_logger()

MAX_FIELDS = 1000
"""Rows asked for at once: 100 kB a reply."""
COUNTED = ("outcomes", "feedback")
FATES = ("resolved", "ambiguous", "too_many", "unmatched", "late", "unknown_old")
"""What became of feedback by reference, decisions that came in after it was resolved, and feedback
of any kind for old decisions that no archive holds."""
OF_RATERS = ("not_counted", "unnamed")
FIELDS = ("version", "owner", *(f"n_{name}" for name in COUNTED + FATES + OF_RATERS))
FRESH_S = 0.05
"""Between two looks at most where news keeps coming, below a thousand events a second."""


class RaterCounts(NamedTuple):
    """Labelled decisions of apps with raters, all in all."""

    not_counted: int = 0  # beyond the few that count of a rater in a cell and day
    unnamed: int = 0  # without a user: all of an app's are one rater's


NO_RATERS = RaterCounts()


@dataclass(slots=True)
class _Copy:
    """The rows of all shards, each up to a version."""

    versions: list[int]
    owners: list[bytes]
    rows: list[dict[bytes, bytes]]


@dataclass(slots=True)
class Reader:
    """A copy of all rows of all shards; not for several threads."""

    client: Client
    n_shards: int
    key_bytes: int
    row_bytes: int
    version: int = 0  # sum over shards: rises with every commit, falls with those that were lost
    n_events: int = 0  # folded, all in all
    raters: RaterCounts = NO_RATERS
    keeping: bool = False  # the store has less than this copy
    incarnation: bytes = b""
    references: dict[str, int] = field(default_factory=dict)  # by FATES
    _copy: _Copy = field(init=False)

    def __post_init__(self) -> None:
        self._copy = self._nothing([b""] * self.n_shards)

    def poll(self) -> bool:
        """Read what changed; return whether anything did.

        A shard with another owner is read whole, as are all others with it: a server may have taken
        over from another without its last commits, and their versions are given to others.

        Raises:
            redis.RedisError: the store is away; the copy stays.
        """
        pipeline = self.client.pipeline(transaction=False)
        self.ask(pipeline)
        return self.take(pipeline.execute())

    def ask(self, pipeline: Client) -> None:
        """Ask what is there as the last part of a round trip; `take` gets the replies to it."""
        pipeline.hget(keys.META, "incarnation")
        for shard in range(self.n_shards):
            pipeline.hmget(keys.meta(shard), FIELDS)
            pipeline.hlen(keys.rows(shard))

    def take(self, replies: Sequence[Any]) -> bool:
        """Read what changed, by the replies to what `ask` asked; as `poll`."""
        incarnation, *found = replies
        metas = found[::2]
        versions = [int(version or 0) for version, *_ in metas]
        owners = [owner or b"" for _, owner, *_ in metas]
        if not self._is_believed(incarnation or b"", versions):
            return False
        goes_on = self._goes_on(incarnation or b"", versions) and owners == self._copy.owners
        goes_on = goes_on and not self._is_pruned(found[1::2])
        copy = self._copy if goes_on else self._nothing(owners)
        changed = [s for s, version in enumerate(versions) if version > copy.versions[s]]
        if changed:
            self._read(copy, changed)
        for shard in changed:
            copy.versions[shard] = versions[shard]
        self._copy = copy
        self.incarnation = incarnation or b""
        self.version = sum(versions)
        names = COUNTED + FATES + OF_RATERS
        counts = {n: sum(int(meta[2 + i] or 0) for meta in metas) for i, n in enumerate(names)}
        self.n_events = sum(counts[name] for name in COUNTED)
        self.references = {name: counts[name] for name in FATES}
        self.raters = RaterCounts(*(counts[name] for name in OF_RATERS))
        return bool(changed)

    def rows(self) -> tuple[bytes, bytes]:
        """Return all keys and all rows, back to back, in one order."""
        copy = self._copy.rows
        return b"".join(map(b"".join, copy)), b"".join(b"".join(rows.values()) for rows in copy)

    @property
    def n_rows(self) -> int:
        """How many rows are known."""
        return sum(map(len, self._copy.rows))

    def _nothing(self, owners: list[bytes]) -> _Copy:
        return _Copy([0] * self.n_shards, owners, [{} for _ in range(self.n_shards)])

    def _is_pruned(self, n_rows: list[int]) -> bool:
        """Return whether the store has fewer rows than this copy, though not less than half.

        Rows only ever come, unless they are pruned; those that came since count at the next look.
        """
        known = map(len, self._copy.rows)
        fewer = any(now < before for now, before in zip(n_rows, known, strict=True))
        return fewer and 2 * sum(n_rows) >= self.n_rows

    def _goes_on(self, incarnation: bytes, versions: list[int]) -> bool:
        """Return whether the store has everything that this copy has."""
        pairs = zip(versions, self._copy.versions, strict=True)
        return incarnation == self.incarnation and all(new >= old for new, old in pairs)

    def _is_believed(self, incarnation: bytes, versions: list[int]) -> bool:
        """Return whether what the store has may replace this copy."""
        left = sum(versions)
        if self._goes_on(incarnation, versions) or self.version == 0:
            pass
        elif incarnation == self.incarnation and 2 * left >= self.version:
            log.warning("the store lost its last commits", lost=self.version - left)
        elif incarnation and left >= self.version:
            log.warning("the store is another one: reading it from its beginning")
        else:
            if not self.keeping:
                log.error("the store came back with less than it had: keeping the last posteriors")
            self.keeping = True
            return False
        self.keeping = False
        return True

    def _read(self, copy: _Copy, shards: list[int]) -> None:
        """Read the rows of these shards that changed since: two round trips for all of them."""
        pipeline = self.client.pipeline(transaction=False)
        for shard in shards:
            since = copy.versions[shard]
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
            sizes = set(map(len, names)), {None if row is None else len(row) for row in rows}
            if sizes != ({self.key_bytes}, {self.row_bytes}):
                names, rows = self._sound(shard, names, rows)
            copy.rows[shard].update(zip(names, rows, strict=True))

    def _sound(
        self, shard: int, names: list[bytes], rows: list[bytes | None]
    ) -> tuple[list[bytes], list[bytes]]:
        """Return the rows of the right size; one that was pruned between the two reads is none."""
        there = {name: row for name, row in zip(names, rows, strict=True) if row is not None}
        kept = {
            name: row
            for name, row in there.items()
            if len(row) == self.row_bytes and len(name) == self.key_bytes
        }
        if n_bad := len(there) - len(kept):
            log.error("rows of a wrong size were left out", shard=shard, n=n_bad)
        return list(kept), list(kept.values())


def fates_of_references(client: Client, n_shards: int) -> dict[str, int]:
    """Return what became of feedback by reference, by FATES, over all shards.

    Raises:
        redis.RedisError: the store is away.
    """
    pipeline = client.pipeline(transaction=False)
    for shard in range(n_shards):
        pipeline.hmget(keys.meta(shard), [f"n_{name}" for name in FATES])
    counts = pipeline.execute()
    return {name: sum(int(found[i] or 0) for found in counts) for i, name in enumerate(FATES)}
