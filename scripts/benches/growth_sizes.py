"""What takes the store's memory at the end of a month, by kind, and what ten times the calls would.

Of packed rows by what the server says of each hash; of draws and conversations by what is free once
they are gone: their share of the server's tables is in it.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from scripts.benches.growth_draws import (
    CONVERSATIONS,
    SESSIONS,
    USER_SLOTS,
    LyingDraws,
)
from scripts.benches.growth_traffic import (
    CALLS_PER_S,
    IN_SESSIONS,
    N_SHARDS,
    N_TASKS,
    N_USERS,
    OF_USERS,
)
from telemetry import keys
from telemetry.store import Client
from telemetry.young import LABELS, REFERENCES, YoungSpan
from workers.archive.archive import SHARE

DAY_S = 86_400
SETTLED_S = 0.5
AT_ONCE = 1000
TIMES = 10
LIMIT_BYTES = 1000 << 20
"""What the store would have to be allowed at so many calls."""


@dataclass(frozen=True, slots=True)
class StoreSizes:
    """How many of each kind lie in the store, and what one takes."""

    n_lying: dict[str, int]
    bytes_of: dict[str, float]  # a reference, a label, a conversation, a draw
    stream_bytes: int
    stream_payload: int  # of it, what the archive counts by
    rest_bytes: int

    @classmethod
    def of(cls, client: Client, draws: LyingDraws) -> StoreSizes:
        """Return the sizes; afterwards no draw is left."""
        used, n_draws = _used(client), draws.n_lying
        n_references, references = _rows(client, REFERENCES)
        n_labels, labels = _rows(client, LABELS)
        streams, payload = 0, 0
        for shard in range(N_SHARDS):
            streams += int(client.memory_usage(keys.stream(shard), samples=0) or 0)
            folded, kept = client.hmget(keys.meta(shard), "n_bytes", "archived_bytes")
            payload += int(folded or 0) - int(kept or 0)
        found = {"reference": references / max(n_references, 1), "label": labels / max(n_labels, 1)}
        n = draws.end_all_conversations()
        left = _settled(client)
        found["conversation"] = (used - left) / max(n, 1)
        used, n = left, draws.end_all()
        left = _settled(client)
        found["draw"] = (used - left) / max(n, 1)
        rest = left - references - labels - streams
        n_lying = {"reference": n_references, "label": n_labels, **n_draws}
        return cls(n_lying, found, streams, payload, rest)


def at_100_calls_per_s_mb(sizes: StoreSizes) -> dict[str, float]:
    """Return what ten times the calls would take: as many more of each kind, unless it is bounded.

    Users are as many as they are, and the archive takes a stream when it has its share of the
    memory that may be used.
    """
    n, each = sizes.n_lying, sizes.bytes_of
    units, calls = N_USERS * N_TASKS, CALLS_PER_S * (1 - IN_SESSIONS) * OF_USERS * DAY_S
    more = math.expm1(-TIMES * calls / units) / math.expm1(-calls / units)
    most = LIMIT_BYTES / SHARE * sizes.stream_bytes / max(sizes.stream_payload, 1)
    found = {
        "references": TIMES * n["reference"] * each["reference"],
        "labels": TIMES * n["label"] * each["label"],
        "conversations": TIMES * n[CONVERSATIONS] * each["conversation"],
        "sessions": TIMES * n[SESSIONS] * each["draw"],
        "user_slots": more * n[USER_SLOTS] * each["draw"],
        "streams": min(TIMES * sizes.stream_bytes, most),
        "rest": sizes.rest_bytes,
    }
    found["all"] = sum(found.values())
    return {name: round(size / 1e6, 1) for name, size in found.items()}


def _rows(client: Client, sort: str) -> tuple[int, int]:
    """Return how many rows of a sort there are in packed hashes, and the bytes of these."""
    n, n_bytes = 0, 0
    for shard in range(N_SHARDS):
        sizes = client.hgetall(keys.sizes(shard))
        n += sum(int(v) for name, v in sizes.items() if name.startswith(f"{sort}:".encode()))
        named = keys.labels if sort == LABELS else keys.references
        names = [
            named(shard, int(span), f"{parts}.{part}")
            for span, value in client.hgetall(keys.parts(shard)).items()
            for parts in YoungSpan.parse(value).of(sort)
            for part in range(parts)
        ]
        for first in range(0, len(names), AT_ONCE):
            pipeline = client.pipeline(transaction=False)
            for name in names[first : first + AT_ONCE]:
                pipeline.memory_usage(name, samples=0)
            n_bytes += sum(size or 0 for size in pipeline.execute())
    return n, n_bytes


def _settled(client: Client) -> int:
    """Return the memory in use once the server's tables are as small as what is left."""
    before = _used(client)
    while True:
        time.sleep(SETTLED_S)
        now = _used(client)
        if abs(before - now) < AT_ONCE * AT_ONCE // 10:
            return now
        before = now


def _used(client: Client) -> int:
    return int(client.info("memory")["used_memory"])
