"""What the store's memory is used for: some hundreds of short questions, a few ms of the server.

What lies in one place each is asked for. What lies in very many hashes or strings is counted where
a count is kept, else by keys picked at random, and a few of them are measured.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis

from telemetry import explained, keys, young
from telemetry.ledger_blocks import parse_field
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
PICKED_BY = {MemoryKind.DRAWS: keys.is_draw, MemoryKind.RESPONSES: keys.is_stored_id}
"""What is too much to count, by whose keys are of it."""
KIND_OF = {LABELS: MemoryKind.LABELS, REFERENCES: MemoryKind.REFERENCES}


@dataclass(slots=True)
class Shares:
    """Bytes by kind, and of what is young by span."""

    by_kind: dict[MemoryKind, int] = field(default_factory=dict)
    young: dict[int, int] = field(default_factory=dict)

    def add(self, kind: MemoryKind, n_bytes: float) -> None:
        """Count some bytes."""
        self.by_kind[kind] = self.by_kind.get(kind, 0) + int(n_bytes)


def shares(client: Client, n_shards: int, *, now_ms: int) -> Shares:
    """Return what takes how much; nothing where a server does not say it to us.

    Raises:
        redis.RedisError: the store is away.
    """
    out = Shares()
    try:
        _add_single_keys(client, n_shards, out, now_ms=now_ms)
        _add_young(client, n_shards, out)
        _add_ledger(client, n_shards, out)
        for server in servers(client):
            _add_picked(server, out)
    except redis.ResponseError:  # MEMORY USAGE or RANDOMKEY are not for everybody
        return Shares()
    return out


# KEYS of one slot. Returns of each how many bytes it takes, 0 where there is none, and, where
# ARGV[1] is 1, how many fields it has.
LUA_SIZES = """
local out = {}
for _, key in ipairs(KEYS) do
  out[#out + 1] = redis.call('MEMORY', 'USAGE', key) or 0
  if ARGV[1] == '1' then
    out[#out + 1] = redis.call('HLEN', key)
  end
end
return out
"""


def _sizes(server: Client, asked: Iterable[Sequence[str | bytes]], *, fields: int = 0) -> list[Any]:
    """Return the script's reply to each list of keys, all of one server and each of one slot."""
    pipeline = server.pipeline(transaction=False)
    for names in asked:
        pipeline.execute_command("EVAL", LUA_SIZES, len(names), *names, fields)
    found: list[Any] = pipeline.execute()
    return found


def _add_single_keys(client: Client, n_shards: int, out: Shares, *, now_ms: int) -> None:
    """Count what is one piece each, shard by shard."""
    today = now_ms // DAY_MS
    days = range(today - KEPT_DAYS, today + 2)
    buckets = range(bucket(now_ms - KEPT_DAYS * DAY_MS), bucket(now_ms + BUCKET_MS) + 1)
    told = range(today // SPAN_DAYS - SPANS, today // SPAN_DAYS + 1)
    for n in range(n_shards):
        waiting = (keys.held, keys.due, keys.chosen, keys.sought, keys.cold, keys.thawed, keys.dead)
        by_kind = {
            MemoryKind.POSTERIORS: [keys.rows(n), keys.touched(n)],
            MemoryKind.STREAMS: [keys.stream(n)],
            MemoryKind.WAITING: [named(n) for named in waiting],
            MemoryKind.LABELS: [keys.labels_of_day(n, day) for day in days],
            MemoryKind.REFERENCES: [keys.references_of_days(n, number) for number in buckets],
            MemoryKind.RATERS: [keys.raters(n, day) for day in days],
            MemoryKind.INGESTED: [keys.ingested(n, number) for number in told],
        }
        found = _sizes(server_of(client, keys.meta(n)), by_kind.values())
        for kind, sizes in zip(by_kind, found, strict=True):
            out.add(kind, sum(sizes))
    trail = keys.stream(n_shards)  # of the audit
    ((untaken,),) = _sizes(server_of(client, trail), [[trail]])
    out.add(MemoryKind.STREAMS, untaken)
    changes = (keys.STANDINGS, keys.RELEASES, keys.DRIFT, keys.LOOKED_AT, keys.ALARMS, keys.PROMPTS)
    for name in changes:
        ((size,),) = _sizes(server_of(client, name), [[name]])
        out.add(MemoryKind.POSTERIORS, size)
    out.add(MemoryKind.DECISIONS, explained.counted_bytes(client))


def _add_young(client: Client, n_shards: int, out: Shares) -> None:
    """Count what is young: fields are counted when they are written, and some hashes measured."""
    counted: dict[tuple[str, int], int] = {}  # by sort and span
    measured = dict.fromkeys(KIND_OF, (0, 0))  # bytes and fields
    for shard in range(n_shards):
        server = server_of(client, keys.meta(shard))
        spans, sizes = server.hgetall(keys.parts(shard)), server.hgetall(keys.sizes(shard))
        there = {int(span): YoungSpan.parse(value) for span, value in spans.items()}
        picked = []
        for sort in KIND_OF:
            each = {
                (span, parts): int(sizes.get(young.size_field(sort, span, parts).encode(), 0))
                for span, own in there.items()
                for parts in own.of(sort)
            }
            for (span, _), n in each.items():
                counted[sort, span] = counted.get((sort, span), 0) + n
            picked.append(_picked(shard, sort, each))
        for sort, found in zip(KIND_OF, _sizes(server, picked, fields=1), strict=True):
            n_bytes, n_fields = measured[sort]
            measured[sort] = n_bytes + sum(found[::2]), n_fields + sum(found[1::2])
    for (sort, span), n in counted.items():
        n_bytes, n_fields = measured[sort]
        size = n * n_bytes / n_fields if n_fields else 0.0
        out.add(KIND_OF[sort], size)
        out.young[span] = out.young.get(span, 0) + int(size)


def _add_ledger(client: Client, n_shards: int, out: Shares) -> None:
    """Count loose rows of ledger and budgets, and of blocks some that stand for the others."""
    for shard in range(n_shards):
        server = server_of(client, keys.meta(shard))
        index = [keys.spent_spans(shard), keys.spent_blocks(shard)]
        spans, blocks = (list(map(parse_field, server.hkeys(name))) for name in index)
        some = random.sample(blocks, min(PICKED, len(blocks)))
        loose = [*index, *(keys.spent(shard, *place) for place in spans)]
        days = server.smembers(keys.budget_days(shard))
        loose += [keys.budget_rows(shard, int(day)) for day in days]
        packed = [keys.spent_block(shard, *place) for place in some]
        own, picked = _sizes(server, [loose, packed])
        share = len(blocks) / len(some) if some else 0.0
        out.add(MemoryKind.LEDGER, sum(own) + sum(picked) * share)
    for name in (keys.SPENT_TOP, keys.TAG_NAMES):
        ((size,),) = _sizes(server_of(client, name), [[name]])
        out.add(MemoryKind.LEDGER, size)


def _picked(shard: int, sort: str, each: dict[tuple[int, int], int]) -> list[str]:
    """Return some of a shard's hashes; fuller spans have more of them.

    Args:
        each: by span and parts, how many fields a generation has.
    """
    generations = [key for key, n in each.items() if n > 0]
    if not generations:
        return []
    named = keys.labels if sort == LABELS else keys.references
    weights = [each[key] for key in generations]
    return [
        named(shard, span, f"{parts}.{random.randrange(parts)}")  # noqa: S311 - figures, no secrets
        for span, parts in random.choices(generations, weights=weights, k=PICKED)  # noqa: S311
    ]


def _add_picked(server: Client, out: Shares) -> None:
    """Count what draws and stored ids take on a server, by keys picked at random."""
    pipeline = server.pipeline(transaction=False)
    pipeline.dbsize()
    for _ in range(DICE):
        pipeline.randomkey()
    n_keys, *found = pipeline.execute()
    for kind, is_of in PICKED_BY.items():
        own = [[name] for name in found if name is not None and is_of(name)]
        out.add(kind, float(n_keys * sum(size for (size,) in _sizes(server, own)) / DICE))
