"""Outcomes that others tell of: each counts once, however often and to whomever it is told.

Frames are numbered by the process that sends them; the same event told twice comes under two
numbers. So the nonces of ingested outcomes are kept, in the commit that folds them, for at least
as long as an event may be old.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from telemetry import keys
from telemetry.events import Flag
from telemetry.scripts import MAX_ARGUMENTS, Commit
from telemetry.store import Client

SPAN_MS = 16 * 86_400_000
SPANS = 3
"""The span under way and two whole ones before it: 32 days at least. Sets that end by themselves;
one sorted by time would need twice the memory, 75 bytes a nonce."""


def drop_repeated(
    client: Client, commit: Commit, shard: int, outcomes: NDArray[np.void]
) -> tuple[NDArray[np.void], int]:
    """Return the outcomes less those ingested before, and how many went.

    What is new is noted in `commit`. The look-up needs no transaction: only the holder of the
    shard writes here, and a commit of another one is refused.
    """
    told = np.flatnonzero(outcomes["flags"] & Flag.INGESTED)
    if not len(told):
        return outcomes, 0
    nonces = [nonce.tobytes() for nonce in outcomes["token"]["nonce"][told]]
    span = int(time.time() * 1000) // SPAN_MS
    pipeline = client.pipeline(transaction=False)
    for earlier in range(SPANS):
        pipeline.smismember(keys.ingested(shard, span - earlier), nonces)
    known = [any(found) for found in zip(*pipeline.execute(), strict=True)]
    new: dict[bytes, int] = {}  # nonce -> its first record of this batch
    for place, nonce, before in zip(told, nonces, known, strict=True):
        if not before:
            new.setdefault(nonce, int(place))
    name = keys.ingested(shard, span)
    fresh = list(new)
    for start in range(0, len(fresh), MAX_ARGUMENTS):
        commit.add("SADD", name, *fresh[start : start + MAX_ARGUMENTS])
    if fresh:
        commit.add("EXPIREAT", name, (span + SPANS) * SPAN_MS // 1000)
    stays = np.ones(len(outcomes), dtype=bool)
    stays[told] = False
    stays[list(new.values())] = True
    return outcomes[stays], len(told) - len(new)
