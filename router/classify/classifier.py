"""Tells which task a text looks like, from exemplars of each; below its margin it says nothing.

Every distinct word of a text votes: for each task a whole number, its features' weights together,
held so that it says at most `UNIT` for one task against another. The task with the most votes is
said if it leads every other by the margin, which is more than `UNIT`.

**No single word makes one task into another.** Let S be what all words but one say for task a
against task b. A word more, less or other changes what that one says, v, which lies within ±UNIT.
For a to be said, S + v > UNIT, so S > 0. For b to be said of the changed text, -S - v' > UNIT, so
S < 0. Both cannot be. The text may fall silent; it never says another task.

It holds for whatever a word does besides voting:
- A repeated word votes once, so that one more or less changes nothing.
- In a long text, a word more moves another over the edge of what is looked at (`words`). Then two
  words change at once, both beside the S of before: one comes, and one goes; as with an exchange.
- A word that breaks or makes a tag, a frame or a set phrase of boilerplate leaves part of it
  without the other, and such a text says nothing (`boilerplate`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from router.classify.boilerplate import without_boilerplate
from router.classify.teaching import UNIT, capped, teach
from router.classify.words import STOP, features_of, key_of, keys_of, words_of

NEUTRAL = "general"
"""The task of exemplars that look like nothing in particular: it is never said."""
EXEMPLAR_SIDE = 64
"""Words at each end of an exemplar that teach, so that start-up is short."""
NOISE = 0.5
"""The lead must also reach this times the root of the summed squares of what words say, which is
how far words that say something by chance lead: long texts hold many."""


class Likeness(Struct, frozen=True):
    """What a text looks like; votes are in the most that one word may say."""

    task: str  # that it looks like most
    lead: float  # over the next one
    margin: float  # that a lead must reach, so that no single word decides

    @property
    def said(self) -> str | None:
        """The task, where the lead reaches the margin."""
        return self.task if self.lead >= self.margin and self.task != NEUTRAL else None


class Classifier:
    """Taught once; then the same text always looks like the same task, in any process."""

    def __init__(self, exemplars: Mapping[str, Sequence[str]]) -> None:
        """Learn from texts of each task.

        Args:
            exemplars: by task; one of fewer than two tasks tells nothing apart. Those under
                `general` look like no task.
        """
        keys = {task: [_keys_of_exemplar(text) for text in exemplars[task]] for task in exemplars}
        taught = teach(keys)
        self.tasks = taught.tasks
        self._rows, self._weights = taught.rows, taught.weights
        known = sorted({key for of in keys.values() for one in of for key in one})
        self._known = {key: row for row, key in enumerate(known)}
        self._votes = self._votes_by_features(known)

    def like(self, text: str) -> Likeness | None:
        """Return what a text looks like; None where nothing in it is known, or is unclear."""
        left = without_boilerplate(text)
        if left is None or len(self.tasks) < 2:
            return None
        votes = self._votes_of(set(words_of(left)) - STOP)
        if not len(votes):
            return None
        sums = votes.sum(axis=0)
        next_one, first = np.sort(sums)[-2:].tolist()
        said = (votes.max(axis=1) - votes.min(axis=1)).astype(np.float64)
        noise = int(NOISE * np.sqrt((said**2).sum()))
        margin = max(UNIT + 1, noise)
        return Likeness(self.tasks[int(sums.argmax())], (first - next_one) / UNIT, margin / UNIT)

    def words_for(self, text: str) -> list[tuple[str, float]]:
        """Return the words that speak for what a text looks like against the next, most first."""
        left = without_boilerplate(text)
        if left is None or len(self.tasks) < 2:
            return []
        keys = sorted(keys_of(left))
        each = [self._votes_of_key(key) for key in keys]
        if not each:
            return []
        next_one, first = np.argsort(np.sum(each, axis=0), kind="stable")[-2:]
        found = [
            (key, int(vote[first] - vote[next_one]) / UNIT)
            for key, vote in zip(keys, each, strict=True)
        ]
        return sorted(((k, v) for k, v in found if v), key=lambda one: (-one[1], one[0]))

    def _votes_of(self, words: Iterable[str]) -> NDArray[np.int64]:
        """Return the votes of those words of which something is known: (words, tasks).

        A word that is its own key, as most are, is found without making one.
        """
        known, unknown = set[int](), set[str]()
        for word in words:
            row = self._known.get(word)
            if row is None and (key := key_of(word)):
                row = self._known.get(key)
                if row is None:
                    unknown.add(key)
            if row is not None:
                known.add(row)
        votes = self._votes[list(known)]
        return np.concatenate([votes, self._votes_by_features(unknown)]) if unknown else votes

    def _votes_of_key(self, key: str) -> NDArray[np.int64]:
        row = self._known.get(key)
        votes = self._votes_by_features([key]).sum(axis=0) if row is None else self._votes[row]
        return np.asarray(votes)

    def _votes_by_features(self, keys: Iterable[str]) -> NDArray[np.int64]:
        rows: list[int] = []
        starts: list[int] = []
        for key in keys:
            n = len(rows)
            rows += [row for f in features_of(key) if (row := self._rows.get(f)) is not None]
            if len(rows) > n:
                starts.append(n)
        if not starts:
            return np.zeros((0, len(self.tasks)), np.int64)
        return capped(np.add.reduceat(self._weights[rows], starts, axis=0))


def _keys_of_exemplar(text: str) -> set[str]:
    """Return the keys of an exemplar; boilerplate that is unclear is left in."""
    left = without_boilerplate(text)
    return keys_of(text if left is None else left, EXEMPLAR_SIDE)
