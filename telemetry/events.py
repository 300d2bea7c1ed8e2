"""The one record that travels: what a decision was, and what became of it.

A record is 216 bytes of fixed layout, so that a batch of them is a numpy array without parsing.
It carries no text at all: names are digests, prompts and answers never get here. Fields are only
ever added, under a new `RECORD_VERSION`.
"""

from __future__ import annotations

import secrets
import struct
import zlib
from enum import IntEnum, IntFlag
from functools import cache
from hashlib import blake2b

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from telemetry.errors import MalformedEvent

RECORD_VERSION = 2
TOKEN_VERSION = 5
OLDEST_TOKEN_VERSION = 2
WATCHED_SINCE = 3
"""Version of the token from which on labels are counted for the watch over changes. Those of
earlier decisions were counted in another way, and what they left is read by nobody."""
TAUGHT_SINCE = 4
"""Version of the token from which on labels are counted by app as well."""
FIRST_WORD_SINCE = 5
"""Version of the token from which on the watch over changes hears the first word said of an answer,
and no correction of it. Of earlier decisions it heard whatever held."""
MICRO = 1_000_000
RETRACTED = -1
"""`value_micro` of a feedback that takes back what it said before."""


class Kind(IntEnum):
    """What a record tells."""

    OUTCOME = 1
    FEEDBACK = 2  # of a known decision
    REFERENCE_FEEDBACK = 3  # of an answer id or a caller's reference, to be joined


class Result(IntEnum):
    """How one attempt ended. Those from RATE_LIMIT to BAD_REPLY count against the endpoint."""

    OK = 0
    CLIENT_ERROR = 1  # the request itself was refused: says nothing of the endpoint
    CLIENT_GONE = 2
    RATE_LIMIT = 3
    SERVER = 4
    TIMEOUT = 5
    CONNECT = 6
    CUT = 7  # ended before its end: never a success
    REFUSED = 8  # our key or our model name was turned down
    BAD_REPLY = 9  # status 200, but no answer in it
    OVERTAKEN = 10  # closed, because another one that was started beside it answered first


WAITED = (Result.TIMEOUT, Result.OVERTAKEN)
"""Their times are bounds: the answer would have come later, if at all."""


class Flag(IntFlag):
    """Facts about a decision or an attempt."""

    STREAMED = 1
    USAGE_KNOWN = 2
    ROUTED = 4  # counts in verdicts
    BY_INCUMBENT = 8
    DRAWN_NOW = 16  # this call drew; the others of its unit follow
    FINAL = 32  # the attempt whose answer the client got
    PRICED = 64
    TTFT_KNOWN = 128
    TTFT_BOUND = 512  # `ttft_us` is how long nothing came: the first content would have been later
    PROMISED = 1024  # its id left for the client before it was known who would answer
    INGESTED = 256  # somebody else dispatched the call, and may tell of it more than once
    READ = 2048  # request and answer went to who reads labels off them


class FeedbackKind(IntEnum):
    """Where a label comes from; a stronger kind replaces a weaker one as the reward."""

    DERIVED = 1
    JUDGE = 2
    EDIT = 3
    HUMAN = 4
    TEST = 5


class Source(IntEnum):
    """What a derived label was read off; `CALLER` where somebody said it."""

    CALLER = 0
    EMPTY = 1
    REFUSED = 2
    FILTERED = 3
    TRUNCATED = 4
    SCHEMA = 5  # against the request's own JSON schema
    TOOL_CALL = 6  # name and arguments, against the request's own tools
    TOOL_RESULT = 7  # what the tool said of it, in the next turn
    REGENERATED = 8  # the same request again, after an answer
    EDITED = 9  # the last user message again, changed
    RETRIED = 10  # the same request again, after a failure
    LOOP = 11
    REASONING_LIMIT = 12  # the output limit was spent before the answer began


class Match(IntEnum):
    """Which decisions a reference means when it names several."""

    ONE = 0
    LAST = 1
    ALL = 2


TOKEN = np.dtype(
    [
        ("token_version", "u1"),
        ("key_id", "u1"),
        ("shard", "u1"),
        ("token_flags", "u1"),
        ("nonce", "V16"),
        ("decided_at_ms", "<i8"),
        ("category", "<u8"),
        ("drawn", "<u8"),
        ("executed", "<u8"),
        ("strategy", "<u8"),
        ("app", "<u8"),
        ("release_key", "<u8"),
        ("session", "<u8"),
        ("propensity", "<f4"),
        ("predicted", "<f4"),
        ("predicted_sd", "<f4"),
        ("spread", "<f4"),
        ("regime", "<u4"),
    ]
)
"""The body of a decision token. The client carries it, sealed; nobody has to look it up."""
TOKEN_STRUCT = struct.Struct("<BBBB16sqQQQQQQQffffI")

RECORD = np.dtype(
    [
        ("kind", "u1"),
        ("version", "u1"),
        ("result", "u1"),
        ("attempt", "u1"),
        ("status", "<u2"),
        ("flags", "<u2"),
        ("token", TOKEN),
        ("tokens_in", "<u4"),
        ("tokens_out", "<u4"),
        ("tokens_cached", "<u4"),
        ("tokens_reasoning", "<u4"),
        ("latency_us", "<u4"),
        ("ttft_us", "<u4"),
        ("cost_nano", "<u8"),
        ("response", "V16"),
        ("reference", "V16"),
        ("value_micro", "<i8"),
        ("revision", "<u4"),
        ("feedback_kind", "u1"),
        ("match", "u1"),
        ("source", "u1"),
        ("rules", "u1"),
        ("event", "V16"),
        ("checksum", "<u4"),
        ("padding", "<u4"),
    ]
)
RECORD_SIZE = RECORD.itemsize
_HEAD = struct.Struct("<BBBBHH")
_TAIL = struct.Struct("<IIIIIIQ16s16sqIBBBB16s")
_SEAL = struct.Struct("<II")
CHECKED_AT_ONCE = 256
"""Records: as many as a frame holds. One that is damaged has so many looked at one by one."""
TOKEN_OFFSET = _HEAD.size
NO_DIGEST = bytes(16)
U32_MAX = 0xFFFF_FFFF


class Token(Struct, frozen=True):
    """A decision as it travels; digests are 8-byte integers, times are epoch milliseconds.

    `predicted` and `predicted_sd` are mean and sd of what was believed of the endpoint's quality,
    `spread` the sd of a single reward about that mean: 0 where nothing was predicted. `regime` is
    the one that the endpoint was in, so that its labels need no clock to find their place.
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

    def pack(self) -> bytes:
        """Return the 104-byte body."""
        return TOKEN_STRUCT.pack(
            TOKEN_VERSION,
            self.key_id,
            self.shard,
            self.flags,
            self.nonce,
            self.decided_at_ms,
            self.category,
            self.drawn,
            self.executed,
            self.strategy,
            self.app,
            self.release_key,
            self.session,
            self.propensity,
            self.predicted,
            self.predicted_sd,
            self.spread,
            self.regime,
        )

    @classmethod
    def unpack(cls, body: bytes) -> Token:
        """Return the token in `body`.

        Raises:
            MalformedEvent: wrong length or version.
        """
        known = range(OLDEST_TOKEN_VERSION, TOKEN_VERSION + 1)
        if len(body) != TOKEN_STRUCT.size or body[0] not in known:
            raise MalformedEvent(f"a token body of {len(body)} bytes, version {body[:1].hex()}")
        return cls(*TOKEN_STRUCT.unpack(body)[1:])


def outcome(
    token: bytes,
    *,
    result: Result,
    attempt: int,
    status: int,
    flags: int,
    tokens_in: int = 0,
    tokens_out: int = 0,
    tokens_cached: int = 0,
    tokens_reasoning: int = 0,
    latency_s: float = 0.0,
    ttft_s: float = 0.0,
    cost_nano: int = 0,
    response: bytes = NO_DIGEST,
    reference: bytes = NO_DIGEST,
    said: tuple[FeedbackKind, float] | None = None,
    event: bytes = NO_DIGEST,
) -> bytes:
    """Return the record of one attempt of the decision in `token` (a packed body).

    Args:
        said: what was thought of the answer, where that comes with the outcome; one record, so
            that both count or neither.
        event: the id under which `said` is heard.
    """
    head = _HEAD.pack(Kind.OUTCOME, RECORD_VERSION, result, min(attempt, 255), status, flags)
    tail = _TAIL.pack(
        min(tokens_in, U32_MAX),
        min(tokens_out, U32_MAX),
        min(tokens_cached, U32_MAX),
        min(tokens_reasoning, U32_MAX),
        min(int(latency_s * 1e6), U32_MAX),
        min(int(ttft_s * 1e6), U32_MAX),
        cost_nano,
        response,
        reference,
        round(said[1] * MICRO) if said else 0,
        0,
        said[0] if said else 0,
        0,
        0,
        0,
        event,
    )
    return _sealed(head + token + tail)


def feedback(
    token: bytes | None,
    *,
    kind: FeedbackKind,
    value: float | None,
    revision: int,
    event: bytes,
    reference: bytes = NO_DIGEST,
    app: int = 0,
    shard: int = 0,
    match: Match = Match.ONE,
    source: Source = Source.CALLER,
    rules: int = 0,
    chain: bytes = NO_DIGEST,
    received_at_ms: int = 0,
) -> bytes:
    """Return the record of a feedback; `token` None means that `reference` is yet to be joined.

    Args:
        value: in [0, 1], or None to retract what this kind said before.
        source, rules: of a derived label, what it was read off and by which version of the rules.
        chain: nonce of the first of several attempts at one task, where this is one of them.
        app, shard: without a token, the digest of the app in which the reference means
            something, and the shard that keeps the feedback until it is joined.
        received_at_ms: without a token, when it was received, on the store's clock: it means what
            had been decided by then. Earlier versions left it out where that is the event's time.
    """
    if token is None:
        what = Kind.REFERENCE_FEEDBACK
        body = Token(
            0, shard, 0, NO_DIGEST, received_at_ms, 0, 0, 0, 0, app, 0, 0, 0.0, 0.0, 0.0
        ).pack()
    else:
        what, body = Kind.FEEDBACK, token
    micro = RETRACTED if value is None else round(value * MICRO)
    tail = _TAIL.pack(
        *(0, 0, 0, 0, 0, 0, 0, chain, reference, micro, revision, kind, match, source, rules, event)
    )
    return _sealed(_HEAD.pack(what, RECORD_VERSION, 0, 0, 0, 0) + body + tail)


def shard_of(token: bytes) -> int:
    """Return the shard of a packed token."""
    return token[2]


def nonce_of(token: bytes) -> bytes:
    """Return the nonce of a packed token."""
    return token[4:20]


def new_event_id(at_ms: int) -> bytes:
    """Return 16 bytes that sort by time: of two feedbacks of one revision the later one holds."""
    return at_ms.to_bytes(6, "big") + secrets.token_bytes(10)


def ingested_event_id(at_ms: int, digest: bytes) -> bytes:
    """Return an id that sorts by time like any other, and is the same each time it is told."""
    return at_ms.to_bytes(6, "big") + digest[:10]


def decode(data: bytes) -> tuple[NDArray[np.void], list[bytes]]:
    """Return the sound records of `data` as an array of RECORD, and the raw unsound ones."""
    whole = len(data) // RECORD_SIZE * RECORD_SIZE
    records = np.frombuffer(data[:whole], dtype=RECORD)
    bad = [data[whole:]] if whole != len(data) else []
    sound = _valid(records) & _sealed_well(data[:whole], records["checksum"])
    for i in np.flatnonzero(~sound):
        bad.append(data[i * RECORD_SIZE : (i + 1) * RECORD_SIZE])
    # A whole record is copied at once by `compress`, and field by field by `records[sound]`.
    return records if sound.all() else records.compress(sound), bad


def digest8(*parts: str) -> int:
    """Return a stable 8-byte digest of names, as an unsigned integer."""
    return int.from_bytes(blake2b("\x1f".join(parts).encode(), digest_size=8).digest(), "little")


def digest16(*parts: str) -> bytes:
    """Return a stable 16-byte digest of an app and an id or reference."""
    return blake2b("\x1f".join(parts).encode(), digest_size=16).digest()


def _valid(records: NDArray[np.void]) -> NDArray[np.bool_]:
    """Return which records hold only values that their fields allow."""
    kind, value = records["kind"], records["value_micro"]
    said = (records["feedback_kind"] <= max(FeedbackKind)) & (value >= RETRACTED) & (value <= MICRO)
    outcome_ok = (kind == Kind.OUTCOME) & (records["result"] <= max(Result)) & said
    feedback_ok = (
        ((kind == Kind.FEEDBACK) | (kind == Kind.REFERENCE_FEEDBACK))
        & said
        & (records["feedback_kind"] >= min(FeedbackKind))
        & (records["match"] <= max(Match))
        & (records["source"] <= max(Source))
    )
    return np.asarray((records["version"] == RECORD_VERSION) & (outcome_ok | feedback_ok))


def _sealed_well(data: bytes, checksums: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Return which records carry the checksum of their own bytes."""
    out = np.ones(len(checksums), dtype=bool)
    for first in range(0, len(out), CHECKED_AT_ONCE):
        n = min(CHECKED_AT_ONCE, len(out) - first)
        part = memoryview(data)[first * RECORD_SIZE : (first + n) * RECORD_SIZE]
        if zlib.crc32(part) == _checksums_of_sound()[n]:
            continue
        ends = range(RECORD_SIZE - _SEAL.size, len(part), RECORD_SIZE)
        found = [zlib.crc32(part[end + _SEAL.size - RECORD_SIZE : end]) for end in ends]
        out[first : first + n] = checksums[first : first + n] == np.array(found, dtype=np.uint32)
    return out


@cache
def _checksums_of_sound() -> list[int]:
    """Return the checksum of 0, 1, 2, … sealed records in a row, whatever they hold.

    A CRC is linear, and that of bytes with their own CRC behind them is always the same. So one
    look at many records tells that each is sound: one that is not changes the whole for certain,
    several cancel out as seldom as a single record's checksum errs.
    """
    nothing = bytes(RECORD_SIZE)
    sealed = zlib.crc32(_sealed(bytes(RECORD_SIZE - _SEAL.size)))
    out = [0]
    for _ in range(CHECKED_AT_ONCE):
        out.append(sealed ^ zlib.crc32(nothing, out[-1]) ^ zlib.crc32(nothing))
    return out


def _sealed(body: bytes) -> bytes:
    return body + _SEAL.pack(zlib.crc32(body), 0)
