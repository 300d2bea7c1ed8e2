"""What the store's memory is used for, as whoever measured it last wrote it down.

The words for it are the same everywhere: in the log, in the report, in readiness, and where a
store refuses what it is told because it is full.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

MB = 1 << 20
PRIVATE_MB = 256
"""Of a private server, unless `store.max_mb` says otherwise: it is on the same machine as the app.
A day at 10 calls a second takes about half of it."""
WARN_AT = 0.8
HARD_FULL = 0.9
"""Of a server's own `maxmemory`: at all of it, it would refuse events."""
NO_EVICTION = "noeviction"
TO_SET = "raise maxmemory, or set store.young_hours lower: `pointsman report` says what takes it"
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
    INGESTED = "ingested"  # which outcomes of others were told
    WAITING = "waiting"  # feedback held, old decisions put back, dead letters
    REST = "rest"  # the server itself, queues, others' keys


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """What a store's memory is used for."""

    at_ms: int
    used_bytes: int
    limit_bytes: int  # 0: there is none
    is_hard: bool  # the limit is the server's own `maxmemory`, else `store.max_mb`
    bytes_by_kind: dict[str, int] = field(default_factory=dict)  # empty: the server does not say
    policy: str = NO_EVICTION  # what the server does when it is full
    young_hours: int = 0  # for which decisions are young
    configured_hours: int = 0
    keeps_draws: bool = True  # new ones are kept in the store
    changed_at_ms: int = 0  # when either of these last did

    @classmethod
    def parse(cls, value: bytes | None) -> MemoryUse | None:
        """Return what a stored value says; None where there is none, or one not of this version."""
        try:
            return None if value is None else cls(**json.loads(value))
        except (ValueError, TypeError):
            return None

    def pack(self) -> str:
        """Return the value to store."""
        return json.dumps(asdict(self))

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
            said["draws"] = (
                "new ones stay in each process, and so do ids of responses, for want of memory; "
                f"{self.fix}"
            )
        if self.limit_bytes and self.is_hard and self.policy != NO_EVICTION:
            said["policy"] = (
                f"maxmemory-policy is {self.policy}: a full store would drop what was learned; "
                f"set {NO_EVICTION}"
            )
        return said

    @property
    def fix(self) -> str:
        """Return what to set."""
        if self.is_hard:
            return TO_SET
        if self.young_hours > 1:
            return f"set store.max_mb higher, or store.young_hours below {self.young_hours}"
        return "set store.max_mb higher"


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
