"""Exemplars that are there twice: of one task for nothing, of two against each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec import Struct


class Repeated(Struct, frozen=True):
    """A text that is an exemplar more than once."""

    text: str
    tasks: dict[str, int]  # how often it is one of each

    def __str__(self) -> str:
        """Return what is wrong with it, and the fix."""
        names = list(self.tasks)
        if len(names) == 1:
            return f"{names[0]} has it {self.tasks[names[0]]} times; once is enough"
        told = f"{', '.join(names[:-1])} and {names[-1]}"
        return f"{told} have it; give it to one of them, or they are told apart less"


def repeated(exemplars: Mapping[str, Sequence[str]]) -> list[Repeated]:
    """Return texts that are there more than once, blanks aside, in the order of the first."""
    found: dict[str, Counter[str]] = {}
    shown: dict[str, str] = {}
    for task, texts in exemplars.items():
        for text in texts:
            key = " ".join(text.split())
            found.setdefault(key, Counter())[task] += 1
            shown.setdefault(key, text)
    return [Repeated(shown[key], dict(n)) for key, n in found.items() if n.total() > 1]
