"""What is said of old decisions, and what of it must hold in the end. Pure.

Every word is an event of its own, and speaks of one decision or of several: by its id, by the id
of its answer, or by a reference. Values are sixty-fourths, so that sums and squares are exact in
the fixed point; so what must be in the sums is a matter of whole numbers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from telemetry import events
from telemetry.events import NO_DIGEST, FeedbackKind, Match

if TYPE_CHECKING:
    from scripts.proofs.old_world import OldDecision, OldMonth

PARTS = 64
"""A value is so many parts at most."""
KINDS = (FeedbackKind.TEST, FeedbackKind.HUMAN, FeedbackKind.JUDGE)
"""Strongest first, as documented."""
REPEATED, CORRECTED, RETRACTED = 0.1, 0.1, 0.05
"""Shares of the late labels."""
SAID_EARLY = 0.5
"""Share of all decisions of which something was said while they were young."""
HEARD_WITHIN_MS = 20 * 3_600_000


class Way(StrEnum):
    """How a word names its decisions."""

    ID = "id"
    ANSWER = "answer"
    REFERENCE = "reference"


@dataclass(frozen=True, slots=True)
class OldWord:
    """One word."""

    event: bytes
    kind: FeedbackKind
    parts: int | None  # of `PARTS`; None takes back what this kind said
    revision: int
    way: Way
    meant: tuple[int, ...]  # numbers of decisions
    received_ms: int
    digest: bytes = NO_DIGEST  # by which it names them, where that is not their id
    match: Match = Match.ONE

    @property
    def rank(self) -> tuple[int, bytes]:
        """Of two words of one kind for a decision that of the higher rank holds."""
        return self.revision, self.event

    def shard(self, decisions: Sequence[OldDecision], n_shards: int) -> int:
        """Return where it is sent to, as a sidecar would."""
        if self.way is Way.ID:
            return decisions[self.meant[0]].shard
        return self.digest[0] % n_shards

    def addressed(self, number: int) -> OldWord:
        """Return the same word for one of the decisions that it means, by that one's id."""
        return replace(self, way=Way.ID, meant=(number,), digest=NO_DIGEST, match=Match.ONE)

    def record(self, decisions: Sequence[OldDecision], *, app: int = 0, shard: int = 0) -> bytes:
        """Return the record of it."""
        return events.feedback(
            decisions[self.meant[0]].token if self.way is Way.ID else None,
            kind=self.kind,
            value=None if self.parts is None else self.parts / PARTS,
            revision=self.revision,
            event=self.event,
            reference=self.digest,
            app=app,
            shard=shard,
            match=self.match,
            received_at_ms=self.received_ms,
        )


def first_words(month: OldMonth, rng: np.random.Generator) -> list[OldWord]:
    """Return what was said of decisions while they were young."""
    out, newest_ms = [], month.decisions[-1].at_ms
    for decision in month.decisions:
        heard_ms = decision.at_ms + 3000 + int(rng.integers(HEARD_WITHIN_MS))
        if rng.random() >= SAID_EARLY or heard_ms > newest_ms:
            continue
        kind, parts = KINDS[rng.integers(len(KINDS))], int(rng.integers(PARTS + 1))
        event = _event(heard_ms, decision.number)
        out.append(OldWord(event, kind, parts, 0, Way.ID, (decision.number,), heard_ms))
    return out


def late_words(
    month: OldMonth, n: int, rng: np.random.Generator, *, received_ms: Sequence[int]
) -> list[OldWord]:
    """Return `n` labels of old decisions in the order in which they are sent, and what follows.

    Some are told twice, some corrected, some taken back: at once, or much later.

    Args:
        received_ms: of each label when it was received; a sidecar may have had to keep it.
    """
    placed: list[tuple[float, OldWord]] = []
    at, number = np.sort(rng.random(n)), len(month.decisions)
    for i, target in enumerate(rng.choice(month.old, n, replace=n > len(month.old)).tolist()):
        heard_ms, place = received_ms[i], float(at[i])
        word = _late_word(month, target, rng, heard_ms, _event(heard_ms, number + i))
        placed.append((place, word))
        for j, (share, told) in enumerate(_what_follows(word, rng)):
            if rng.random() < share:
                event = word.event if told == word else _event(heard_ms, number + (j + 1) * n + i)
                later = place + float(rng.choice([1e-9, 1e-3, rng.random() * (1 - place)]))
                placed.append((later, replace(told, event=event)))
    return [word for _, word in sorted(placed, key=lambda pair: pair[0])]


def _late_word(
    month: OldMonth, target: int, rng: np.random.Generator, heard_ms: int, event: bytes
) -> OldWord:
    decision, way = month.decisions[target], list(Way)[rng.integers(len(Way))]
    kind, parts = KINDS[rng.integers(len(KINDS))], int(rng.integers(PARTS + 1))
    word = OldWord(event, kind, parts, 1, way, (target,), heard_ms)
    if way is Way.ANSWER:
        return replace(word, digest=decision.response)
    if way is Way.REFERENCE:
        several = month.shared.get(decision.reference, [target])
        is_all = len(several) > 1 and rng.random() < 0.5
        match = Match.ALL if is_all else Match.LAST
        meant = tuple(several) if is_all else (several[-1],)
        return replace(word, digest=decision.reference, match=match, meant=meant)
    return word


def _what_follows(word: OldWord, rng: np.random.Generator) -> list[tuple[float, OldWord]]:
    """Return with which chance a word is told again, corrected, and taken back."""
    corrected = replace(word, parts=int(rng.integers(PARTS + 1)), revision=2)
    taken_back = replace(word, parts=None, revision=3)
    return [(REPEATED, word), (CORRECTED, corrected), (RETRACTED, taken_back)]


def _event(heard_ms: int, number: int) -> bytes:
    """Return an event's id: the store keeps its first ten bytes, so that these differ."""
    return heard_ms.to_bytes(6, "big") + number.to_bytes(4, "big") + bytes(6)


Holding = dict[int, dict[FeedbackKind, OldWord]]
"""By decision and kind the word that holds, taken back or not."""


def holding(words: Iterable[OldWord]) -> Holding:
    """Return what holds once all words were heard, in whatever order."""
    out: Holding = defaultdict(dict)
    for word in words:
        for number in word.meant:
            known = out[number].get(word.kind)
            if known is None or word.rank > known.rank:
                out[number][word.kind] = word
    return out


def rewards(held: Holding) -> dict[int, int]:
    """Return of each decision that has a label its reward, in parts: that of the strongest kind."""
    out = {}
    for number, words in held.items():
        said = [words[kind].parts for kind in KINDS if kind in words]
        strongest = next((parts for parts in said if parts is not None), None)
        if strongest is not None:
            out[number] = strongest
    return out
