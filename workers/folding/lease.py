"""One owner per shard: a lease with a fencing token.

A holder that was stopped longer than its lease wakes up believing that it still holds it. The
token that the next holder took makes every commit of the old one fail.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from telemetry import keys
from telemetry.leases import LeaseScripts
from telemetry.store import Client

TTL_MS = 2400
"""How long a shard rests after its holder was killed; with the half second between two looks for
free shards it is three seconds at most."""
RENEW_EVERY_S = 0.5
"""A fifth of the lease: three renewals may fail before it is lost."""


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
        return not keep_all([self])

    def begin_renewal(self) -> bool:
        """Return whether it is time; then it counts as renewed."""
        if self.clock() - self._renewed_at < RENEW_EVERY_S:
            return False
        self._renewed_at = self.clock()
        return True

    def release(self) -> None:
        """Give the shard to whoever is next, at once."""
        LeaseScripts(self.client).release(keys.lease(self.shard), owner=self.owner)


def keep_all(leases: Iterable[Lease]) -> list[int]:
    """Renew one owner's leases that are due, at once; return the shards of those that are lost."""
    due = [lease for lease in leases if lease.begin_renewal()]
    if not due:
        return []
    held = LeaseScripts(due[0].client).renew_all(
        [keys.lease(lease.shard) for lease in due], owner=due[0].owner, ttl_ms=TTL_MS
    )
    return [lease.shard for lease, is_held in zip(due, held, strict=True) if not is_held]
