"""Which calls open a declared session, where the words of its first one may give it a task.

Each call that is decided does, whatever says its task; a dry run and a count of tokens only ask.
In a coding agent's own session it is the first with tools: what comes without is beside its
conversation, such as a title or a check of the account.
"""

from __future__ import annotations

from router.config.compiled import Configuration
from router.config.entries import Classify
from router.decision.context import Moment, Routings
from router.decision.guessing import PromptLook
from router.decision.ruling import asked_task
from router.decision.said import NOTHING_SAID, FirstCall
from router.dialects.request import CallRequest
from router.errors import RequestRejected
from router.policy.callers import Caller
from router.policy.hints import Hints
from telemetry.session_notes import OPENED


def first_call(
    configuration: Configuration,
    caller: Caller,
    hints: Hints,
    request: CallRequest,
    look: PromptLook | None,
    at: Moment,
    *,
    off: bool,
    claims: bool,
) -> FirstCall | None:
    """Return what a call is if it is its session's first; None where nothing hangs on that.

    Args:
        look: what its prompt looks like; None where nobody looks.
        off: nothing is routed.
        claims: it is decided, and so opens its session.
    """
    entry = caller.app.entry
    if look is None or hints.session is None or is_aside(hints, request):
        return None
    if entry.classify is not Classify.ROUTE or entry.locked:
        return None

    def task() -> str | None:
        try:
            return _task(configuration, caller, hints, request, look, off=off)
        except RequestRejected:  # which it is again, once it is known what its session said
            return None

    return FirstCall(at.store_ms, task, claims)


def is_aside(hints: Hints, request: CallRequest) -> bool:
    """Return whether a call is beside the conversation of its coding agent's own session."""
    if not hints.is_agents or request.structure(read_system=False).tools:
        return False
    return not request.offered()


def _task(
    configuration: Configuration,
    caller: Caller,
    hints: Hints,
    request: CallRequest,
    look: PromptLook,
    *,
    off: bool,
) -> str | None:
    asked = configuration.derive(Routings).asked(request.model, hints.role, caller)
    target, catalog = asked.target, configuration.catalog
    is_listed = target.name in catalog.by_id or target.name in catalog.by_model
    if not (target.automatic or asked.role.by_model or is_listed):
        return None  # it is passed on
    found = asked_task(
        configuration,
        caller,
        hints,
        asked,
        NOTHING_SAID,
        request.structure,
        off=off,
        guess=look.steer,
    )
    return found.of_session or OPENED
