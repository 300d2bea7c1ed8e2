"""What a call's first prompt looks like, where nothing said which task it is of.

By itself that only suggests: the record of the call says it, and reports count it. Under `classify:
route` it gives a declared session the task of its first call, and every router keeps that. So no
word of a later message moves anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from msgspec import structs

from router.config.compiled import App, Configuration
from router.config.entries import GENERAL, Classify
from router.config.levels import with_complexity
from router.dialects.request import CallRequest
from router.policy.hints import Hints
from router.policy.tasks import FoundBy, Task
from telemetry.digests import digest8


class PromptLook:
    """Looks at the prompt of a call once it is of use, and once only."""

    def __init__(
        self, configuration: Configuration, request: CallRequest, complexity: str | None
    ) -> None:
        self._configuration = configuration
        self._request = request
        self._complexity = complexity

    @cached_property
    def _likely(self) -> str | None:
        """The task that what its user first said looks like; None of no beginning."""
        opening = self._request.opening()
        return (self._configuration.prompts.task_of(opening) or GENERAL) if opening else None

    def suggest(self, task: Task) -> Task:
        """Return the task of a call that would be `general`, with what its prompt looks like."""
        likely = self._likely
        if likely is None:
            return task
        return structs.replace(
            task,
            looks_like=None if likely == GENERAL else likely,
            tag=self._configuration.derive(tags)[likely],
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
    is_off = app.entry.classify is Classify.OFF or not configuration.prompts.tell_apart
    return None if is_off or hints.profile else PromptLook(configuration, request, hints.complexity)


def tags(configuration: Configuration) -> Mapping[str, int]:
    """Return by task the digest by which records say that a prompt looks like it."""
    return {name: digest8("task", name) for name in configuration.tasks}
