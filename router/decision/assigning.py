"""The numbers by which a unit draws, and the one by which chance assigns it to a side. Pure.

The side follows from the unit's own key and the trial: two trials one after the other do not
assign alike, and a unit that draws anew stays on its side. Where an app's whole map is compared,
all that an episode draws is on one side, else all that a user draws in a day.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b

from bandit.assignment import Assignment
from bandit.draws import Uniforms
from router.decision.context import CallContext
from router.decision.units import uniforms

_UNIT = 2.0**-64


def numbers_of(context: CallContext, secret: bytes) -> Uniforms:
    """Return one number in [0, 1) for each purpose.

    Args:
        secret: the store's, which draws follow from.
    """
    numbers, assignment = uniforms(secret, context.seed, context.draw_key), context.route.assignment
    if assignment is None:
        return numbers  # most often
    return replace(numbers, arm=_arm(secret, _who(context, assignment), assignment))


def _arm(secret: bytes, who: bytes, assignment: Assignment) -> float:
    purpose = b"trial" if assignment.is_trial else b"hold-out"
    what = who + assignment.trial.encode()
    digest = blake2b(what, key=secret, digest_size=8, person=purpose).digest()
    return int.from_bytes(digest, "little") * _UNIT


def _who(context: CallContext, assignment: Assignment) -> bytes:
    """Return what is on one side as a whole."""
    unit, episode = context.unit, context.session.episode
    if unit.key is None:
        return context.seed  # a call that stands for itself
    if not assignment.by_episode:
        return unit.key
    if episode:
        return episode.to_bytes(8, "little")
    app = context.caller.app.digest.to_bytes(8, "little")
    return app + unit.user + int(unit.ends_at).to_bytes(8, "little")
