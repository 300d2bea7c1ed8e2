"""What the store's memory is used for, as whoever measured it last wrote it down.

The words for it are the same everywhere: in the log, in the report, in readiness, and where a
store refuses what it is told because it is full.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated, Any

import msgspec
import redis

from telemetry.store import Client, servers

MB = 1 << 20
PRIVATE_MB = 256
"""Of a private server, unless `store.max_mb` says otherwise: it is on the same machine as the app.
A day at 10 calls a second takes about half of it."""
WARN_AT = 0.8
HARD_FULL = 0.9
"""Of a server's own `maxmemory`: at all of it, it would refuse events."""
NO_EVICTION = "noeviction"
TO_SET = "raise maxmemory; `pointsman report` says what takes it, and what else to set"
"""What to do about a server of the user's own that is full."""


class MemoryKind(StrEnum):
    """What lies in a store."""

    REFERENCES = "references"  # what names young decisions
    LABELS = "labels"  # what was said of them
    DRAWS = "draws"  # what units and conversations were given
    RESPONSES = "responses"  # where what lies at providers was made
    STREAMS = "streams"  # records that are not folded, or not archived
    POSTERIORS = "posteriors"  # rows, choices, watches
    RATERS = "raters"  # decisions that count of each
    DECISIONS = "decisions"  # recent ones with their numbers, as counted against their bound
    INGESTED = "ingested"  # which outcomes of others were told
    WAITING = "waiting"  # feedback held, old decisions put back, dead letters
    LEDGER = "ledger"  # what calls cost
    REST = "rest"  # the server itself, queues, others' keys


@dataclass(frozen=True, slots=True)
class ServerMemory:
    """What a server says of its memory."""

    used_bytes: int
    max_bytes: int  # 0: no limit
    policy: str


def ask_servers(client: Client) -> list[ServerMemory]:
    """Return what each server says of its memory; nothing where one does not say it to us.

    Raises:
        redis.RedisError: the store is away.
    """
    found = []
    for server in servers(client):
        try:
            said = server.info("memory")
        except redis.ResponseError:
            return []  # not everybody may ask
        policy = str(said.get("maxmemory_policy", ""))
        limit = int(said.get("maxmemory", 0))
        found.append(ServerMemory(int(said.get("used_memory", 0)), limit, policy))
    return found


def nearest_limit(servers: Sequence[ServerMemory], max_mb: int) -> tuple[int, int, bool]:
    """Return what is used, of how much, and whether that is a server's own limit.

    Where there are several limits, the one that is nearest.
    """
    whole = sum(server.used_bytes for server in servers)
    own = [(s.used_bytes, s.max_bytes, True) for s in servers if s.max_bytes]
    if max_mb:
        own.append((whole, max_mb * MB, False))
    return max(own, key=lambda one: one[0] / one[1]) if own else (whole, 0, False)


def policy_of(servers: Sequence[ServerMemory]) -> str:
    """Return what the servers do when they are full."""
    return next((s.policy for s in servers if s.max_bytes), servers[0].policy)


Count = Annotated[int, msgspec.Meta(ge=0)]


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """What a store's memory is used for."""

    at_ms: Count
    used_bytes: Count
    limit_bytes: Count  # 0: there is none
    is_hard: bool  # the limit is the server's own `maxmemory`, else `store.max_mb`
    bytes_by_kind: dict[str, Count] = field(default_factory=dict)  # empty: the server does not say
    policy: str = NO_EVICTION  # what the server does when it is full
    young_hours: Count = 0  # for which decisions are young
    configured_hours: Count = 0
    keeps_draws: bool = True  # new ones are kept in the store
    changed_at_ms: Count = 0  # when one of these last did
    max_mb: Count = 0  # as configured; 0: as the servers say
    keeps_ids: bool = True  # new ones, of what lies at providers, are kept in the store

    @classmethod
    def parse(cls, value: bytes | None) -> MemoryUse | None:
        """Return what a stored value says; None where there is none, or one not of this version."""
        try:
            return None if value is None else _USE.decode(value)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            return None

    def as_of(self, servers: Sequence[ServerMemory]) -> MemoryUse:
        """Return it with what the servers say now: a full store cannot be told what takes it."""
        if not servers:
            return self
        used, limit, is_hard = nearest_limit(servers, self.max_mb)
        policy = policy_of(servers)
        return replace(self, used_bytes=used, limit_bytes=limit, is_hard=is_hard, policy=policy)

    def pack(self) -> str:
        """Return the value to store."""
        return msgspec.json.encode(self).decode()

    @property
    def share(self) -> float:
        """Used, of what may be used; 0 without a limit."""
        return self.used_bytes / self.limit_bytes if self.limit_bytes else 0.0

    @property
    def is_full(self) -> bool:
        """Whether something must go."""
        return self.share > (HARD_FULL if self.is_hard else 1.0)

    def as_json(self) -> dict[str, Any]:
        """Return it as one object."""
        return {
            "used_mb": round(self.used_bytes / MB, 1),
            "limit_mb": round(self.limit_bytes / MB, 1) if self.limit_bytes else None,
            "mb_by_kind": {kind: round(n / MB, 1) for kind, n in self.bytes_by_kind.items()},
            "young_hours": self.young_hours,
            "keeps_draws": self.keeps_draws,
            "keeps_ids": self.keeps_ids,
            "measured_at_ms": self.at_ms,
            "warnings": self.warnings(),
        }

    @property
    def shown(self) -> str:
        """Return what takes how much, as a line."""
        of = f" of {_mb(self.limit_bytes)}" if self.limit_bytes else ""
        each = sorted(self.bytes_by_kind.items(), key=lambda item: -item[1])
        kinds = ", ".join(f"{kind} {_mb(n)}" for kind, n in each if n >= MB // 10)
        return f"{_mb(self.used_bytes)}{of} MB" + (f" ({kinds})" if kinds else "")

    def warnings(self) -> dict[str, str]:
        """Return what somebody should know, and what to set, by what it is about."""
        said = {}
        if self.share >= WARN_AT:
            said["memory"] = f"{self.share:.0%} used: {self.shown}; {self.fix}"
        if self.young_hours < self.configured_hours:
            said["young"] = (
                f"decisions are young for {self.young_hours} h, not {self.configured_hours}, for "
                f"want of memory: what is older is looked up in the archive; {self.fix}"
            )
        if not self.keeps_draws:
            said["draws"] = f"new ones stay in each process, for want of memory; {self.fix}"
        if not self.keeps_ids:
            said["ids"] = (
                "new ids of responses stay in each process, for want of memory: no other router "
                f"finds them; {self.fix}"
            )
        if self.limit_bytes and self.is_hard and self.policy != NO_EVICTION:
            said["policy"] = (
                f"maxmemory-policy is {self.policy}: a full store would drop what was learned; "
                f"set {NO_EVICTION}"
            )
        return said

    @property
    def fix(self) -> str:
        """Return what to set, by what takes most."""
        kind = max(self.bytes_by_kind, key=lambda k: self.bytes_by_kind[k], default="")
        more = "raise maxmemory" if self.is_hard else "set store.max_mb higher"
        if kind in (MemoryKind.REFERENCES, MemoryKind.LABELS) and self.young_hours > 1:
            return f"{more}, or store.young_hours below {self.young_hours}"
        if kind == MemoryKind.STREAMS:
            return f"{more}, or see why workers or the archive are behind"
        if kind == MemoryKind.DECISIONS:
            return f"{more}, or store.explain_store_mb lower"
        if kind == MemoryKind.REST and self.is_hard:
            return f"{more}, or give this store a server of its own"
        return more


_USE = msgspec.json.Decoder(MemoryUse)


def max_mb_of(configured: int | None, *, is_private: bool) -> int:
    """Return how many MB a store may use; 0: as many as its own server lets it."""
    if configured is not None:
        return configured
    return PRIVATE_MB if is_private else 0


def soft_limit_bytes(value: bytes | None) -> int:
    """Return the limit that is not the server's own, by what was written down; 0: there is none."""
    use = MemoryUse.parse(value)
    return 0 if use is None or use.is_hard else use.limit_bytes


def _mb(n_bytes: int) -> str:
    return f"{n_bytes / MB:.0f}" if n_bytes >= 10 * MB else f"{n_bytes / MB:.1f}"
