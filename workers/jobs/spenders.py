"""Who spent most, of each app and day: they have rows of their own once the day is packed.

A name's rows lie in every shard; so no owner of a shard can tell.
"""

from __future__ import annotations

import numpy as np

from telemetry import keys
from telemetry.ledger_blocks import block_field, parse_field
from telemetry.ledger_rows import DAY_MS, OTHERS, LedgerColumn, LedgerRows, LedgerTable, joined
from telemetry.store import Client
from workers.folding.packing import names_in
from workers.folding.spending import NAMED, rows_of

NAMED_AFTER_DAYS = 1
"""A day's end lies so far back, so that most of what comes late has come."""
KEPT_DAYS = 5
"""Then it is packed, and what comes later settles nothing."""
MOST_SPENDERS = 1000


def name_spenders(client: Client, n_shards: int, *, now_ms: int, most: int = MOST_SPENDERS) -> int:
    """Name for each table and day that closed who spent most; return for how many.

    Raises:
        redis.RedisError: the store is away; it is done again another time.
    """
    last = now_ms // DAY_MS - 1 - NAMED_AFTER_DAYS
    done = set(client.hkeys(keys.SPENT_TOP))
    old = [name for name in done if parse_field(name)[1] <= last - KEPT_DAYS]
    if old:
        client.hdel(keys.SPENT_TOP, *old)
    spans = {name for shard in range(n_shards) for name in client.hkeys(keys.spent_spans(shard))}
    n = 0
    for table, day in sorted(map(parse_field, spans - done)):
        if table not in NAMED or not last - KEPT_DAYS < day <= last:
            continue
        parts = [
            rows_of(table, {day: names_in(client, shard, (table, day))})
            for shard in range(n_shards)
        ]
        client.hset(keys.SPENT_TOP, block_field(table, day), top_of(table, parts, most))
        n += 1
    return n


def top_of(table: LedgerTable, parts: list[LedgerRows], most: int) -> bytes:
    """Return the keys of those who spent most, of each app that has more than `most` names.

    Where as much was spent, who used more tokens.
    """
    rows = joined(table, parts).summed()
    named = rows.keys["name"] != OTHERS
    names, values = rows.keys[named], rows.values[named]
    tokens = values[:, LedgerColumn.TOKENS_IN] + values[:, LedgerColumn.TOKENS_OUT]
    out = []
    for app in np.unique(names["app"]):
        own = np.flatnonzero(names["app"] == app)
        if len(own) <= most:
            continue
        cost = values[own, LedgerColumn.COST]
        order = np.lexsort([names["name"][own], -tokens[own], -cost])
        out.append(names[own[order[:most]]])
    return b"".join(part.tobytes() for part in out)
