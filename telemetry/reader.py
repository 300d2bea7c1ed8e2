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
class _Shard:
    """The rows of one shard up to a version, back to back in the order in which they came."""

    owner: bytes
    version: int = 0
    places: dict[bytes, int] = field(default_factory=dict)  # by key, where its row is
    keys: bytearray = field(default_factory=bytearray)
    rows: bytearray = field(default_factory=bytearray)

    def put(self, names: list[bytes], rows: list[bytes]) -> None:
        """Take rows for those that are known under these keys, and what is new."""
        places = self.places
        for name, row in zip(names, rows, strict=True):
            at = places.get(name)
            if at is None:
                places[name] = len(self.rows)
                self.keys += name
                self.rows += row
            else:
                self.rows[at : at + len(row)] = row


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
    _shards: list[_Shard] = field(init=False)
    _keys: bytes = b""  # of all rows

    def __post_init__(self) -> None:
        self._shards = [_Shard(b"") for _ in range(self.n_shards)]

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
        """Ask what is there as the last part of a round trip; `take` gets the replies to it.

        The rows that changed are named after the version, so that none of that version is missed.
        """
        pipeline.hget(keys.META, "incarnation")
        for shard, known in enumerate(self._shards):
            pipeline.hmget(keys.meta(shard), FIELDS)
            pipeline.hlen(keys.rows(shard))
            pipeline.zrangebyscore(keys.touched(shard), f"({known.version}", "+inf")

    def take(self, replies: Sequence[Any]) -> bool:
        """Read what changed, by the replies to what `ask` asked; as `poll`."""
        incarnation, metas, touched = replies[0] or b"", replies[1::3], replies[3::3]
        versions = [int(version or 0) for version, *_ in metas]
        owners = [owner or b"" for _, owner, *_ in metas]
        if not self._is_believed(incarnation, versions):
            return False
        shards = self._shards
        goes_on = self._goes_on(incarnation, versions) and owners == [s.owner for s in shards]
        if not goes_on or self._is_pruned(replies[2::3]):
            shards, touched = [_Shard(owner) for owner in owners], self._all_names()
        changed = [n for n, version in enumerate(versions) if version > shards[n].version]
        if changed:
            self._read(shards, {n: touched[n] for n in changed})
        for n in changed:
            shards[n].version = versions[n]
        self._shards = shards
        self.incarnation = incarnation
        self.version = sum(versions)
        names = COUNTED + FATES + OF_RATERS
        counts = {n: sum(int(meta[2 + i] or 0) for meta in metas) for i, n in enumerate(names)}
        self.n_events = sum(counts[name] for name in COUNTED)
        self.references = {name: counts[name] for name in FATES}
        self.raters = RaterCounts(*(counts[name] for name in OF_RATERS))
        return bool(changed)

    def rows(self) -> tuple[bytes, bytes]:
        """Return all keys and all rows, back to back, in one order.

        The keys are the same object for as long as no row comes.
        """
        found = b"".join(shard.keys for shard in self._shards)
        if found != self._keys:
            self._keys = found
        return self._keys, b"".join(shard.rows for shard in self._shards)

    @property
    def n_rows(self) -> int:
        """How many rows are known."""
        return sum(len(shard.places) for shard in self._shards)

    def _all_names(self) -> list[list[bytes]]:
        """Ask for the names of all rows, by shard."""
        pipeline = self.client.pipeline(transaction=False)
        for shard in range(self.n_shards):
            pipeline.zrangebyscore(keys.touched(shard), "(0", "+inf")
        found: list[list[bytes]] = pipeline.execute()
        return found

    def _is_pruned(self, n_rows: Sequence[int]) -> bool:
        """Return whether the store has fewer rows than this copy, though not less than half.

        Rows only ever come, unless they are pruned; those that came since count at the next look.
        """
        known = (len(shard.places) for shard in self._shards)
        fewer = any(now < before for now, before in zip(n_rows, known, strict=True))
        return fewer and 2 * sum(n_rows) >= self.n_rows

    def _goes_on(self, incarnation: bytes, versions: list[int]) -> bool:
        """Return whether the store has everything that this copy has."""
        pairs = zip(versions, self._shards, strict=True)
        return incarnation == self.incarnation and all(new >= old.version for new, old in pairs)

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

    def _read(self, shards: list[_Shard], touched: dict[int, list[bytes]]) -> None:
        """Read the rows of these names, by shard, in one round trip."""
        parts = [
            (shard, names[start : start + MAX_FIELDS])
            for shard, names in touched.items()
            for start in range(0, len(names), MAX_FIELDS)
        ]
        pipeline = self.client.pipeline(transaction=False)
        for shard, names in parts:
            pipeline.hmget(keys.rows(shard), names)
        for (shard, names), rows in zip(parts, pipeline.execute(), strict=True):
            sizes = set(map(len, names)), {None if row is None else len(row) for row in rows}
            if sizes != ({self.key_bytes}, {self.row_bytes}):
                names, rows = self._sound(shard, names, rows)
            shards[shard].put(names, rows)

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
