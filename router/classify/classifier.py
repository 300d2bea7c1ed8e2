"""Tells which task a text looks like, from exemplars of each; below its margin it says nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec import Struct


class Likeness(Struct, frozen=True):
    """What a text looks like."""

    task: str  # that it looks like most
    lead: float  # over the next one
    margin: float  # that a lead must reach, so that no single word decides

    @property
    def said(self) -> str | None:
        """The task, where the lead reaches the margin."""
        return self.task if self.lead >= self.margin else None


class Classifier:
    """Taught once; then the same text always looks like the same task, in any process."""

    def __init__(self, exemplars: Mapping[str, Sequence[str]]) -> None:
        """Learn from texts of each task.

        Args:
            exemplars: by task; one of fewer than two tasks tells nothing apart.
        """
        self._words = {task: Counter(" ".join(texts).split()) for task, texts in exemplars.items()}

    def like(self, text: str) -> Likeness | None:
        """Return what a text looks like; None where nothing in it is known."""
        words = set(text.split())
        shared = {task: float(sum(w in own for w in words)) for task, own in self._words.items()}
        ranked = sorted(shared, key=lambda task: -shared[task])
        if len(ranked) < 2 or not shared[ranked[0]]:
            return None
        return Likeness(ranked[0], shared[ranked[0]] - shared[ranked[1]], 3.0)
