"""What goes of a shard: entries that are folded and archived, rows that nobody reads."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from bandit import cells
from bandit.cells import KEY
from telemetry import keys
from telemetry.memory import soft_limit_bytes
from telemetry.store import Client, memory_per_shard

MAX_TRIMS = 100
"""A round; what is left is for the next one."""
LEAST_UNARCHIVED_BYTES = 64 << 20
"""Of a shard, whatever `store.max_mb` says: 170,000 records, a burst between two looks of a job."""
MOST_UNARCHIVED_BYTES = 256 << 20
"""Four shards then hold 1 GiB at most while nothing can be archived: an hour at 340 records/s each,
and four times what the archive takes at once."""


def stale_rows(names: Iterable[bytes], *, now_ms: int) -> list[bytes]:
    """Return the rows of which no reader counts anything any more."""
    known = [name for name in names if len(name) == KEY.itemsize]
    stale = cells.is_stale(np.frombuffer(b"".join(known), dtype=KEY), now_ms=now_ms)
    return [name for name, old in zip(known, stale, strict=True) if old]


def most_unarchived(client: Client, n_shards: int) -> int:
    """Return how many bytes of a shard's folded entries may wait.

    All together a quarter of the memory that any of the store's servers may use, and no more than
    `store.max_mb`, unless that is small: it is no limit of the server's, and an archive without
    holes is worth more.
    """
    share = memory_per_shard(client, n_shards) // 4
    limit = soft_limit_bytes(client.get(keys.MEMORY)) // n_shards
    soft = max(limit, LEAST_UNARCHIVED_BYTES) if limit else 0
    return min(n for n in (MOST_UNARCHIVED_BYTES, share, soft) if n)


def trim(client: Client, shard: int, floor: bytes) -> int:
    """Take entries before `floor` out of a stream; return how many.

    One call takes 10,000 at most, so that the store does not stand still.
    """
    total = 0
    for _ in range(MAX_TRIMS):
        n = client.xtrim(keys.stream(shard), minid=floor.decode(), approximate=True)
        total += n
        if not n:
            break
    return total
