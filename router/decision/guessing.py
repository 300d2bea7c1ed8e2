"""What a call's first prompt looks like, where nothing said which task it is of.

By itself that only suggests: the record of the call says it, and reports count it. Under `classify:
route` it gives a declared session the task of its first call, and every router keeps that. So no
word of a later message moves anything.
"""

from __future__ import annotations

from functools import cached_property

from msgspec import structs

from router.config.compiled import App, Configuration
from router.config.entries import GENERAL, Classify
from router.config.levels import with_complexity
from router.decision.prompt_tags import PromptTags
from router.dialects.request import CallRequest, Opening
from router.policy.hints import Hints
from router.policy.tasks import FoundBy, Task

_OFF = Classify.OFF


class PromptLook:
    """Looks at the prompt of a call once it is of use, and once only."""

    def __init__(
        self, configuration: Configuration, app: App, request: CallRequest, complexity: str | None
    ) -> None:
        self._configuration = configuration
        self._app = app
        self._request = request
        self._complexity = complexity

    @cached_property
    def _opening(self) -> Opening | None:
        """What its user first said; None where the call begins no conversation."""
        return self._request.opening()

    @cached_property
    def _likely(self) -> str | None:
        """The task that the opening looks like; None of no opening."""
        if self._opening is None:
            return None
        return self._configuration.prompts.task_of(self._opening.text) or GENERAL

    def suggest(self, task: Task) -> Task:
        """Return the task of a call that would be `general`, with what its prompt looks like."""
        opening, likely = self._opening, self._likely
        if opening is None or likely is None:
            return task
        tags = self._configuration.derive(PromptTags).of(self._app)
        return structs.replace(
            task,
            looks_like=None if likely == GENERAL else likely,
            tag=tags.unread if opening.is_long else tags.by_task[likely],
        )

    def steer(self, task: Task) -> Task:
        """Return the task of a session's first call that would be `general`: what it looks like."""
        likely = self._likely
        if likely is None or likely == GENERAL:
            return self.suggest(task)
        name, warning = with_complexity(likely, self._complexity, self._configuration.tasks)
        return Task(name, warning, FoundBy.CLASSIFIER, likely)


def look_at(
    configuration: Configuration, app: App, request: CallRequest, hints: Hints
) -> PromptLook | None:
    """Return what looks at the prompt of a call; None where nothing is to look."""
    if not configuration.prompts.tell_apart or app.entry.classify is _OFF or hints.profile:
        return None
    return PromptLook(configuration, app, request, hints.complexity)
