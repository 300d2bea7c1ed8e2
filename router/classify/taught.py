"""Exemplars of tasks with what was learnt from them, and what was told apart of late.

The exemplars are a configuration's, and nothing else is: so the same text looks like the same task
in every process. It is learnt where first asked, or before calls come, by `learn`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import blake2b

from router.classify.classifier import Classifier
from router.classify.starters import system_text

MAX_KNOWN = 4096
"""System prompts with tool names whose task is remembered, by a hash of eight bytes. Agents send
theirs with every call, and have few; what changes in them, such as the day, makes them more."""


class Exemplars:
    """Exemplars by task; of fewer than two tasks they tell nothing apart."""

    def __init__(self, texts: Mapping[str, Sequence[str]]) -> None:
        self.texts = texts
        self.tell_apart = len(texts) > 1  # whether there are any that can

    def learn(self) -> None:
        """Learn from them now, so that no call waits for it."""
        if self.tell_apart:
            _ = self._classifier
        _ = self.digest

    @cached_property
    def digest(self) -> str:
        """16 hex digits that others have as soon as any text differs."""
        found = blake2b(digest_size=8)
        for task, texts in self.texts.items():
            for part in (task, str(len(texts)), *texts):
                found.update(blake2b(part.encode(), digest_size=16).digest())
        return found.hexdigest()

    def task_of(self, text: str) -> str | None:
        """Return the task that a text looks like; None where nothing is to be said."""
        if not (text and self.tell_apart):
            return None
        found = self._classifier.like(text)
        return None if found is None else found.said

    @cached_property
    def _classifier(self) -> Classifier:
        return Classifier(self.texts)


class SystemExemplars(Exemplars):
    """Exemplars of system prompts with tool names; what was asked before is remembered."""

    def __init__(self, texts: Mapping[str, Sequence[str]]) -> None:
        super().__init__(texts)
        self._known: dict[int, str | None] = {}

    def task_of_system(self, system: str, tools: Sequence[str]) -> str | None:
        """Return the task that a system prompt and the names of tools look like, if any."""
        if not self.tell_apart or not (system or tools):
            return None
        place = hash((system, *tools))
        if place in self._known:
            return self._known[place]
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        found = self._known[place] = self.task_of(system_text(system, tools))
        return found
