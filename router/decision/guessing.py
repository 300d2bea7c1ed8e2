"""What a call's first prompt looks like, where nothing said which task it is of.

By itself that only suggests: the record of the call says it, and reports count it. Under `classify:
route` it gives a declared session the task of its first call, and every router keeps that. So no
word of a later message moves anything.
"""

from __future__ import annotations

from msgspec import structs

from router.config.compiled import App, Configuration
from router.config.entries import GENERAL, Classify
from router.config.levels import with_complexity
from router.decision.prompt_tags import PromptTags
from router.decision.ruling import Guess
from router.decision.said import CallSession
from router.dialects.request import CallRequest, Opening
from router.policy.hints import Hints
from router.policy.tasks import FoundBy, Task


def guesser(
    configuration: Configuration,
    app: App,
    session: CallSession,
    request: CallRequest,
    hints: Hints,
) -> Guess | None:
    """Return what looks at the prompt of a call, if it is of use; None where nothing is to look."""
    if app.entry.classify is Classify.OFF or not configuration.prompts.tell_apart:
        return None

    def guess(task: Task) -> Task:
        return guessed(task, configuration, app, session, request.opening(), hints.complexity)

    return guess


def guessed(
    task: Task,
    configuration: Configuration,
    app: App,
    session: CallSession,
    opening: Opening | None,
    complexity: str | None,
) -> Task:
    """Return the task of a call that would be `general`, with what its prompt looks like.

    Args:
        opening: what its user first said; None where it begins no conversation.
    """
    if opening is None:
        return task
    likely = configuration.prompts.task_of(opening.text) or GENERAL
    if steers(app, session) and likely != GENERAL:
        name, warning = with_complexity(likely, complexity, configuration.tasks)
        return Task(name, warning, FoundBy.CLASSIFIER, likely)
    tags = configuration.derive(PromptTags).of(app)
    return structs.replace(
        task,
        looks_like=None if likely == GENERAL else likely,
        tag=tags.unread if opening.is_long else tags.by_task[likely],
        is_settled=steers(app, session),
    )


def steers(app: App, session: CallSession) -> bool:
    """Return whether what a call's prompt looks like gives its session a task."""
    is_first = bool(session.key) and session.said.task is None
    return is_first and app.entry.classify is Classify.ROUTE and not app.entry.locked
