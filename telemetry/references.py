"""The index from an answer's id or a caller's reference to decisions.

Every shard keeps the references of its own decisions, so that they commit with the outcome: one
hash a span of days, digest -> packed tokens, back to back. A look-up asks every hash that may hold
a decision of the last 30 days. One hash with one time to live costs a third of what a list with
its own for each digest does, in time and in memory.
"""

from __future__ import annotations

import time

from telemetry import keys, narrow
from telemetry.events import Match
from telemetry.store import Client
from telemetry.tokens import TOKEN_SIZE, decided_at_ms, nonce_of

_DAY_MS = 86_400_000
BUCKET_MS = 8 * _DAY_MS
"""A look-up asks five or six hashes a shard; references are kept for up to 38 days."""
KEPT_DAYS = 30
"""As long as feedback is heard."""
SKEW_MS = 3_600_000
"""Another machine's clock may be ahead."""
MAX_REFERENCES = 100
"""Decisions kept under one reference and bucket; the oldest go."""


def bucket(at_ms: int) -> int:
    """Return the bucket of decisions of this time, in milliseconds since the epoch."""
    return at_ms // BUCKET_MS


def expires_at_s(number: int) -> int:
    """Return when nobody asks a bucket any more."""
    return ((number + 1) * BUCKET_MS + (KEPT_DAYS + 1) * _DAY_MS) // 1000


def append(before: bytes | None, tokens: bytes) -> bytes:
    """Return the tokens under a reference once `tokens` joined those `before`."""
    found = (before or b"") + tokens
    if len(found) <= MAX_REFERENCES * narrow.TOKEN_SIZE:
        return found
    return b"".join(_split(found)[-MAX_REFERENCES:])


def look_up(
    client: Client, digests: list[bytes], *, n_shards: int, now_ms: int | None = None
) -> list[list[bytes]]:
    """Return for each digest the packed tokens of its decisions, oldest first.

    Args:
        now_ms: the time by which 30 days are counted, if not this machine's.
    Raises:
        redis.RedisError: the store is away.
    """
    if not digests:
        return []
    if now_ms is None:
        now_ms = int(time.time() * 1000)
    first, last = bucket(now_ms - KEPT_DAYS * _DAY_MS), bucket(now_ms + SKEW_MS)
    pipeline = client.pipeline(transaction=False)
    for shard in range(n_shards):
        for number in range(first, last + 1):
            pipeline.hmget(keys.references(shard, number), digests)
    out = []
    for parts in zip(*pipeline.execute(), strict=True):
        tokens = {nonce_of(token): token for part in parts for token in _split(part or b"")}
        out.append(sorted(tokens.values(), key=decided_at_ms))
    return out


def _split(value: bytes) -> list[bytes]:
    """Return the tokens that a stored value holds; those of earlier versions as ones of today."""
    out, at = [], 0
    while at < len(value):
        is_narrow = value[at] in narrow.TOKEN_VERSIONS
        size = narrow.TOKEN_SIZE if is_narrow else TOKEN_SIZE
        token = value[at : at + size]
        if len(token) == size:
            out.append(narrow.widened_token(token) if is_narrow else token)
        at += size
    return out


def choose(tokens: list[bytes], match: Match) -> list[bytes]:
    """Return the decisions that are meant; none where `match` does not say which of several."""
    if match is Match.ALL:
        return tokens
    if match is Match.LAST or len(tokens) == 1:
        return tokens[-1:]
    return []
