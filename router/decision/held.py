"""What a call goes by that was drawn or said before it, and what it leaves to those after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from router.decision.context import CallContext, Moment
from router.decision.draws import Draws
from router.decision.said import CallSession
from router.decision.sessions import Sessions
from router.decision.shared_draws import StoredDraw
from router.decision.units import conversation
from router.endpoints.catalog import Endpoint
from router.endpoints.data_classes import DataClass


async def held_draw(draws: Draws, context: CallContext) -> StoredDraw | None:
    """Return what the unit, or the conversation that this call continues, was given.

    Of a unit that is only what this process knows, and what it was given under an earlier key: who
    draws for it anew asks the store as well.
    """
    unit, now = context.unit, context.at.epoch_s
    if unit.key is None:
        return None
    if not unit.is_session:
        said = context.request.earlier()
        given = await of_conversation(draws, context, said) if said is not None else None
        if given is not None:
            return given
    known = draws.get(unit.key, now=now)
    return known if known is not None else await draws.take_over(unit.key, unit, now=now)


async def of_conversation(
    draws: Draws, context: CallContext, said: Sequence[bytes]
) -> StoredDraw | None:
    """Return what a conversation was given in a call's task.

    Args:
        said: the messages that its earlier call sent.
    """
    app, unit, now = context.caller.app.digest, context.unit, context.at.epoch_s
    key = conversation(app, said, context.draw_key, user=unit.user)
    given = await draws.find_conversation(key, now=now)
    if given is None and unit.user and unit.earlier is not None:  # once they were the app's
        given = await draws.find_conversation(conversation(app, said, context.draw_key), now=now)
    return given


def goes_by_conversation(draws: Draws, context: CallContext) -> bool:
    """Return whether a call goes by the conversation that it continues, and not by its unit.

    To be asked once `held_draw` said what it goes by: what was found is known here since.
    """
    unit, now = context.unit, context.at.epoch_s
    said = None if unit.is_session else context.request.earlier()
    if said is None or unit.key is None:
        return False
    app = context.caller.app.digest
    keys = [conversation(app, said, context.draw_key, user=unit.user)]
    if unit.user and unit.earlier is not None:
        keys.append(conversation(app, said, context.draw_key))
    return any(draws.get(key, now=now) is not None for key in keys)


def note_conversation(draws: Draws, context: CallContext, given: StoredDraw) -> None:
    """Have the next call of this conversation find what this one goes by."""
    unit = context.unit
    if unit.key is None or unit.is_session:
        return
    said = context.request.conversation()
    if said:
        app = context.caller.app.digest
        key = conversation(app, said, context.draw_key, user=unit.user)
        draws.note_conversation(key, given, now=context.at.epoch_s)


def note_said(
    sessions: Sessions,
    session: CallSession,
    at: Moment,
    *,
    data_class: DataClass | None = None,
    task: str | None = None,
) -> None:
    """Have later calls of a session go by what this one says, and no earlier one did.

    Args:
        session: of the call.
        data_class: that it names.
        task: that it was found in by itself, so that it may become the session's.
    """
    if not session.key:
        return
    said = session.said
    if data_class is not None and data_class.level <= said.level:
        data_class = None
    if said.task is not None or session.is_aside or session.is_first:
        task = None  # what was first, its look-up said
    if task is not None or data_class is not None:
        sessions.note(
            session.key,
            task=task,
            data_class=data_class,
            is_settled=session.settles,
            now=at.epoch_s,
            now_ms=at.store_ms,
        )


def endpoint_held(
    context: CallContext, held: StoredDraw | None, forgotten: Mapping[bytes, int]
) -> Endpoint | None:
    """Return the endpoint of a draw unless configuration, alarm or `forget` ended it.

    Args:
        forgotten: when users were, by keyed hash, in epoch milliseconds of the store's clock.
    """
    if held is None or (forgotten and held.decided_at_ms < forgotten.get(context.unit.user, 0)):
        return None
    beliefs, unit = context.beliefs, context.unit
    endpoint = beliefs.configuration.catalog.by_digest.get(held.endpoint)
    if endpoint is None:
        return None
    groups = context.route.groups
    if groups is not None and endpoint.group not in groups:
        return None  # drawn before its strategy was one that keeps to others
    alarm = beliefs.known[endpoint.index].alarm
    if alarm is None or (context.caller.app.entry.locked and unit.is_session):
        return endpoint  # of a locked app nothing inside moves
    if held.decided_at_ms < alarm.at_ms:
        return None
    return endpoint
