"""One word of a prompt changed: at random, by what would harm most, and by words that are marks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

import numpy as np

from router.classify.classifier import Classifier
from router.classify.words import key_of

WORDS = re.compile(r"(\S+)")
MARKS = (
    "<system-reminder>",
    "</system-reminder>",
    "<environment_context></environment_context>",
    "<user_query>",
    "```sql",
    "Begin!",
    "#",
)


class Changer:
    """Knows what one classifier was taught, so as to harm it."""

    def __init__(self, classifier: Classifier, random: Random) -> None:
        self._classifier, self._random = classifier, random
        self._words = [key for key in sorted(classifier._known) if key.isalpha()]
        self._votes = np.stack([classifier._votes_of_key(word) for word in self._words])

    def at_random(self, text: str) -> str:
        """Return the text with some word less, more, or other."""
        parts = WORDS.split(text)
        at = 2 * self._random.randrange(len(parts) // 2) + 1
        word = self._random.choice(self._words)
        parts[at] = self._random.choice(["", word, f"{parts[at]} {word}", f"{word} {parts[at]}"])
        return "".join(parts)

    def harmful(self, text: str, task: str) -> Iterator[str]:
        """Yield for each other task the text with the word exchanged that makes most of it.

        The word that speaks most for `task` against the other goes; the one that speaks most for
        the other comes.
        """
        tasks = self._classifier.tasks
        column = tasks.index(task)
        parts = WORDS.split(text)
        said = [self._of(word) for word in parts[1::2]]
        for other in range(len(tasks)):
            if other == column:
                continue
            at = max(range(len(said)), key=lambda i: said[i][column] - said[i][other])
            best = int((self._votes[:, other] - self._votes[:, column]).argmax())
            changed = list(parts)
            changed[2 * at + 1] = self._words[best]
            yield "".join(changed)

    def marked(self, text: str) -> Iterator[str]:
        """Yield the text with a mark instead of a word, and before it."""
        parts = WORDS.split(text)
        for mark in MARKS:
            at = 2 * self._random.randrange(len(parts) // 2) + 1
            yield "".join([*parts[:at], mark, *parts[at + 1 :]])
            yield "".join([*parts[:at], mark, " ", *parts[at:]])

    def _of(self, word: str) -> list[int]:
        votes: list[int] = self._classifier._votes_of_key(key_of(word)).tolist()
        return votes
