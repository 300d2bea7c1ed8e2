"""The one record that travels: what a decision was, and what became of it.

A record is 368 bytes of fixed layout, so that a batch of them is a numpy array without parsing.
It carries no text at all: names are digests, prompts and answers never get here. Fields that
nobody fills yet are zero. `decoding` reads it, and
records of version 2 as well.
"""

from __future__ import annotations

import struct
import zlib
from enum import IntEnum, IntFlag
from functools import cache

from telemetry.tokens import TOKEN_SIZE, Token
from telemetry.traces import NOT_TRACED, CallTrace

RECORD_VERSION = 3
MICRO = 1_000_000
RETRACTED = -1
"""`value_micro` of a feedback that takes back what it said before."""


class Kind(IntEnum):
    """What a record tells."""

    OUTCOME = 1
    FEEDBACK = 2  # of a known decision
    REFERENCE_FEEDBACK = 3  # of an answer id or a caller's reference, to be joined
    FORGET = 4  # an app's user is forgotten: what counts as that rater's goes
    BUDGET_SPEND = 5  # what an attempt came to in accounts of budgets (`budget_spends`)
    REPEAT = 6  # an app asked again what this decision had answered, or failed to


INTENT, CONFIGURATION = 8, 9
"""First byte of a record of the audit trail (`telemetry.trail`), where others have their kind."""


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
    KNOWN = 8192  # of feedback by reference: who took it knew a decision that it means
    RATED = 4096  # of an app whose raters are told apart: a few of each one's labels count
    STAND_IN = 1 << 17  # it serves while the endpoint that its unit drew is out
    GAIN_ENDING = 1 << 18  # its session's draw ended here: the gain is above the cache's worth
    DOMINATED_ENDING = 1 << 19  # its slot's draw ended here: another one was shown to be better
    FAILOVER = 1 << 21  # nothing was drawn for it: nobody whose turn it was could serve
    DRAWN_ANEW = 1 << 22  # the endpoint of the draw before is gone, or an alarm named it
    PROFILE = 1 << 23  # a call of a profile or a check: no traffic of its app
    NAMES_EPISODE = 1 << 20  # the first answer of its role and endpoint in its episode
    ESTIMATED = 1 << 24  # nobody told what it used: tokens are estimates, and cost unless PRICED
    EXPLORED = 1 << 25  # drawn to learn: by the floor or a sample, and another than the choice
    UNANSWERED = 1 << 26  # its call ended with it, and the client got no good answer
    REPORTED = 1 << 27  # the provider told what it cost, be it nothing
    NO_END = 1 << 28  # its call did not end with it: the client left, or another attempt followed
    ASSIGNED = 1 << 29  # chance assigned its unit to a side, in a trial or beside a hold-out
    CONTROL = 1 << 30  # to that of the incumbent
    OTHER_MODEL = 32768  # the answer names another model than was asked for
    TRANSLATED = 65536  # the endpoint does not speak the caller's dialect
    THAWED = 16384  # of feedback: what was said of its decision, an old one, was put back before


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


class PriceSource(IntEnum):
    """Whose price an attempt's cost is by."""

    NONE = 0  # no price is known
    OWN = 1  # what the user wrote
    KNOWN = 2  # what is known of the provider
    PROVIDER = 3  # the provider's own word, where there is no price
    PAID = 4  # of a subscription, while something was left of it


class ServiceTier(IntEnum):
    """The service tier by which a call was served; providers' words are in `telemetry.tiers`."""

    USUAL = 0
    FLEX = 1
    PRIORITY = 2
    BATCH = 3
    SCALE = 4
    OTHER = 255


class Match(IntEnum):
    """Which decisions a reference means when it names several."""

    ONE = 0
    LAST = 1
    ALL = 2
    EPISODE = 3  # of an episode, the first decision of each role and endpoint


_HEAD = struct.Struct("<BBBBHxB")
_OUTCOME = struct.Struct(f"<BBBBHxB{TOKEN_SIZE}s8I2Q8x16s16s16s16sQ8sII8Qq4xBB2xBIHx")
OUTCOME_KIND = int(Kind.OUTCOME)
"""As a plain value: to look up a member of an enum costs as much as packing."""
_FEEDBACK = struct.Struct("<I44xq16x16s16s16s88xqI4B8x")
"""What stands behind the token of a feedback: all that tells of an attempt is left out."""
SEAL = struct.Struct("<II")
RECORD_SIZE = _OUTCOME.size + SEAL.size
NARROW_VERSION = 2
"""Of records that were narrower (`telemetry/narrow.py`)."""
_SIZES = {NARROW_VERSION: 216, RECORD_VERSION: RECORD_SIZE}
TOKEN_OFFSET = _HEAD.size
NO_DIGEST = bytes(16)
U32_MAX = 0xFFFF_FFFF
_MOST = {3: 255, **dict.fromkeys(range(8, 15), U32_MAX), 23: U32_MAX}
"""Of the attempt, tokens, times and what was added, by their places among the values."""


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
    tokens_cache_write: int = 0,
    latency_s: float = 0.0,
    ttft_s: float = 0.0,
    cost_nano: int = 0,
    reported_cost_nano: int = 0,
    price_source: PriceSource = PriceSource.NONE,
    price_day: int = 0,
    price: int = 0,
    tier: ServiceTier = ServiceTier.USUAL,
    response: bytes = NO_DIGEST,
    reference: bytes = NO_DIGEST,
    said: tuple[FeedbackKind, float] | None = None,
    event: bytes = NO_DIGEST,
    configuration: int = 0,
    served_model: int = 0,
    fingerprint: int = 0,
    role: int = 0,
    episode: int = 0,
    prompt: int = 0,
    system_prompt: int = 0,
    tag: int = 0,
    spend_tag: int = 0,
    first_endpoint: int = 0,
    added_s: float = 0.0,
    trace: CallTrace = NOT_TRACED,
) -> bytes:
    """Return the record of one attempt of the decision in `token` (a packed body).

    Args:
        cost_nano: what it cost, by the price that `price_source` and `price_day` name.
        reported_cost_nano: what it cost by the provider's own word; 0 where it has none, or, with
            `Flag.REPORTED`, where that is nothing.
        price: digest of the entry by which `cost_nano` is; 0: of none.
        said: what was thought of the answer, where that comes with the outcome; one record, so
            that both count or neither.
        event: the id under which `said` is heard.
        configuration: digest of the one that was in force.
        served_model, fingerprint: digests of what the answer says of who made it; 0: nothing.
        role: digest of the one in which the call came; 0: none.
        episode: `digests.episode_digest` of the call's session; 0: it has none.
        prompt, system_prompt: digests of the version that the caller names, and of what it sent.
        tag: digest of what the first prompt looks like under the rules in force, where nothing
            said which task it is; 0: nobody looked.
        spend_tag: digest of the tag that the app books its spend by; 0: none was named.
        first_endpoint: digest of the one that the decision's first attempt went to; 0: not known.
        added_s: of a further attempt, by how much its end is later than what was before it.
        trace: of its caller, where that is to be told of it.
    """
    value_micro, kind = (round(said[1] * MICRO), said[0]) if said is not None else (0, 0)
    counts = (tokens_in, tokens_out, tokens_cached, tokens_reasoning, tokens_cache_write)
    times = (int(latency_s * 1e6), int(ttft_s * 1e6))
    values: tuple[int | bytes, ...] = (
        *(OUTCOME_KIND, RECORD_VERSION, result, attempt, status, tier, token, flags),
        *(*counts, *times, cost_nano, reported_cost_nano, response, reference, trace.trace_id),
        *(event, first_endpoint, trace.span_id, round(added_s * 1000)),
        *(price, role, tag, episode, prompt, spend_tag, served_model, fingerprint, configuration),
        *(value_micro, kind, trace.operation, price_source, system_prompt, price_day),
    )
    return packed_outcome(values)


def packed_outcome(values: tuple[int | bytes, ...]) -> bytes:
    """Return the record of an outcome of all its values, by place and in the units that it keeps.

    Each call pays for it. In this order: OUTCOME_KIND, RECORD_VERSION; result, attempt, status,
    tier, token, flags; tokens_in, tokens_out, tokens_cached, tokens_reasoning, tokens_cache_write;
    latency_us, ttft_us; cost_nano, reported_cost_nano; response, reference, id of the trace, event;
    first_endpoint, id of the span, added_ms; price, role, tag, episode, prompt, spend_tag,
    served_model, fingerprint, configuration; value_micro, feedback_kind, operation of the span,
    price_source, system_prompt, price_day. Of what there is more than there is room for, as much is
    kept.
    """
    try:
        body = _OUTCOME.pack(*values)
    except struct.error:
        kept = [min(v, _MOST[i]) if i in _MOST else v for i, v in enumerate(values)]
        body = _OUTCOME.pack(*kept)
    return body + SEAL.pack(zlib.crc32(body), 0)


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
    flags: int = 0,
) -> bytes:
    """Return the record of a feedback; `token` None means that `reference` is yet to be joined.

    Args:
        value: in [0, 1], or None to retract what this kind said before.
        source, rules: of a derived label, what it was read off and by which version of the rules.
        chain: nonce of the first of several attempts at one task, where this is one of them.
        app, shard: without a token, the digest of the app in which the reference means
            something, and the shard that keeps the feedback until it is joined.
        received_at_ms: when it was received, on the store's clock: without a token it means what
            had been decided by then. Earlier versions left it out where that is the event's time.
        flags: without a token, `Flag.KNOWN` where a decision that it means was known.
    """
    if token is None:
        body, what = _nobody(shard, app), Kind.REFERENCE_FEEDBACK
    else:
        body, what = token, Kind.FEEDBACK
    micro = RETRACTED if value is None else round(value * MICRO)
    tail = _FEEDBACK.pack(
        *(flags, received_at_ms, reference, chain, event),
        *(micro, revision, kind, match, source, rules),
    )
    return sealed(_HEAD.pack(what, RECORD_VERSION, 0, 0, 0, 0) + body + tail)


def size_of(version: int) -> int:
    """Return the bytes of a record of this version."""
    return _SIZES[version]


@cache
def _nobody(shard: int, app: int) -> bytes:
    """Return the token of feedback whose decision is not known yet."""
    return Token(0, shard, 0, NO_DIGEST, 0, 0, 0, 0, 0, app, 0, 0, 0.0, 0.0, 0.0).pack()


def sealed(body: bytes) -> bytes:
    """Return the bytes of a record with its checksum."""
    return body + SEAL.pack(zlib.crc32(body), 0)
