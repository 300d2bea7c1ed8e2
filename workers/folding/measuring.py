"""What the store's memory is used for: some hundreds of short questions, a few ms of the server.

What lies in one place each is asked for. What lies in very many hashes or strings is counted where
a count is kept, else by keys picked at random, and a few of them are measured.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import redis

from telemetry import keys, young
from telemetry.memory import MemoryKind
from telemetry.references import BUCKET_MS, bucket
from telemetry.store import Client, server_of, servers
from telemetry.young import LABELS, REFERENCES, YoungSpan
from workers.folding.batch import DAY_MS, LABEL_DAYS, SPAN_DAYS, SPANS

PICKED = 16
"""Hashes of each sort that are measured in a shard: they are alike, as names are random."""
DICE = 100
"""Keys picked at random of a server: a kind that takes half of it is known to a tenth."""
KEPT_DAYS = LABEL_DAYS + 8
KIND_OF = {LABELS: MemoryKind.LABELS, REFERENCES: MemoryKind.REFERENCES}


@dataclass(frozen=True, slots=True)
class ServerMemory:
    """What a server says of its memory."""

    used_bytes: int
    max_bytes: int  # 0: no limit
    policy: str


@dataclass(slots=True)
class Shares:
    """Bytes by kind, and of what is young by span."""

    by_kind: dict[MemoryKind, int] = field(default_factory=dict)
    young: dict[int, int] = field(default_factory=dict)

    def add(self, kind: MemoryKind, n_bytes: float) -> None:
        """Count some bytes."""
        self.by_kind[kind] = self.by_kind.get(kind, 0) + int(n_bytes)


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


def shares(client: Client, n_shards: int, *, now_ms: int) -> Shares:
    """Return what takes how much; nothing where a server does not say it to us.

    Raises:
        redis.RedisError: the store is away.
    """
    out = Shares()
    try:
        for kind, names in _single_keys(n_shards, now_ms).items():
            out.add(kind, sum(_sizes(client, names)))
        _add_young(client, n_shards, out)
        for server in servers(client):
            out.add(MemoryKind.DRAWS, _draws(server))
    except redis.ResponseError:  # MEMORY USAGE or RANDOMKEY are not for everybody
        return Shares()
    return out


def _single_keys(n_shards: int, now_ms: int) -> dict[MemoryKind, list[str]]:
    """Return the keys that are one piece each."""
    today = now_ms // DAY_MS
    days = range(today - KEPT_DAYS, today + 2)
    buckets = range(bucket(now_ms - KEPT_DAYS * DAY_MS), bucket(now_ms + BUCKET_MS) + 1)
    told = range(today // SPAN_DAYS - SPANS, today // SPAN_DAYS + 1)
    each = range(n_shards)
    named_then = [keys.references_of_days(n, number) for n in each for number in buckets]
    choices = [keys.STANDINGS, keys.RELEASES, keys.DRIFT, keys.LOOKED_AT, keys.ALARMS]
    rows = [name for n in each for name in (keys.rows(n), keys.touched(n))]
    waiting = (keys.held, keys.due, keys.chosen, keys.cold, keys.thawed, keys.dead)
    return {
        MemoryKind.POSTERIORS: rows + choices,
        MemoryKind.STREAMS: [keys.stream(n) for n in each],
        MemoryKind.WAITING: [named(n) for n in each for named in waiting],
        MemoryKind.LABELS: [keys.labels_of_day(n, day) for n in each for day in days],
        MemoryKind.REFERENCES: named_then,
        MemoryKind.RATERS: [keys.raters(n, day) for n in each for day in days],
        MemoryKind.INGESTED: [keys.ingested(n, number) for n in each for number in told],
    }


def _sizes(client: Client, names: Iterable[str]) -> list[int]:
    """Return how many bytes keys take, 0 where there is none."""
    by_server: dict[Client, list[str]] = {}
    for name in names:
        by_server.setdefault(server_of(client, name), []).append(name)
    sizes: list[int] = []
    for server, own in by_server.items():
        pipeline = server.pipeline(transaction=False)
        for name in own:
            pipeline.execute_command("MEMORY USAGE", name)
        sizes += [int(size or 0) for size in pipeline.execute()]
    return sizes


def _add_young(client: Client, n_shards: int, out: Shares) -> None:
    """Count what is young: fields are counted when they are written, and some hashes measured."""
    counted: dict[tuple[str, int], int] = {}  # by sort and span
    measured = dict.fromkeys(KIND_OF, (0, 0))  # bytes and fields
    for shard in range(n_shards):
        spans, sizes = client.hgetall(keys.parts(shard)), client.hgetall(keys.sizes(shard))
        there = {int(span): YoungSpan.parse(value) for span, value in spans.items()}
        for sort in KIND_OF:
            each = {
                (span, parts): int(sizes.get(young.size_field(sort, span, parts).encode(), 0))
                for span, own in there.items()
                for parts in own.of(sort)
            }
            for (span, _), n in each.items():
                counted[sort, span] = counted.get((sort, span), 0) + n
            n_bytes, n_fields = _measured(server_of(client, keys.parts(shard)), shard, sort, each)
            before = measured[sort]
            measured[sort] = before[0] + n_bytes, before[1] + n_fields
    for (sort, span), n in counted.items():
        n_bytes, n_fields = measured[sort]
        size = n * n_bytes / n_fields if n_fields else 0.0
        out.add(KIND_OF[sort], size)
        out.young[span] = out.young.get(span, 0) + int(size)


def _measured(
    server: Client, shard: int, sort: str, each: dict[tuple[int, int], int]
) -> tuple[int, int]:
    """Return bytes and fields of some of a shard's hashes; fuller spans are asked more often."""
    generations = [key for key, n in each.items() if n > 0]
    if not generations:
        return 0, 0
    named = keys.labels if sort == LABELS else keys.references
    picked = random.choices(generations, weights=[each[key] for key in generations], k=PICKED)  # noqa: S311 - figures, no secrets
    names = [
        named(shard, span, f"{parts}.{random.randrange(parts)}")  # noqa: S311 - as above
        for span, parts in picked
    ]
    pipeline = server.pipeline(transaction=False)
    for name in names:
        pipeline.execute_command("MEMORY USAGE", name)
        pipeline.hlen(name)
    found: list[Any] = pipeline.execute()
    return sum(size or 0 for size in found[::2]), sum(found[1::2])


def _draws(server: Client) -> float:
    """Return how many bytes draws take on a server, by keys picked at random."""
    pipeline = server.pipeline(transaction=False)
    pipeline.dbsize()
    for _ in range(DICE):
        pipeline.randomkey()
    n_keys, *found = pipeline.execute()
    own = [name for name in found if name is not None and keys.is_draw(name)]
    return float(n_keys * sum(_sizes(server, own)) / DICE)
