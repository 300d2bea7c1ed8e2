"""Feedback that came before its decision: joined when the decision appears, or given up."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import structlog

from telemetry import frames, keys
from telemetry.events import MICRO, FeedbackKind, Match, feedback, record_of
from telemetry.references import choose, look_up
from telemetry.store import Client
from telemetry.tokens import shard_of

log = structlog.get_logger()

HOLD_MS = 24 * 3_600_000
"""An app's own pipeline may judge an answer before its outcome arrives; not a day before."""
MAX_ROUND = 1000


def n_held(client: Client, shards: Iterable[int]) -> dict[int, int]:
    """Return how much feedback waits, by shard."""
    numbers = list(shards)
    pipeline = client.pipeline(transaction=False)
    for shard in numbers:
        pipeline.hlen(keys.held(shard))
    return dict(zip(numbers, pipeline.execute(), strict=True))


def join(client: Client, shard: int, *, n_shards: int, now_ms: int) -> int:
    """Send held feedback of one shard to its decisions; return how many were joined.

    Safe to repeat: feedback that was sent twice holds once, by its event id.
    """
    # At random: what never matches must not stand in the way of what would.
    found = client.hrandfield(keys.held(shard), MAX_ROUND, withvalues=True) or []
    waiting = list(zip(found[::2], found[1::2], strict=True))
    if not waiting:
        return 0
    records = [record_of(raw) for _, raw in waiting]
    digests = [record["reference"].tobytes() for record in records]
    n_joined = 0
    taken_down = client.pipeline(transaction=True)
    sent = client.pipeline(transaction=False)
    for (event, raw), record, tokens in zip(
        waiting, records, look_up(client, digests, n_shards=n_shards), strict=True
    ):
        meant = choose(tokens, Match(int(record["match"])))
        if not meant:
            waits_since_ms = int(record["received_at_ms"])
            received_ms = waits_since_ms or int.from_bytes(event[:6], "big")
            reason = "ambiguous" if tokens else "unmatched"
            if tokens or now_ms - received_ms > HOLD_MS:
                taken_down.xadd(keys.dead(shard), {"reason": reason, "raw": raw})
                taken_down.hincrby(keys.meta(shard), f"n_{reason}", 1)
                taken_down.hdel(keys.held(shard), event)
            continue
        for token in meant:
            shard_of_it = shard_of(token)
            frame = frames.Frame(frames.UNNUMBERED, shard_of_it, 0, _addressed(record, token))
            sent.xadd(keys.stream(shard_of_it), {"f": frames.pack(frame)})
        taken_down.hdel(keys.held(shard), event)
        n_joined += 1
    sent.execute()  # none is taken down that was not sent; streams may lie on other servers
    taken_down.execute()
    return n_joined


def _addressed(record: np.void, token: bytes) -> bytes:
    value = int(record["value_micro"])
    return feedback(
        token,
        kind=FeedbackKind(int(record["feedback_kind"])),
        value=None if value < 0 else value / MICRO,
        revision=int(record["revision"]),
        event=record["event"].tobytes(),
    )
