"""Which task a conversation without a session id goes by, so that its endpoint stays.

Its draw lies under task and strategy. So beside it lies the task that it was made under, where a
structure gave it that: a turn with another tool, schema or image may be of another task by itself.
Of conversations with the same words the first says it, and whoever has a draw in the task that is
its own by itself goes by that.
"""

from __future__ import annotations

from collections.abc import Mapping

from bandit.steps import Step
from router.config.compiled import Configuration
from router.config.exclusions import Exclusion
from router.decision.context import CallContext
from router.decision.draws import Draws
from router.decision.held import endpoint_held, of_conversation
from router.decision.shared_draws import StoredDraw
from router.decision.units import conversation
from router.policy.tasks import FoundBy
from telemetry.digests import digest8

OF_TASK = "task"
"""In the place of what a draw is stored under: no such name has a task and a strategy."""
PASSING = frozenset({Exclusion.BREAKER, Exclusion.IN_FLIGHT, Exclusion.MAINTENANCE})
"""What sends a call elsewhere for a while; all else forbids that the endpoint serves it."""


async def task_kept(draws: Draws, context: CallContext) -> str | None:
    """Return the other task that the conversation which a call continues goes by, if any.

    Args:
        context: of the call by itself.
    """
    said = context.request.earlier() if may_keep(context) else None
    if said is None:
        return None
    unit, now, app = context.unit, context.at.epoch_s, context.caller.app.digest
    if draws.get(conversation(app, said, context.draw_key, user=unit.user), now=now) is not None:
        return None  # most often
    noted = await draws.find_conversation(conversation(app, said, OF_TASK, user=unit.user), now=now)
    names = context.beliefs.configuration.derive(_names)
    name = None if noted is None else names.get(noted.endpoint)
    if name is None or name == context.task.name:
        return None
    return name if await of_conversation(draws, context, said) is None else None


async def may_go_on(draws: Draws, context: CallContext, forgotten: Mapping[bytes, int]) -> bool:
    """Return whether a conversation has a draw in the task that it kept, which may serve the call.

    Args:
        context: of the call in that task.
        forgotten: as `endpoint_held` takes it.
    """
    said = context.request.earlier()
    held = None if said is None else await of_conversation(draws, context, said)
    endpoint = endpoint_held(context, held, forgotten)
    if endpoint is None:
        return False
    reason = context.eligibility.reasons[endpoint.index]
    return reason is None or reason in PASSING


def note_task(draws: Draws, context: CallContext) -> None:
    """Have the next call of this conversation find which task this one is of."""
    said = context.request.conversation() if may_keep(context) else ()
    if said:
        app, now = context.caller.app.digest, context.at.epoch_s
        task, at_ms = digest8("task", context.task.name), context.at.store_ms
        key = conversation(app, said, OF_TASK, user=context.unit.user)
        draws.note_conversation(key, StoredDraw(task, 1.0, at_ms, 0, Step.SAMPLE), now=now)


def may_keep(context: CallContext) -> bool:
    """Return whether the task of a call is its own by a structure that a later one may not have."""
    task, unit = context.task, context.unit
    if unit.is_session or unit.key is None:
        return False
    is_own = task.of_session is not None or task.found_by is FoundBy.SESSION
    return is_own and bool(context.beliefs.configuration.rules)


def _names(configuration: Configuration) -> Mapping[int, str]:
    return {digest8("task", name): name for name in configuration.tasks}
