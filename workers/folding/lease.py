"""One owner per shard: a lease with a fencing token.

A holder that was stopped longer than its lease wakes up believing that it still holds it. The
token that the next holder took makes every commit of the old one fail.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from telemetry import keys
from telemetry.leases import LeaseScripts
from telemetry.store import Client

TTL_MS = 2400
"""How long a shard rests after its holder was killed; with the half second between two looks for
free shards it is three seconds at most."""
RENEW_EVERY_S = 0.6
"""A quarter of the lease: two renewals may fail before it is lost."""


@dataclass(slots=True)
class Lease:
    """The right of this process to fold one shard."""

    client: Client
    shard: int
    owner: str = field(default_factory=lambda: secrets.token_hex(8))
    token: int = 0
    clock: Callable[[], float] = time.monotonic
    _renewed_at: float = 0.0

    def take(self) -> bool:
        """Try to become the owner; return whether this process is it now."""
        self.token = LeaseScripts(self.client).take(
            keys.lease(self.shard),
            keys.meta(self.shard),
            owner=self.owner,
            ttl_ms=TTL_MS,
            tenure=secrets.token_hex(8),
        )
        self._renewed_at = self.clock()
        return self.token > 0

    def keep(self) -> bool:
        """Renew when it is time; return whether the lease is still held."""
        if self.clock() - self._renewed_at < RENEW_EVERY_S:
            return True
        self._renewed_at = self.clock()
        return LeaseScripts(self.client).renew(
            keys.lease(self.shard), owner=self.owner, ttl_ms=TTL_MS
        )

    def release(self) -> None:
        """Give the shard to whoever is next, at once."""
        LeaseScripts(self.client).release(keys.lease(self.shard), owner=self.owner)
