"""From the streams to whoever collects spans: one worker of a store tells, each span at least once.

Nothing waits for it. Where the collector is away the same spans are tried again for some minutes,
and then given up and counted in the log; where the stream was trimmed meanwhile, they are lost.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice

import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from redis.exceptions import RedisError

from telemetry import keys, scripts
from telemetry.store import Address, Client, StoreErrors, connect
from telemetry.streams import read_streams
from telemetry.trouble import trouble_of
from workers.folding.batch import START, take_apart
from workers.spans.making import SpanMaker

log = structlog.get_logger()

N_ENTRIES = 16
"""Of a shard at a time: 4,096 records at most."""
N_SPANS = 512
"""In one request to the collector."""
BLOCK_MS = 500
AGAIN_S = 5.0
GIVE_UP_S = 300.0
HOLDER_TTL_MS = 60_000
"""Longer than one request to the collector may take; so long nobody tells after a kill."""


@dataclass(slots=True)
class Teller:
    """Tells of one store's calls, while no other does."""

    client: Client
    n_shards: int
    exporter: SpanExporter
    maker: SpanMaker
    clock: Callable[[], float] = time.monotonic
    owner: str = field(default_factory=lambda: secrets.token_hex(8))
    _failing_since: float | None = None

    def round(self, *, block_ms: int = BLOCK_MS) -> bool:
        """Tell of the next entries; return False where it is to rest: not its turn, or refused.

        Raises:
            redis.RedisError: the store is away.
        """
        if not scripts.hold(self.client, keys.SPANS_TELLER, owner=self.owner, ttl_ms=HOLDER_TTL_MS):
            return False
        stored = self.client.hgetall(keys.SPANS)
        marks = {s: stored.get(str(s).encode(), START) for s in range(self.n_shards)}
        found = read_streams(self.client, marks, count=N_ENTRIES, block_ms=block_ms)
        for shard, entries in found.items():
            spans = self.maker.spans(take_apart(entries, {}).records)
            if not self._tell(spans):
                return False
            self.client.hset(keys.SPANS, str(shard), entries[-1][0])
        return bool(found) or block_ms > 0

    def _tell(self, spans: Iterator[ReadableSpan]) -> bool:
        """Return whether the collector has them, or they were given up."""
        while batch := list(islice(spans, N_SPANS)):
            if self.exporter.export(batch) is SpanExportResult.SUCCESS:
                self._failing_since = None
                continue
            now = self.clock()
            if self._failing_since is None:
                self._failing_since = now
                log.warning("spans are not taken: tried again", n_spans=len(batch))
            if now - self._failing_since < GIVE_UP_S:
                return False
            self._failing_since = None
            log.error("spans are given up", n_spans=len(batch))
        return True


def tell(
    address: Address,
    n_shards: int,
    exporter: SpanExporter,
    maker: Callable[[Client], SpanMaker],
    stop: threading.Event,
) -> None:
    """Tell of calls until `stop` is set; a store that is away is waited for."""
    is_away = False
    with closing(connect(address)) as client:
        teller = Teller(client, n_shards, exporter, maker(client))
        while not stop.is_set():
            try:
                goes_on = teller.round()
                is_away = False
            except (RedisError, *StoreErrors) as error:
                if not is_away:
                    log.warning("store is away: no spans", **trouble_of(error).told())
                goes_on, is_away = False, True
            stop.wait(0 if goes_on else AGAIN_S)
