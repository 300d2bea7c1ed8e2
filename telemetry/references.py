"""The index from an answer's id or a caller's reference to decisions.

Every shard keeps the references of its own decisions, so that they commit with the outcome: by
spans of two hours, in many small hashes (`telemetry/young.py`), and as much of the decision as the
fold of feedback reads (`telemetry/decisions.py`). They are there while they are young; a look-up
asks for all that is there. Up to schema 4 there was one hash for eight days, digest -> whole
tokens: what lies there is found until it ends.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from telemetry import keys, narrow, young
from telemetry.decisions import KIND, Decisions
from telemetry.digests import episode_name
from telemetry.events import NO_DIGEST, TOKEN_OFFSET, Flag, Match
from telemetry.layouts import RECORD
from telemetry.store import Client
from telemetry.tokens import LAYOUT, TOKEN_SIZE, decided_at_ms, nonce_of, part_of, shard_of

_DAY_MS = 86_400_000
BUCKET_MS = 8 * _DAY_MS
"""What lies together up to schema 4, kept for up to 38 days."""
KEPT_DAYS = 30
"""As long as feedback is heard."""
SKEW_MS = 3_600_000
"""Another machine's clock may be ahead."""
MAX_REFERENCES = 101
"""Decisions kept under one reference, span and shard; the oldest go. One more than may be meant at
once, so that it shows."""
AT_ONCE = 250
"""Digests that a script is asked for."""
MOST_ASKED = 10_000
"""Fields that a script reads at most, for some ten milliseconds: the server does nothing else."""
MOST_TABLES = 256
"""Of kinds, that are kept: one a shard, of each store that this process ever met."""
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
_NAMES_EPISODE, _EPISODE = int(Flag.NAMES_EPISODE), _place(RECORD, "episode")
_NAMES = [_place(RECORD, name) for name in ("response", "reference")]


def bucket(at_ms: int) -> int:
    """Return the bucket of decisions of this time, in milliseconds since the epoch."""
    return at_ms // BUCKET_MS


def expires_at_s(number: int) -> int:
    """Return when nobody asks a bucket any more."""
    return ((number + 1) * BUCKET_MS + (KEPT_DAYS + 1) * _DAY_MS) // 1000


def append(before: bytes | None, tokens: bytes) -> bytes:
    """Return the whole tokens under a reference of a bucket once some joined those `before`."""
    found = (before or b"") + tokens
    if len(found) <= MAX_REFERENCES * narrow.TOKEN_SIZE:
        return found
    if found[0] == LAYOUT:  # then all that follow are as long: no call pays for taking them apart
        return found[-MAX_REFERENCES * TOKEN_SIZE :]
    return b"".join(tokens_in(found)[-MAX_REFERENCES:])


def look_up(
    client: Client, digests: list[bytes], *, n_shards: int, now_ms: int | None = None
) -> list[list[bytes]]:
    """Return for each digest the packed tokens of its young decisions, oldest first.

    Of each shard the last ones, at least `MAX_REFERENCES` where there are so many (`is_cut`). What
    the fold of feedback does not read is 0 in them.

    Args:
        now_ms: the time by which 30 days are counted, if not this machine's.
    Raises:
        redis.RedisError: the store is away.
    """
    distinct = list(dict.fromkeys(digests))
    found = dict(zip(distinct, _look_up(client, distinct, n_shards, now_ms), strict=True))
    return [found[digest] for digest in digests]


def _look_up(
    client: Client, digests: list[bytes], n_shards: int, now_ms: int | None
) -> list[list[bytes]]:
    if not digests:
        return []
    names = [digest[-young.DIGEST_BYTES :] for digest in digests]
    each = [_Look(shard, names) for shard in range(n_shards)]
    while going := [look for look in each if look.is_going]:
        pipeline = client.pipeline(transaction=False)
        for look in going:
            pipeline.execute_command(*look.command())
        for look, reply in zip(going, pipeline.execute(), strict=True):
            look.take(reply)
    found: list[list[bytes]] = [[] for _ in digests]
    if earlier := [look.shard for look in each if look.may_be_earlier]:
        for place, tokens in enumerate(_earlier(client, digests, earlier, now_ms)):
            found[place] += tokens
    for look in each:
        for place, tokens in look.tokens(client):
            found[place] += tokens
    return [in_order(tokens) for tokens in found]


@dataclass(slots=True)
class _Look:
    """A look-up in one shard, a part of the names after the other."""

    shard: int
    names: list[bytes]
    table: bytes = b""  # id of the shard's table of kinds
    history: bytes = b""
    found: list[list[bytes]] = field(default_factory=list)  # packed decisions, of each name so far

    @property
    def is_going(self) -> bool:
        """Whether there are names yet to ask for."""
        return len(self.found) < len(self.names)

    @property
    def may_be_earlier(self) -> bool:
        """Whether anything was folded here by a version that kept references by days."""
        return not self.history.startswith(b"0-0:")

    def command(self) -> tuple[bytes | str | int, ...]:
        """Return what to ask the store next."""
        n = self.shard
        begin = len(self.found)
        hashes = (keys.parts(n), keys.kinds(n), keys.meta(n))
        base = keys.references(n, "", "").removesuffix(":")
        some = self.names[begin : begin + AT_ONCE]
        limits = (MOST_ASKED, MAX_REFERENCES)
        return ("EVAL", young.LUA_LOOK_UP, len(hashes), *hashes, base, *limits, *some)

    def take(self, reply: list[Any]) -> None:
        """Note what the store replied."""
        self.table, self.history, found = reply
        self.found += found

    def tokens(self, client: Client) -> Iterator[tuple[int, list[bytes]]]:
        """Yield places of names, and the packed tokens of what they mean here."""
        places = [place for place, those in enumerate(self.found) if those]
        packed = [raw for place in places for raw in self.found[place]]
        if not packed:
            return
        table = self.table + b"%d" % self.shard
        kinds = _KINDS.get(table, _NO_KINDS)
        needed = max(map(_kind_of, packed))
        if needed >= len(kinds):
            kinds = _kinds(client, self.shard)
            if len(_KINDS) >= MOST_TABLES:
                _KINDS.clear()
            _KINDS[table] = kinds
        # A kind that no table has is of one that is gone: what had it is not known any more.
        sound = [raw for raw in packed if _kind_of(raw) < len(kinds)]
        tokens = iter(_pieces(Decisions.unpack(sound, kinds).to_tokens(self.shard).tobytes()))
        for place in places:
            own = [raw for raw in self.found[place] if _kind_of(raw) < len(kinds)]
            yield place, list(islice(tokens, len(own)))


KIND_AT = 16
"""Where a packed decision has the number of its kind: behind the nonce."""


def _kind_of(packed: bytes) -> int:
    return int.from_bytes(packed[KIND_AT : KIND_AT + 4], "little")


def _pieces(tokens: bytes) -> list[bytes]:
    return [tokens[i : i + TOKEN_SIZE] for i in range(0, len(tokens), TOKEN_SIZE)]


_NO_KINDS = np.zeros(0, dtype=KIND)
_KINDS: dict[bytes, NDArray[np.void]] = {}
"""By id of their table: a number stands for the same kind for ever."""


def _kinds(client: Client, shard: int) -> NDArray[np.void]:
    """Return a shard's table of kinds; what no number says is 0."""
    known = client.hgetall(keys.kinds(shard))
    numbers = {int(number): kind for number, kind in known.items() if number != b"id"}
    out = np.zeros(max(numbers, default=-1) + 1, dtype=KIND)
    for number, kind in numbers.items():
        out[number] = np.frombuffer(kind, dtype=KIND)[0]
    return out


def _earlier(
    client: Client, digests: list[bytes], shards: list[int], now_ms: int | None
) -> list[list[bytes]]:
    """Return of each digest the packed tokens that lie by days, as up to schema 4."""
    if now_ms is None:
        now_ms = int(time.time() * 1000)
    first, last = bucket(now_ms - KEPT_DAYS * _DAY_MS), bucket(now_ms + SKEW_MS)
    pipeline = client.pipeline(transaction=False)
    for shard in shards:
        for number in range(first, last + 1):
            pipeline.hmget(keys.references_of_days(shard, number), digests)
    found = zip(*pipeline.execute(), strict=True)  # by digest
    return [[token for part in parts for token in tokens_in(part)] for parts in found]


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
    oldest one kept nothing is known. So many are kept of each span while it is young, of each eight
    days in the archive; and once so many were found in a shard, earlier spans were not asked.
    """
    if len(tokens) < MAX_REFERENCES:
        return False
    kept: dict[tuple[int, ...], list[int]] = {}
    for token in tokens:
        made_ms, shard = decided_at_ms(token), shard_of(token)
        for group in ((shard,), (shard, 0, bucket(made_ms)), (shard, 1, young.span_of(made_ms))):
            kept.setdefault(group, []).append(made_ms)
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
    """Return the decisions that are meant; none where `match` does not say which of several.

    Args:
        tokens: in order.
    """
    if match is Match.ALL:
        return tokens
    if match is Match.EPISODE:
        first: dict[bytes, bytes] = {}
        for token in tokens:
            first.setdefault(part_of(token), token)
        return list(first.values())
    if match is Match.LAST or len(tokens) == 1:
        return tokens[-1:]
    return []


def names_in(outcome: bytes) -> list[bytes]:
    """Return the digests by which an outcome's decision may be named; none but of a final one.

    A decision whose id left before it was known who would answer is named by its nonce as well, and
    the first one of its role and endpoint by its episode.
    """
    flags = int.from_bytes(outcome[_FLAGS : _FLAGS + _FLAGS_SIZE], "little")
    if not flags & _FINAL:
        return []
    found = [outcome[at : at + 16] for at in _NAMES]
    if flags & _PROMISED:
        found.append(nonce_of(token_in(outcome)))
    if episode := episode_named_by(outcome):
        found.append(episode_name(episode))
    return [digest for digest in found if digest != NO_DIGEST]


def episode_named_by(outcome: bytes) -> int:
    """Return the digest of the episode that an outcome's decision names; 0 of none."""
    flags = int.from_bytes(outcome[_FLAGS : _FLAGS + _FLAGS_SIZE], "little")
    return int.from_bytes(outcome[_EPISODE : _EPISODE + 8], "little") * bool(flags & _NAMES_EPISODE)


def token_in(record: bytes) -> bytes:
    """Return the packed token in a record."""
    return record[TOKEN_OFFSET : TOKEN_OFFSET + TOKEN_SIZE]
