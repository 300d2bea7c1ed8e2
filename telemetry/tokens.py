"""The token: a decision as it travels, with the client, in records and under references.

120 bytes of fixed layout. The client carries it sealed, so nobody has to look a decision up.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from hashlib import blake2b
from itertools import accumulate
from typing import Any

from msgspec import Struct

from telemetry.errors import MalformedEvent

LAYOUT = 6
"""First byte of a token; earlier ones were narrower (`telemetry/narrow.py`)."""
TOKEN_VERSION = 6
WATCHED_SINCE = 3
"""Version of the token from which on labels are counted for the watch over changes. Those of
earlier decisions were counted in another way, and what they left is read by nobody."""
TAUGHT_SINCE = 4
"""Version of the token from which on labels are counted by app as well."""
FIRST_WORD_SINCE = 5
"""Version of the token from which on the watch over changes hears the first word said of an answer,
and no correction of it. Of earlier decisions it heard whatever held."""
COUNTED_SINCE = 6
"""Version of the token from which on calls are counted by app."""

TOKEN_FIELDS = [
    ("layout", "u1"),
    ("token_version", "u1"),  # which rules its labels are counted by
    ("shard", "<u2"),
    ("key_id", "<u4"),
    ("nonce", "V16"),
    ("decided_at_ms", "<i8"),
    ("category", "<u8"),
    ("drawn", "<u8"),
    ("executed", "<u8"),
    ("strategy", "<u8"),
    ("app", "<u8"),
    ("release_key", "<u8"),
    ("session", "<u8"),
    ("user", "<u8"),
    ("propensity", "<f4"),
    ("predicted", "<f4"),
    ("predicted_sd", "<f4"),
    ("spread", "<f4"),
    ("regime", "<u4"),
    ("token_flags", "<u2"),
    ("role_mark", "<u2"),  # 0 of no role, as were the flags' upper bytes before it
]
"""Names and formats, in order; as an array it is `layouts.TOKEN`."""
_TOKEN = struct.Struct("<BBHI16sq8Q4fI2H")
TOKEN_SIZE = _TOKEN.size
_DIGESTS, _BELIEFS = struct.Struct("<6Q"), struct.Struct("<3fI")
_OF_KIND = struct.Struct(f"<BBHI16sq{_DIGESTS.size}s8s8sf{_BELIEFS.size}s2H")
"""The same as `_TOKEN`, with what many decisions share as it was packed once."""
_USER = [name for name, _ in TOKEN_FIELDS].index("user")
_ENDS = accumulate(int(format_.lstrip("<ufiV")) for _, format_ in TOKEN_FIELDS)
_PLACES = dict(zip((name for name, _ in TOKEN_FIELDS), (0, *_ENDS), strict=False))


class Token(Struct, frozen=True):
    """A decision as it travels; digests are 8-byte integers, times are epoch milliseconds.

    `predicted` and `predicted_sd` are mean and sd of what was believed of the endpoint's quality,
    `spread` the sd of a single reward about that mean: 0 where nothing was predicted. `regime` is
    the one that the endpoint was in, and above it the epoch of the task, so that its labels need no
    clock to find their place. `user`
    is a keyed digest: 0 where no user was named, or the store's secret was not known. `role` is
    the mark of the role in which the call came, 0 of none.
    """

    key_id: int
    shard: int
    flags: int
    nonce: bytes
    decided_at_ms: int
    category: int
    drawn: int
    executed: int
    strategy: int
    app: int
    release_key: int
    session: int
    propensity: float
    predicted: float
    predicted_sd: float
    spread: float = 0.0
    regime: int = 0
    user: int = 0
    role: int = 0

    def pack(self) -> bytes:
        """Return the 120-byte body."""
        return _TOKEN.pack(
            LAYOUT,
            TOKEN_VERSION,
            self.shard,
            self.key_id,
            self.nonce,
            self.decided_at_ms,
            self.category,
            self.drawn,
            self.executed,
            self.strategy,
            self.app,
            self.release_key,
            self.session,
            self.user,
            self.propensity,
            self.predicted,
            self.predicted_sd,
            self.spread,
            self.regime,
            self.flags,
            self.role,
        )

    @classmethod
    def unpack(cls, body: bytes) -> Token:
        """Return the token in `body`.

        Raises:
            MalformedEvent: wrong length or layout.
        """
        if len(body) != TOKEN_SIZE or body[0] != LAYOUT:
            raise MalformedEvent(f"a token body of {len(body)} bytes, layout {body[:1].hex()}")
        found = _TOKEN.unpack(body)
        shard, key_id, *before_user = found[2:_USER]
        user, *beliefs, flags, role = found[_USER:]
        whole: list[Any] = [key_id, shard, flags, *before_user, *beliefs, user, role]
        return cls(*whole)


class TokenKind(Struct, frozen=True):
    """What the tokens of many decisions share, packed once."""

    digests: bytes
    beliefs: bytes

    @classmethod
    def of(
        cls,
        *,
        category: int,
        drawn: int,
        executed: int,
        strategy: int,
        app: int,
        release_key: int,
        predicted: float = 0.0,
        predicted_sd: float = 0.0,
        spread: float = 0.0,
        regime: int = 0,
    ) -> TokenKind:
        """Return a kind; all is as `Token` has it."""
        digests = _DIGESTS.pack(category, drawn, executed, strategy, app, release_key)
        return cls(digests, _BELIEFS.pack(predicted, predicted_sd, spread, regime))

    def pack(
        self,
        shard: int,
        key_id: int,
        nonce: bytes,
        decided_at_ms: int,
        session: bytes,
        user: bytes,
        propensity: float,
        flags: int,
        role: int,
    ) -> bytes:
        """Return the packed token of one of its decisions.

        Args:
            session, user: their eight bytes; empty of nobody.
        """
        return _OF_KIND.pack(
            *(LAYOUT, TOKEN_VERSION, shard, key_id, nonce, decided_at_ms, self.digests, session),
            *(user, propensity, self.beliefs, flags, role),
        )


@lru_cache(maxsize=1024)
def role_mark(name: str) -> int:
    """Return the two bytes by which tokens tell a role: never 0, which is none.

    Two roles share one as seldom as once in 65,535 pairs: then their figures are told together.
    """
    digest = blake2b(name.encode(), digest_size=8, person=b"role").digest()
    return int.from_bytes(digest, "little") % 0xFFFF + 1


def shard_of(token: bytes) -> int:
    """Return the shard of a packed token."""
    return token[_PLACES["shard"]]


def nonce_of(token: bytes) -> bytes:
    """Return the nonce of a packed token."""
    return token[_PLACES["nonce"] : _PLACES["nonce"] + 16]


def decided_at_ms(token: bytes) -> int:
    """Return when the decision of a packed token was made."""
    place = _PLACES["decided_at_ms"]
    return int.from_bytes(token[place : place + 8], "little", signed=True)


def executed_of(token: bytes) -> int:
    """Return the digest of the endpoint that a packed token names as who served."""
    place = _PLACES["executed"]
    return int.from_bytes(token[place : place + 8], "little")


def part_of(token: bytes) -> bytes:
    """Return which part of an episode a packed token's call played: its role, and who served it."""
    role, executed = _PLACES["role_mark"], _PLACES["executed"]
    return token[role : role + 2] + token[executed : executed + 8]


def user_of(token: bytes) -> bytes:
    """Return the keyed hash of a packed token's user; zeros of nobody."""
    return token[_PLACES["user"] : _PLACES["user"] + 8]


def under_key(token: bytes, key_id: int) -> bytes:
    """Return a packed token as the key of this id is to seal it."""
    return token[:4] + key_id.to_bytes(4, "little") + token[8:]
