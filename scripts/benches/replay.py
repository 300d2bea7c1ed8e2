"""How fast records that a stream retained become a state again, as in an audit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from telemetry import keys
from telemetry.store import Client
from workers.archive.rebuilt import AT_ONCE, Rebuilt
from workers.folding.batch import Entries


def replay(client: Client, *, n_shards: int) -> float:
    """Return records/s from the first read of the streams to the last row."""
    began = time.monotonic()
    states = [Rebuilt() for _ in range(n_shards)]
    parts = _parts(client, n_shards)
    with ThreadPoolExecutor(1) as reader:  # the next part is on its way while one is folded
        ahead = reader.submit(next, parts, None)
        while (found := ahead.result()) is not None:
            ahead = reader.submit(next, parts, None)
            shard, entries = found
            states[shard].fold(entries)
    return sum(state.n_records for state in states) / (time.monotonic() - began)


def _parts(client: Client, n_shards: int) -> Iterator[tuple[int, Entries]]:
    """Yield what the streams hold, shard after shard."""
    for shard in range(n_shards):
        start = "-"
        while entries := client.xrange(keys.stream(shard), min=start, count=AT_ONCE):
            yield shard, entries
            start = f"({entries[-1][0].decode()}"
