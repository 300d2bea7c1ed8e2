"""How well exemplars tell tasks apart: taught by two thirds of them, asked about the third left.

Each third is held out in turn, so that every exemplar is asked about once.

Beside it stand two that know less: the task with most exemplars, whatever the text; and keyword
rules, as somebody would write them who has read the exemplars.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from math import log

from msgspec import Struct

from router.classify.classifier import NEUTRAL, Classifier
from router.classify.words import keys_of

KEYWORDS = 8
"""Of each task's rule."""
THIRDS = 3
FEW = 10
"""Exemplars below which a task cannot be judged, nor relied on."""
Exemplars = Mapping[str, Sequence[str]]


class Evaluation(Struct, frozen=True):
    """What became of the exemplars that were held out."""

    asked: dict[str, int]  # exemplars by task; of each, two thirds of the others taught
    confusion: dict[str, dict[str, int]]  # by task of the exemplar what was said; "" is nothing
    likeliest: int  # of those asked, whose task is what they look like most, said or not
    majority: int  # that the task with most exemplars is right about
    keywords: int  # that keyword rules are right about

    @property
    def n(self) -> int:
        """Exemplars asked."""
        return sum(self.asked.values())

    @property
    def n_said(self) -> int:
        """Exemplars of which a task was said."""
        return sum(n for by in self.confusion.values() for said, n in by.items() if said)

    @property
    def n_right(self) -> int:
        """Exemplars of which their own task was said; of `general` nothing is right."""
        return sum(
            by.get("" if task == NEUTRAL else task, 0) for task, by in self.confusion.items()
        )

    @property
    def n_wrong(self) -> int:
        """Exemplars of which another task was said."""
        return sum(
            n
            for task, by in self.confusion.items()
            for said, n in by.items()
            if said not in ("", task)
        )

    def too_few(self) -> dict[str, int]:
        """Return how many exemplars are missing, of tasks with fewer than ten."""
        return {task: FEW - n for task, n in self.asked.items() if n < FEW}

    def as_json(self) -> dict[str, object]:
        """Return the figures; shares are None where nothing was asked or said."""
        return {
            "exemplars": self.asked,
            "coverage": _share(self.n_said, self.n),
            "accuracy_where_said": _share(self.n_said - self.n_wrong, self.n_said),
            "accuracy_of_all": _share(self.n_right, self.n),
            "likeliest": _share(self.likeliest, self.n),
            "majority": _share(self.majority, self.n),
            "keywords": _share(self.keywords, self.n),
            "confusion": self.confusion,
        }


class Near(Struct, frozen=True):
    """An exemplar that looks like two tasks."""

    task: str
    text: str
    like: str  # what it looks like most
    lead: float  # below the margin, or for another task


def evaluate(exemplars: Exemplars) -> Evaluation:
    """Return how those held out come out; in which third one is, its digest says."""
    exemplars = {task: list(dict.fromkeys(texts)) for task, texts in sorted(exemplars.items())}
    sizes = {task: len(texts) for task, texts in exemplars.items()}
    most = max(sizes, key=lambda task: sizes[task], default="")
    confusion = {task: Counter[str]() for task in exemplars}
    likeliest = keywords = 0
    for third in range(THIRDS):
        taught, held = split(exemplars, third)
        classifier, rules = Classifier(taught), keyword_rules(taught)
        for task, text in _each(held):
            likeness = classifier.like(text)
            confusion[task][(likeness and likeness.said) or ""] += 1
            likeliest += likeness is not None and likeness.task == task
            keywords += by_keywords(rules, text) == task
    told = {task: dict(sorted(said.items())) for task, said in confusion.items()}
    return Evaluation(sizes, told, likeliest, sizes.get(most, 0), keywords)


def split(
    exemplars: Exemplars, third: int = 0
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return two thirds of each task's exemplars, and the third that is held out.

    A text that is there twice is one, so that none is asked about that was taught.
    """
    taught, held = dict[str, list[str]](), dict[str, list[str]]()
    for task, texts in exemplars.items():
        ordered = sorted(dict.fromkeys(texts), key=lambda text: blake2b(text.encode()).digest())
        held[task] = ordered[third::THIRDS]
        taught[task] = [text for i, text in enumerate(ordered) if i % THIRDS != third]
    return taught, held


def _each(exemplars: Exemplars) -> Iterator[tuple[str, str]]:
    return ((task, text) for task, texts in exemplars.items() for text in texts)


def keyword_rules(exemplars: Exemplars) -> list[tuple[str, frozenset[str]]]:
    """Return a rule a task: the words that are most its own, by the log of their odds.

    Rules come in the order of tasks, as they would in a file; the first that holds decides.
    """
    found = {
        task: Counter(w for text in texts for w in keys_of(text))
        for task, texts in exemplars.items()
    }
    sizes = {task: len(texts) for task, texts in exemplars.items()}
    rules = []
    for task in sorted(found):
        n_else = sum(n for other, n in sizes.items() if other != task)
        odds = {}
        for word, n in found[task].items():
            elsewhere = sum(of[word] for other, of in found.items() if other != task)
            odds[word] = log((n + 0.5) / (sizes[task] + 1)) - log((elsewhere + 0.5) / (n_else + 1))
        best = sorted(odds, key=lambda word: (-odds[word], word))[:KEYWORDS]
        rules.append((task, frozenset(best)))
    return rules


def by_keywords(rules: Sequence[tuple[str, frozenset[str]]], text: str) -> str:
    """Return the task of the first rule of which a word is there; "" where none is."""
    words = keys_of(text)
    return next((task for task, rule in rules if rule & words), "")


def nearest(exemplars: Exemplars, *, most: int) -> list[Near]:
    """Return those held out that look least like their own task, the worst first."""
    found = []
    for third in range(THIRDS):
        taught, held = split(exemplars, third)
        classifier = Classifier(taught)
        for task, text in _each(held):
            likeness = classifier.like(text)
            if likeness is None or likeness.said == task:
                continue
            lead = likeness.lead if likeness.task == task else -likeness.lead
            found.append(Near(task, text, likeness.task, lead))
    return sorted(found, key=lambda near: (near.lead, near.text))[:most]


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 3) if whole else None
