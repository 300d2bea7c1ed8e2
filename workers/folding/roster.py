"""Who is at work, and how many shards each may hold.

Every worker signs on for a while, again and again, and counts who else did. Views may differ for a
moment: then a shard rests, or a worker holds one too many until it looks again. Two never fold one
shard: that is the lease's promise, not this one's.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from telemetry.scripts import sign_on
from telemetry.store import Client

TTL_MS = 2000
"""Below a lease's: who is killed no longer counts by the time its shards come free."""


def share(n_shards: int, workers: Sequence[str], me: str) -> int:
    """Return how many shards `me` may hold; the shares of all workers make up `n_shards`.

    Args:
        workers: everybody at work, in one order for all. Without `me` among them, `me` is new
            and comes last.
    """
    names = [*workers] if me in workers else [*workers, me]
    each, left = divmod(n_shards, len(names))
    return each + (names.index(me) < left)


@dataclass(slots=True)
class Roster:
    """This worker's entry among all of them."""

    client: Client
    n_shards: int
    worker: str = field(default_factory=lambda: secrets.token_hex(8))

    def sign_on(self) -> int:
        """Say that this worker is at work; return how many shards it may hold.

        Raises:
            redis.RedisError: the store is away.
        """
        workers = sign_on(self.client, self.worker, ttl_ms=TTL_MS)
        return share(self.n_shards, workers, self.worker)

    def leave(self) -> None:
        """Say that this worker is at work no more."""
        sign_on(self.client, self.worker, ttl_ms=0)
