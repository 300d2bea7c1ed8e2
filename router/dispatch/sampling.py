"""Which calls the observer is told of: all of an app, none, or those of a share of conversations.

A conversation is observed as a whole or not at all, by every router of a store and over restarts:
what is read off later turns (a repetition, an edit, a tool's error) stays what it is. So it follows
from a keyed digest of what all of its calls have in common: the session or episode that is
declared, else the words with which its first user began it. Where the share follows from a rate of
calls, all of this holds until the share takes its next step, and each process has its own.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

from msgspec import Raw

from router.config.entries import SampleRateEntry
from router.decision.context import CallContext
from router.dialects.request import CallRequest
from router.dialects.turns import message_of, texts_of
from router.dispatch.observer_line import ObserverLine

_ALL = 1 << 64


def observer_of(
    observer: ObserverLine | None, context: CallContext, secret: Callable[[], bytes]
) -> ObserverLine | None:
    """Return who is told of a call; None where nobody is. What is left out of a share is counted.

    Args:
        secret: returns the store's, which draws follow from.
    """
    sample = context.caller.app.signals_sample
    # Of a profile one prompt goes to many, which would look as if it was asked again.
    if observer is None or sample is None or context.hints.profile:
        return None
    if not context.request.says_something:
        return None
    if sample != 1.0 and not _is_chosen(observer, sample, context, secret):
        observer.n_sampled_out += 1
        return None
    return observer


def _is_chosen(
    observer: ObserverLine,
    sample: float | SampleRateEntry,
    context: CallContext,
    secret: Callable[[], bytes],
) -> bool:
    """Return whether a call is of a conversation that labels are read off now."""
    if not isinstance(sample, SampleRateEntry):
        return is_within(sample, conversation_of(context), secret())
    most, now_s = sample.above_calls_per_s, context.at.monotonic_s
    rated = observer.rate_shares.of(context.caller.app.digest, now_s)
    share = rated.at(most, now_s)
    chosen = share >= 1.0 or is_within(share, conversation_of(context), secret())
    if chosen:
        rated.count(most, now_s)
    return chosen


def is_within(share: float, conversation: bytes, secret: bytes) -> bool:
    """Return whether a conversation is among this share of them.

    A larger share holds all that a smaller one does.
    """
    digest = blake2b(conversation, key=secret, digest_size=8, person=b"signals").digest()
    return int.from_bytes(digest, "little") < share * _ALL


def conversation_of(context: CallContext) -> bytes:
    """Return what the calls of a conversation have in common, and no other's."""
    app, episode = context.caller.app.digest.to_bytes(8, "little"), context.session.episode
    if episode:
        return app + b"s" + episode.to_bytes(8, "little")
    return app + b"o" + context.unit.user + opening(context.request)


def opening(request: CallRequest) -> bytes:
    """Return what every call of a conversation begins with: the first words of its user.

    Marks that clients set and take away between turns are left out. Of turns that lie at a
    provider only the name is known: of the conversation, or of what came just before.
    """
    if request.continued is not None:
        return b"i" + request.continued.id.encode()
    messages = request.conversation()
    for said in messages:
        if b'"user"' not in said:
            continue
        message = message_of(Raw(said))
        if message.role == "user":
            texts = "\n".join(texts_of(message.content))
            return b"t" + (texts.encode(errors="replace") or said)
    return b"m" + b"".join(messages[:1])
