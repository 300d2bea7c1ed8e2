"""The index from an answer's id or a caller's reference to decisions.

Every shard keeps the references of its own decisions, so that they commit with the outcome: one
hash a span of days, digest -> packed tokens, back to back. A look-up asks every hash that may hold
a decision of the last 30 days. One hash with one time to live costs a third of what a list with
its own for each digest does, in time and in memory.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np

from telemetry import keys, narrow
from telemetry.events import NO_DIGEST, RECORD, TOKEN_OFFSET, Flag, Match
from telemetry.store import Client
from telemetry.tokens import LAYOUT, TOKEN_SIZE, decided_at_ms, nonce_of, shard_of

_DAY_MS = 86_400_000
BUCKET_MS = 8 * _DAY_MS
"""A look-up asks five or six hashes a shard; references are kept for up to 38 days."""
KEPT_DAYS = 30
"""As long as feedback is heard."""
SKEW_MS = 3_600_000
"""Another machine's clock may be ahead."""
MAX_REFERENCES = 101
"""Decisions kept under one reference, bucket and shard; the oldest go. One more than may be meant
at once, so that it shows."""
NONCE_COUNT_BYTES = 2
"""The last bytes of a nonce count the decisions of its process, round and round."""
AHEAD_MS = _DAY_MS
"""Where nothing had been decided yet, a reference means what is decided first in this time: an
app's own pipeline may judge an answer before its outcome arrives; not a day before."""


def _place(layout: np.dtype[np.void], name: str) -> int:
    fields = layout.fields
    assert fields is not None
    return fields[name][1]


_FLAGS, _FLAGS_SIZE = _place(RECORD, "flags"), RECORD["flags"].itemsize
_FINAL, _PROMISED = int(Flag.FINAL), int(Flag.PROMISED)  # plain: enum members cost a microsecond
_NAMES = [_place(RECORD, name) for name in ("response", "reference")]


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
    if found[0] == LAYOUT:  # then all that follow are as long: no call pays for taking them apart
        return found[-MAX_REFERENCES * TOKEN_SIZE :]
    return b"".join(tokens_in(found)[-MAX_REFERENCES:])


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
    found = zip(*pipeline.execute(), strict=True)  # by digest
    return [in_order(t for part in parts for t in tokens_in(part)) for parts in found]


def in_order(tokens: Iterable[bytes]) -> list[bytes]:
    """Return packed tokens in the order of their decisions, one a decision.

    Those of one millisecond stand in the order in which their process made them, and of several
    processes in one that is the same wherever it is asked.
    """
    distinct = {nonce_of(token): token for token in tokens}
    return [distinct[nonce] for nonce in sorted(distinct, key=lambda n: _order(distinct[n], n))]


def _order(token: bytes, nonce: bytes) -> tuple[int, bytes, bytes]:
    return decided_at_ms(token), nonce[-NONCE_COUNT_BYTES:], nonce


def tokens_in(value: bytes | None) -> list[bytes]:
    """Return the tokens that a stored value holds; those of earlier versions as ones of today."""
    out, at, value = [], 0, value or b""
    while at < len(value):
        is_narrow = value[at] in narrow.TOKEN_VERSIONS
        size = narrow.TOKEN_SIZE if is_narrow else TOKEN_SIZE
        token = value[at : at + size]
        if len(token) == size:
            out.append(narrow.widened_token(token) if is_narrow else token)
        at += size
    return out


def up_to(tokens: list[bytes], received_ms: int) -> list[bytes]:
    """Return the decisions that a reference meant when feedback by it was received."""
    return [token for token in tokens if decided_at_ms(token) <= received_ms]


def is_cut(tokens: list[bytes], received_ms: int) -> bool:
    """Return whether older decisions than those that are kept may be meant, too.

    Where as many are kept as ever are, earlier ones may have gone: of what was decided before the
    oldest one kept nothing is known.
    """
    kept: dict[tuple[int, int], list[int]] = {}
    for token in tokens:
        made_ms = decided_at_ms(token)
        kept.setdefault((shard_of(token), bucket(made_ms)), []).append(made_ms)
    full = [min(times) for times in kept.values() if len(times) >= MAX_REFERENCES]
    return any(received_ms < oldest_ms for oldest_ms in full)


def is_full(tokens: list[bytes]) -> bool:
    """Return whether there may have been more decisions than those that are kept."""
    return is_cut(tokens, -1)


def first_after(tokens: list[bytes], received_ms: int) -> list[bytes]:
    """Return what a reference means where nothing had been decided: what came first, if in time.

    Args:
        tokens: in order.
    """
    until_ms = received_ms + AHEAD_MS
    return [t for t in tokens if received_ms < decided_at_ms(t) <= until_ms][:1]


def choose(tokens: list[bytes], match: Match) -> list[bytes]:
    """Return the decisions that are meant; none where `match` does not say which of several."""
    if match is Match.ALL:
        return tokens
    if match is Match.LAST or len(tokens) == 1:
        return tokens[-1:]
    return []


def names_in(outcome: bytes) -> list[bytes]:
    """Return the digests by which an outcome's decision may be named; none but of a final one.

    A decision whose id left before it was known who would answer is named by its nonce as well.
    """
    flags = int.from_bytes(outcome[_FLAGS : _FLAGS + _FLAGS_SIZE], "little")
    if not flags & _FINAL:
        return []
    found = [outcome[at : at + 16] for at in _NAMES]
    if flags & _PROMISED:
        found.append(nonce_of(token_in(outcome)))
    return [digest for digest in found if digest != NO_DIGEST]


def token_in(record: bytes) -> bytes:
    """Return the packed token in a record."""
    return record[TOKEN_OFFSET : TOKEN_OFFSET + TOKEN_SIZE]
