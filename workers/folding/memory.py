"""The store's budget of memory: who measures it, and what follows from that.

Whoever folds the first shard measures; all others go by what was written down.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import structlog

from telemetry import keys
from telemetry.memory import HARD_FULL, MemoryKind, MemoryUse, ask_servers, nearest_limit, policy_of
from telemetry.store import Client
from workers.folding.budget import Measured, MemoryBudget, weigh
from workers.folding.measuring import shares

log = structlog.get_logger()

STREAMS_SHARE = 8
"""Records beyond this share of what may be used wait for a file of the archive that is due."""


@dataclass(slots=True)
class StoreMemory:
    """What one worker knows of the store's memory."""

    n_shards: int
    configured_hours: int
    max_mb: int  # `store.max_mb`; 0: there is no such limit
    _said: dict[str, str] = field(default_factory=dict)  # what was warned of, in its last words

    def young_hours(self, client: Client) -> int:
        """Return for how many hours decisions are young now.

        Raises:
            redis.RedisError: the store is away.
        """
        use = MemoryUse.parse(client.get(keys.MEMORY))
        held = use.young_hours if use is not None else 0
        return min(held or self.configured_hours, self.configured_hours)

    def measure(self, client: Client, *, now_ms: int) -> MemoryUse | None:
        """Measure, and write down what the store keeps from now on; None: it does not say.

        Raises:
            redis.RedisError: the store is away.
        """
        before = MemoryUse.parse(client.get(keys.MEMORY))
        servers = ask_servers(client)
        if not servers:
            return None
        used, limit, is_hard = nearest_limit(servers, self.max_mb)
        found = shares(client, self.n_shards, now_ms=now_ms)
        full = int(limit * HARD_FULL) if is_hard else limit
        streams = found.by_kind.get(MemoryKind.STREAMS, 0)
        passing = max(streams - limit // STREAMS_SHARE, 0)
        budget = weigh(
            _budget(before, self.configured_hours),
            Measured(now_ms, used, passing, full, found.young),
            configured_hours=self.configured_hours,
        )
        by_kind: dict[str, int] = {kind.value: n for kind, n in found.by_kind.items()}
        if by_kind:
            whole = sum(server.used_bytes for server in servers)
            by_kind[MemoryKind.REST.value] = max(whole - sum(by_kind.values()), 0)
        use = MemoryUse(
            at_ms=now_ms,
            used_bytes=used,
            limit_bytes=limit,
            is_hard=is_hard,
            bytes_by_kind=by_kind,
            policy=policy_of(servers),
            young_hours=budget.young_hours,
            configured_hours=self.configured_hours,
            keeps_draws=budget.keeps_draws,
            keeps_ids=budget.keeps_ids,
            changed_at_ms=budget.changed_at_ms,
            max_mb=self.max_mb,
        )
        self._tell(use)
        client.set(keys.MEMORY, use.pack())
        return use

    def _tell(self, use: MemoryUse) -> None:
        """Log what somebody should know, once each, and when it is over."""
        now = use.warnings()
        for kind, line in now.items():
            if kind not in self._said:
                log.warning("the store", **{kind: line})
        for kind in self._said.keys() - now.keys():
            log.info("the store's memory: over", what=kind)
        self._said = now


def _budget(before: MemoryUse | None, configured_hours: int) -> MemoryBudget:
    """Return what the store kept so far."""
    if before is None or not before.young_hours:
        return MemoryBudget(configured_hours)
    return MemoryBudget(
        before.young_hours, before.keeps_draws, before.changed_at_ms, before.keeps_ids
    )
