"""Two lanes in which shards are folded beside each other, where rounds are full.

A round reads, asks, works out and commits; worker and store take turns in it, and each would rest
half of the time. Shards have nothing to do with one another: so while the store commits those of
one lane the worker is at those of the other. Where little comes there is one lane, and no thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from telemetry.store import Client
from telemetry.streams import read_streams
from telemetry.topology import spans_slots
from workers.folding.lease import Lease
from workers.folding.shard import Shard
from workers.folding.together import fold_together

READ_ENTRIES = 32
"""Entries a shard and round: up to 8,192 records, so that a commit stays far below the lease, and
keeps others that use the store waiting for some 20 ms at most. Rows that many records change are
written once a commit."""
FULL_ENTRIES = 16
"""From so many entries of a shard on a round counts as full, and the next one begins at once."""
LANES_S = 0.25
"""For how long lanes go on before leases are looked at: less than half of their renewal time."""

Held = Mapping[int, tuple[Shard, Lease]]


@dataclass(slots=True)
class Folded:
    """What became of a round, or of some."""

    n_records: int = 0  # that took effect
    is_full: bool = False  # more waits, or will soon
    lost: list[int] = field(default_factory=list)  # shards that are another's

    def add(self, other: Folded) -> None:
        """Count another lane's as well."""
        self.n_records += other.n_records
        self.is_full |= other.is_full
        self.lost += other.lost


def fold_round(client: Client, held: Held, *, block_ms: int) -> Folded:
    """Fold the next entries of shards; where there are none wait for them.

    Raises:
        redis.RedisError: what was committed is not known; load the shards anew.
    """
    marks = {number: shard.mark for number, (shard, _) in held.items()}
    found = read_streams(client, marks, count=READ_ENTRIES, block_ms=block_ms)
    if not found:
        return Folded()
    own = [held[number] for number in found]
    work = [(s, e, lease.token) for (s, lease), e in zip(own, found.values(), strict=True)]
    folded = dict(zip(found, fold_together(client, work), strict=True))
    return Folded(
        sum(n or 0 for n in folded.values()),
        max(map(len, found.values())) >= FULL_ENTRIES,
        [number for number, n in folded.items() if n is None],
    )


def fold_abreast(
    client: Client, held: Held, *, clock: Callable[[], float] = time.monotonic
) -> Folded:
    """Fold what waits of several shards, in two lanes, until nothing does or some time has passed.

    Raises:
        redis.RedisError: as `fold_round` has it, of any of the shards.
    """
    if len(held) < 2 or spans_slots(client):
        return fold_round(client, held, block_ms=0)
    ends_at = clock() + LANES_S
    lanes = [Lane(client, {n: held[n] for n in sorted(held)[i::2]}) for i in range(2)]
    beside = threading.Thread(target=lanes[1].run, args=(clock, ends_at), name="lane")
    beside.start()
    lanes[0].run(clock, ends_at)
    beside.join()  # its shards are nobody's to touch before
    for lane in lanes:
        if lane.error is not None:
            raise lane.error
    out = Folded()
    for lane in lanes:
        out.add(lane.folded)
    return out


@dataclass(slots=True)
class Lane:
    """Some of the shards, folded by one thread."""

    client: Client
    held: dict[int, tuple[Shard, Lease]]
    folded: Folded = field(default_factory=Folded)
    error: BaseException | None = None

    def run(self, clock: Callable[[], float], ends_at: float) -> None:
        """Fold until nothing more waits, or it is time."""
        try:
            while self.held:
                found = fold_round(self.client, self.held, block_ms=0)
                for number in found.lost:
                    del self.held[number]
                self.folded.n_records += found.n_records
                self.folded.lost += found.lost
                self.folded.is_full = found.is_full
                if not found.is_full or clock() >= ends_at:
                    return
        except BaseException as error:
            self.error = error
