"""How fast records that a stream retained become a state again, as in an audit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from telemetry import keys
from telemetry.store import Client
from workers.batch import Entries
from workers.rebuilt import AT_ONCE, Rebuilt


def replay(client: Client, *, n_shards: int) -> float:
    """Return records/s from the first read of the streams to the last row."""
    n, began = 0, time.monotonic()
    for shard in range(n_shards):
        state = Rebuilt()
        for entries in _read_ahead(client, shard):
            state.fold(entries)
        n += state.n_records
    return n / (time.monotonic() - began)


def _read_ahead(client: Client, shard: int) -> Iterator[Entries]:
    """Yield a stream's entries; the next ones are on their way while these are folded."""

    def read(start: str) -> Entries:
        found: Entries = client.xrange(keys.stream(shard), min=start, count=AT_ONCE)
        return found

    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(read, "-")
        while entries := ahead.result():
            ahead = reader.submit(read, f"({entries[-1][0].decode()}")
            yield entries
