"""The record of an attempt: its flags, its figures, and what its call was booked under."""

from __future__ import annotations

from router.config.compiled import Role
from router.dispatch.ending import Ending
from telemetry.digests import name_digest
from telemetry.events import MICRO, NO_DIGEST, WAITED, FeedbackKind, Flag, Result, packed_outcome
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


def outcome(
    token: bytes,
    ended: Ending,
    *,
    app: str,
    flags: int,
    reference: str | None,
    configuration: int = 0,
    said: tuple[FeedbackKind, float] | None = None,
    event: bytes = NO_DIGEST,
    role: Role | None = None,
    episode: int = 0,
    prompt: int = 0,
    system_prompt: int = 0,
    tag: int = 0,
    spend_tag: int = 0,
) -> bytes:
    """Return the record of an attempt; what is None is not known.

    Args:
        token: packed.
        app: name, in which answer id and reference mean something.
        flags: without those that say what is known.
        configuration, said, event, episode, prompt, system_prompt, tag, spend_tag: as
            `events.outcome` has them.
    """
    response, named = names_of(app, ended.answer_id, reference)
    return record_of(
        *(token, ended, flags, response, named, configuration, role),
        *(episode, prompt, system_prompt, tag, spend_tag, said, event),
    )


def record_of(
    token: bytes,
    ended: Ending,
    flags: int,
    response: bytes,
    reference: bytes,
    configuration: int,
    role: Role | None,
    episode: int,
    prompt: int,
    system_prompt: int,
    tag: int,
    spend_tag: int,
    said: tuple[FeedbackKind, float] | None = None,
    event: bytes = NO_DIGEST,
) -> bytes:
    """Return the record of an attempt, as `outcome` does; names come as their digests."""
    usage = ended.usage or ended.estimate or NOTHING_USED
    if ended.usage is not None:
        flags |= USAGE_KNOWN
    elif ended.estimate is not None:
        flags |= ESTIMATED
    flags |= PRICED if ended.cost_nano is not None and not ended.is_guessed else 0
    flags |= REPORTED if ended.reported_nano is not None else 0
    if flags & FINAL and ended.result in NO_ENDS:
        flags |= NO_END
    elif flags & (FINAL | NO_END) == FINAL and ended.result is not Result.OK:
        flags |= UNANSWERED
    ttft_s = ended.ttft_s
    if ttft_s is not None:
        flags |= TTFT_KNOWN
    elif flags & STREAMED and ended.result in WAITED:
        flags, ttft_s = flags | TTFT_BOUND, ended.latency_s
    value_micro, kind = (round(said[1] * MICRO), said[0]) if said is not None else (0, 0)
    seen, trace, added_ms = ended.seen, ended.trace, round(ended.added_s * 1000)
    latency_us, ttft_us = int(ended.latency_s * 1e6), int(ttft_s * 1e6) if ttft_s else 0
    return packed_outcome(
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
        ttft_us,
        ended.cost_nano or 0,
        ended.reported_nano or 0,
        response,
        reference,
        trace.trace_id,
        event,
        ended.first_endpoint or executed_of(token),
        trace.span_id,
        added_ms,
        ended.price,
        role.digest if role is not None else 0,
        tag,
        episode,
        prompt,
        spend_tag,
        seen.model,
        seen.fingerprint,
        configuration,
        value_micro,
        kind,
        trace.operation,
        ended.price_source,
        system_prompt,
        ended.price_day,
    )


def names_of(app: str, answer_id: str | None, reference: str | None) -> tuple[bytes, bytes]:
    """Return the digests of an answer's id and of the caller's own reference."""
    return (
        name_digest(app, "response", answer_id) if answer_id else NO_DIGEST,
        name_digest(app, "ref", reference) if reference else NO_DIGEST,
    )
