"""The record of an attempt: its flags, its figures, and what its call was booked under."""

from __future__ import annotations

from msgspec import Struct

from router.dispatch.ending import Ending
from telemetry.digests import name_digest
from telemetry.events import (
    MICRO,
    NO_DIGEST,
    OUTCOME_KIND,
    RECORD_VERSION,
    WAITED,
    FeedbackKind,
    Flag,
    Result,
    packed_outcome,
)
from telemetry.tokens import executed_of
from telemetry.wire.usage import Usage

# Flags and names as plain values: arithmetic on enum members costs a microsecond an operation.
STREAMED, USAGE_KNOWN, FINAL = int(Flag.STREAMED), int(Flag.USAGE_KNOWN), int(Flag.FINAL)
PRICED, TTFT_KNOWN = int(Flag.PRICED), int(Flag.TTFT_KNOWN)
TTFT_BOUND, PROMISED, READ = int(Flag.TTFT_BOUND), int(Flag.PROMISED), int(Flag.READ)
OTHER_MODEL, ESTIMATED = int(Flag.OTHER_MODEL), int(Flag.ESTIMATED)
REPORTED, UNANSWERED, NO_END = int(Flag.REPORTED), int(Flag.UNANSWERED), int(Flag.NO_END)
TRANSLATED, NAMES_EPISODE = int(Flag.TRANSLATED), int(Flag.NAMES_EPISODE)
NO_ENDS = frozenset((Result.CLIENT_GONE, Result.OVERTAKEN))
"""Ends of attempts with which no call ends: the client left, or has another answer."""
NOTHING_USED = Usage(0, 0, 0, 0)


class BookedUnder(Struct, frozen=True, gc=False):
    """What an attempt's call is booked under, beside its token; all is as `events.outcome` has it.

    Made once a call: by position, to name each takes longer.
    """

    configuration: int = 0
    role: int = 0
    episode: int = 0
    prompt: int = 0
    system_prompt: int = 0
    tag: int = 0
    spend_tag: int = 0


NOTHING_MORE = BookedUnder()


def outcome(
    token: bytes,
    ended: Ending,
    *,
    app: str,
    flags: int,
    reference: str | None,
    under: BookedUnder = NOTHING_MORE,
    said: tuple[FeedbackKind, float] | None = None,
    event: bytes = NO_DIGEST,
) -> bytes:
    """Return the record of an attempt; what is None is not known.

    Args:
        token: packed.
        app: name, in which answer id and reference mean something.
        flags: without those that say what is known.
        said, event: as `events.outcome` has them.
    """
    response, named = names_of(app, ended.answer_id, reference)
    return record_of(token, ended, flags, response, named, under, said, event)


def record_of(
    token: bytes,
    ended: Ending,
    flags: int,
    response: bytes,
    reference: bytes,
    under: BookedUnder,
    said: tuple[FeedbackKind, float] | None = None,
    event: bytes = NO_DIGEST,
) -> bytes:
    """Return the record of an attempt, as `outcome` does; names come as their digests."""
    usage, cost_nano, reported_nano = ended.usage, ended.cost_nano, ended.reported_nano
    if usage is not None:
        flags |= USAGE_KNOWN
    elif ended.estimate is not None:
        usage, flags = ended.estimate, flags | ESTIMATED
    else:
        usage = NOTHING_USED
    if cost_nano is None:
        cost_nano = 0
    elif not ended.is_guessed:
        flags |= PRICED
    if reported_nano is not None:
        flags |= REPORTED
    if ended.result is not Result.OK:
        flags |= _end_of(flags, ended.result)
    latency_us, ttft_s = int(ended.latency_s * 1e6), ended.ttft_s
    if ttft_s is not None:
        flags |= TTFT_KNOWN
    elif flags & STREAMED and ended.result in WAITED:
        flags, ttft_s = flags | TTFT_BOUND, ended.latency_s
    value_micro, kind = (round(said[1] * MICRO), said[0]) if said is not None else (0, 0)
    seen, trace = ended.seen, ended.trace
    return packed_outcome(
        (
            OUTCOME_KIND,
            RECORD_VERSION,
            ended.result,
            ended.number,
            ended.status,
            ended.tier,
            token,
            flags,
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.cached_tokens,
            usage.reasoning_tokens,
            usage.written_tokens,
            latency_us,
            int(ttft_s * 1e6) if ttft_s else 0,
            cost_nano,
            reported_nano or 0,
            response,
            reference,
            trace.trace_id,
            event,
            ended.first_endpoint or executed_of(token),
            trace.span_id,
            round(ended.added_s * 1000) if ended.added_s else 0,
            ended.price,
            under.role,
            under.tag,
            under.episode,
            under.prompt,
            under.spend_tag,
            seen.model,
            seen.fingerprint,
            under.configuration,
            value_micro,
            kind,
            trace.operation,
            ended.price_source,
            under.system_prompt,
            ended.price_day,
        )
    )


def _end_of(flags: int, result: Result) -> int:
    """Return what flags say of an attempt that was no success, and whose call it ended."""
    if flags & FINAL and result in NO_ENDS:
        return NO_END
    return UNANSWERED if flags & (FINAL | NO_END) == FINAL else 0


def names_of(app: str, answer_id: str | None, reference: str | None) -> tuple[bytes, bytes]:
    """Return the digests of an answer's id and of the caller's own reference."""
    return (
        name_digest(app, "response", answer_id) if answer_id else NO_DIGEST,
        name_digest(app, "ref", reference) if reference else NO_DIGEST,
    )
