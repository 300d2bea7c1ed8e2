"""The index from an answer's id or a caller's reference to decisions.

Every shard keeps the references of its own decisions, so that they commit with the outcome; a
look-up asks all of them.
"""

from __future__ import annotations

from telemetry import keys
from telemetry.events import TOKEN_STRUCT, Match
from telemetry.store import Client


def look_up(client: Client, digests: list[bytes], *, n_shards: int) -> list[list[bytes]]:
    """Return for each digest the packed tokens of its decisions, oldest first.

    Raises:
        redis.RedisError: the store is away.
    """
    pipeline = client.pipeline(transaction=False)
    for digest in digests:
        for shard in range(n_shards):
            pipeline.lrange(keys.reference(shard, digest.hex()), 0, -1)
    replies = pipeline.execute()
    out = []
    for i in range(len(digests)):
        found = [t for part in replies[i * n_shards : (i + 1) * n_shards] for t in part]
        tokens = {t[4:20]: t for t in found if len(t) == TOKEN_STRUCT.size}  # one a decision
        out.append(sorted(tokens.values(), key=decided_at_ms))
    return out


def decided_at_ms(token: bytes) -> int:
    """Return when the decision of a packed token was made."""
    return int.from_bytes(token[20:28], "little", signed=True)


def choose(tokens: list[bytes], match: Match) -> list[bytes]:
    """Return the decisions that are meant; none where `match` does not say which of several."""
    if match is Match.ALL:
        return tokens
    if match is Match.LAST or len(tokens) == 1:
        return tokens[-1:]
    return []
