"""Labels that the sidecar reads off the calls themselves, one per decision. Pure.

A label says what can be seen and nothing more: an answer that no client can use, one that meets
the request's own schema, a tool that reports a failed call, the same thing asked again. Silence and
words of thanks or anger never are one. Later evidence may turn nothing into good or bad, and good
into bad; each change has the next revision. What is kept between calls are keyed digests.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from telemetry.events import Source
from workers.observer.attempts import Attempts, DerivedLabel, FinishedCall, Memory, Recent
from workers.observer.conversation import (
    Conversation,
    answer_key,
    asked_for,
    call_key,
    read,
    similarity,
)
from workers.observer.judgement import Judgement, judge
from workers.observer.readers import parse_answer, parse_request
from workers.observer.shapes import ReadAnswer, ReadRequest

__all__ = ["VERSION", "DerivedLabel", "Memory", "ObservedCall", "derive"]

VERSION = 2
"""Of these rules; it travels with each label. A rule that changes a label's meaning raises it."""
AGAIN_S = 600.0
"""Who asks again later than this wants to know anew."""
TYPING_S = 2.0
"""Nobody reads an answer, or edits a message, in less; a program asks for the next sample."""
SIMILAR = 0.5
"""Jaccard index of the words from which on a changed message is the same one, edited."""
N_AGAIN_IS_A_PROGRAM = 3
"""Polls, health checks and batches ask again and again; people give up before."""
N_FIRST_AGAIN_IS_A_PROGRAM = 2
"""The same for what nothing was said before: that is what such programs send."""
MAX_TEMPERATURE = 1.0
"""Above it, the same request again is there to get another sample."""


class ObservedCall(Struct, frozen=True, gc=False):
    """A finished call, as the router saw it."""

    decision: bytes  # packed token; opaque here but for its nonce
    app: bytes  # digest of the app
    unit: bytes  # key of the session or of a known user's slot; empty where neither was declared
    stateless: bool  # the app says that its calls have nothing to do with each other
    began_at_s: float
    ended_at_s: float
    answered: bool  # the client received the answer in full
    streamed: bool
    dialect: str  # chat, messages, responses
    request: bytes  # as the client sent it
    answer: bytes  # a JSON body, or the whole text of a stream
    in_session: bool = False  # the unit is a session that the caller declared
    first_endpoint: int = 0  # digest of who its first attempt went to; 0: not known
    cost_nano: int = 0  # of all its attempts, as far as it is known


def derive(call: ObservedCall, memory: Memory) -> list[DerivedLabel]:
    """Return the verdicts that a finished call gives: on its own decision, and on earlier ones.

    Never raises on what a client or a provider sent; a call that was seen before gives nothing.
    What it says of chains of calls waits in `memory.take_repeats`.
    """
    try:
        found = _read(call, memory)
    except RecursionError:
        return []  # nested deeper than anything that is meant
    if found is None:
        return []
    attempt, conversation = found
    own = attempt.own
    if call.stateless:
        return attempt.say(own) if own else []
    recent = memory.of(call.app)
    if attempt.nonce in recent.attempts:
        return []
    verdicts = _tools_said(recent, conversation)
    known, once = _goes_on(recent, conversation)
    if known or call.unit:
        verdicts += _again(recent, attempt, goes_on=once, in_session=call.in_session)
    if once:
        verdicts += _edited(recent, attempt)
    if own:
        verdicts += attempt.say(own)
    memory.keep(call.app, attempt)
    return verdicts


def _read(call: ObservedCall, memory: Memory) -> tuple[FinishedCall, Conversation] | None:
    """Return what of a call is judged and remembered; None where its request is not understood."""
    request = parse_request(call.request, call.dialect)
    if request is None:
        return None
    app_scope = memory.app_scope(call.app)
    unit_scope = memory.unit_scope(call.app, call.unit)
    # The same messages are others where what goes before them has grown: nothing is like them.
    grows = (call.decision, request.adds_to.encode()) if request.adds_to else ()
    scope = memory.scope(call.app, call.unit, *grows) if grows else unit_scope
    conversation = read(request, scope=scope, app_scope=app_scope)
    answer = None
    if call.answered:
        answer = parse_answer(call.answer, call.dialect, streamed=call.streamed)
    made = {
        call_key(tool_call, conversation.whole, app_scope=app_scope)
        for choice in (answer.choices if answer else ())
        if choice.calls
        for tool_call in choice.calls
    }
    attempt = FinishedCall(
        decision=call.decision,
        began_at_s=call.began_at_s,
        ended_at_s=call.ended_at_s,
        answered=call.answered,
        whole=conversation.whole,
        before_edit=conversation.before_edit,
        asked_for=asked_for(request),
        sampling=_sampling(request),
        words=conversation.words,
        calls=tuple(made),
        own=judge(request, conversation, answer) if answer else None,
        unit=unit_scope if call.unit else b"",
        answer=_answer_key(answer, scope),
        first_endpoint=call.first_endpoint,
        cost_nano=call.cost_nano,
    )
    return attempt, conversation


def _answer_key(answer: ReadAnswer | None, scope: bytes) -> bytes:
    if answer is None or len(answer.choices) != 1:
        return b""
    choice = answer.choices[0]
    made = [call.canonical() for call in choice.calls] if choice.calls else []
    return answer_key(choice.text, made, scope=scope)


def _sampling(request: ReadRequest) -> bytes | None:
    heat = request.temperature
    if request.varies or (isinstance(heat, (int, float)) and heat > MAX_TEMPERATURE):
        return None
    return msgspec.json.encode((request.model, heat, request.top_p))


def _tools_said(recent: Recent, conversation: Conversation) -> list[DerivedLabel]:
    """Lay each failed tool call at the door of the decision that made it."""
    verdicts = []
    for key in conversation.failed:
        nonce = recent.calls.get(key)
        if nonce is not None:
            verdicts += recent.attempts[nonce].say(Judgement(Source.TOOL_RESULT, 0.0))
    return verdicts


def _goes_on(recent: Recent, conversation: Conversation) -> tuple[bool, bool]:
    """Note that an answer was used; return whether this was asked, and answered like this but once.

    Examples written into a prompt look like a conversation too, but nobody asked for them. A
    greeting that was answered alike several times begins several conversations: who goes on with
    the second one does not say again what was said in the first.
    """
    asked = conversation.before_answer
    line = recent.same.get(asked or b"")
    for earlier in recent.latest(line) if line else ():
        earlier.was_used = True
    return line is not None, recent.gave_once(asked, conversation.last_answer)


def _again(
    recent: Recent, attempt: FinishedCall, *, goes_on: bool, in_session: bool
) -> list[DerivedLabel]:
    """Read off the same messages sent again: after a failure retried, else regenerated.

    Of a first message only a declared session says that it is the same conversation, and only
    where nothing else was asked in it meanwhile. Users ask alike on different days and tabs, and
    programs send the same for each of them.
    """
    line = recent.same.get(attempt.whole)
    if line is None or line.is_closed:
        return []
    if _overlaps(recent, line, attempt):
        return _close(recent, line, Source.REGENERATED)
    earlier = recent.latest(line)[0]
    gap_s = attempt.began_at_s - earlier.ended_at_s
    if not 0.0 <= gap_s <= AGAIN_S:
        return []
    alike = earlier.asked_for == attempt.asked_for
    if not earlier.answered:
        return _repeat(recent, earlier, attempt, Source.RETRIED) if alike else []
    if alike and earlier.own is not None and earlier.own.value == 0.0:
        # No label, but of one chain: a program asks at once again for what it cannot use.
        recent.repeats += earlier.again(attempt, Source.RETRIED)
    line.n_again += 1
    if line.n_again >= (N_AGAIN_IS_A_PROGRAM if goes_on else N_FIRST_AGAIN_IS_A_PROGRAM):
        return _close(recent, line, Source.REGENERATED)
    is_same = goes_on or (in_session and recent.last.get(attempt.unit) == earlier.nonce)
    sampled = attempt.sampling is None or attempt.sampling != earlier.sampling
    if not is_same or gap_s < TYPING_S or not alike or sampled or earlier.was_used:
        return []
    return _repeat(recent, earlier, attempt, Source.REGENERATED)


def _edited(recent: Recent, attempt: FinishedCall) -> list[DerivedLabel]:
    """Read off the last user message sent again, changed, in place of the one before.

    Only in a conversation that was seen to go on: a first message that is like another one begins
    a conversation of its own, even in one session.
    """
    line = recent.edited.get(attempt.before_edit or b"")
    if line is None or line.is_closed:
        return []
    if _overlaps(recent, line, attempt):
        return _close(recent, line, Source.EDITED)
    earlier = recent.latest(line)[0]
    gap_s = attempt.began_at_s - earlier.ended_at_s
    if not 0.0 <= gap_s <= AGAIN_S or earlier.whole == attempt.whole:
        return []
    line.n_again += 1
    if line.n_again >= N_AGAIN_IS_A_PROGRAM:
        return _close(recent, line, Source.EDITED)
    alike = earlier.answered and earlier.asked_for == attempt.asked_for
    sampled = attempt.sampling is None or earlier.sampling is None
    if gap_s < TYPING_S or not alike or sampled or earlier.was_used:
        return []
    if similarity(earlier.words, attempt.words) < SIMILAR:
        return []
    return _link(earlier, attempt, Source.EDITED)


def _overlaps(recent: Recent, line: Attempts, attempt: FinishedCall) -> bool:
    """Return whether two were answered at the same time: samples or a batch, and no person."""
    return attempt.answered and any(
        earlier.answered and earlier.ended_at_s > attempt.began_at_s
        for earlier in recent.latest(line)
    )


def _repeat(
    recent: Recent, earlier: FinishedCall, attempt: FinishedCall, source: Source
) -> list[DerivedLabel]:
    """Note that the same was asked again, which belongs to what the earlier attempt began."""
    recent.repeats += earlier.again(attempt, source)
    return _link(earlier, attempt, source)


def _link(earlier: FinishedCall, attempt: FinishedCall, source: Source) -> list[DerivedLabel]:
    """Say of the earlier attempt that it did not do; both are now attempts at one thing."""
    earlier.chain = attempt.chain = earlier.chain if any(earlier.chain) else earlier.nonce
    return earlier.say(Judgement(source, 0.0))


def _close(recent: Recent, line: Attempts, source: Source) -> list[DerivedLabel]:
    """Take back what was read off a line that turned out to be a program's."""
    line.is_closed = True
    verdicts = []
    for nonce in line.nonces:
        earlier = recent.attempts[nonce]
        recent.repeats += earlier.begins_anew(source)
        verdicts += earlier.unlink(source)
    return verdicts
