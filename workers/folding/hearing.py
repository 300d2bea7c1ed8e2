"""Many records of feedback at once: what `labels` says of one, for a whole batch. Pure.

Words are sorted by decision, kind, revision and event, so that what holds is the last of each
kind; the same words give the same rows as hearing them one by one, in whatever order they came.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from telemetry.events import MICRO, RETRACTED, FeedbackKind
from workers.folding.labels import EVENT_BYTES, STRENGTH

Name = TypeVar("Name", bound=Hashable)

ENTRIES = np.dtype(
    [
        ("feedback_kind", "u1"),
        ("source", "u1"),
        ("revision", "<u4"),
        ("value_micro", "<i4"),  # at most `MICRO`
        ("event", f"V{EVENT_BYTES}"),
    ]
)
"""The words of a stored row, under the names that their fields have in a record."""


_WEAKEST_FIRST = [int(kind) for kind in reversed(STRENGTH)]
_DERIVED = int(FeedbackKind.DERIVED)
_AS_SAID = [name for name in ENTRIES.names or () if name != "event"]


@dataclass(frozen=True, slots=True)
class LabelStandings:
    """`labels.Standing` of many decisions; 0 where nothing of a sort holds."""

    reward: NDArray[np.float64]  # (n_decisions,) in [0, 1]
    kind: NDArray[np.uint8]  # which the reward is of; 0: there is none
    first: NDArray[np.float64]  # in [0, 1], of those kinds the value that was said first
    derived: NDArray[np.float64]  # in [0, 1]
    source: NDArray[np.uint8]
    is_derived: NDArray[np.bool_]

    @classmethod
    def nothing(cls, n: int) -> LabelStandings:
        """Return `n` decisions of which nothing is said."""
        kind, source = np.zeros(n, dtype=np.uint8), np.zeros(n, dtype=np.uint8)
        return cls(np.zeros(n), kind, np.zeros(n), np.zeros(n), source, np.zeros(n, dtype=bool))

    @property
    def is_rewarded(self) -> NDArray[np.bool_]:
        """Whether anything but a derived label holds."""
        return self.kind > 0

    def of(self, picked: NDArray[np.bool_]) -> LabelStandings:
        """Return some of them."""
        return LabelStandings(*(getattr(self, name)[picked] for name in self.__slots__))

    def without_rewards(self, of: NDArray[np.bool_]) -> LabelStandings:
        """Return these, some with nothing but what was derived."""
        zero, none = np.zeros(len(of)), np.zeros(len(of), dtype=np.uint8)
        return LabelStandings(
            reward=np.where(of, zero, self.reward),
            kind=np.where(of, none, self.kind),
            first=np.where(of, zero, self.first),
            derived=self.derived,
            source=self.source,
            is_derived=self.is_derived,
        )

    def __add__(self, other: LabelStandings) -> LabelStandings:
        """Return these, then the others."""
        both = ((getattr(self, name), getattr(other, name)) for name in self.__slots__)
        return LabelStandings(*(np.concatenate(pair) for pair in both))


@dataclass(frozen=True, slots=True)
class Heard:
    """What a batch changed; decisions are counted as they were handed in."""

    rows: list[bytes]  # to store, of each decision
    is_news: NDArray[np.bool_]  # (n_records,) whether it held when it came
    before: LabelStandings
    after: LabelStandings


def hear(stored: list[bytes | None], slots: NDArray[np.intp], said: NDArray[np.void]) -> Heard:
    """Return what holds once `said` was heard.

    Args:
        stored: (n_decisions) the row of each decision, None where there is none.
        slots: (n_records,) which decision each record speaks of.
        said: (n_records,) records, or words of ENTRIES, in the order in which they came.
    """
    those = [place for place, row in enumerate(stored) if row]  # few: most are heard of at once
    rows = [stored[place] or b"" for place in those]
    known = np.frombuffer(b"".join(rows), dtype=ENTRIES)
    sizes = [len(row) // ENTRIES.itemsize for row in rows]
    known_slots = np.repeat(np.array(those, dtype=np.intp), sizes)
    words = np.empty(len(known) + len(said), dtype=ENTRIES)
    words[: len(known)] = known
    for name in _AS_SAID:
        words[name][len(known) :] = said[name]
    events = (
        np.ascontiguousarray(said["event"]).view("u1").reshape(-1, said.dtype["event"].itemsize)
    )
    firsts = np.ascontiguousarray(events[:, :EVENT_BYTES])
    words["event"][len(known) :] = firsts.view(ENTRIES["event"]).reshape(-1)
    slot = np.concatenate([known_slots, slots])
    order, holds, is_news = _sort(slot, words)
    held, held_slots = words.take(order[holds]), slot[order[holds]]
    return Heard(
        rows=_rows(held_slots, held, len(stored)),
        is_news=is_news[len(known) :],
        before=_standings(known_slots, known, len(stored)),
        after=_standings(held_slots, held, len(stored)),
    )


def _sort(
    slot: NDArray[np.intp], words: NDArray[np.void]
) -> tuple[NDArray[np.intp], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return an order by decision, kind and rank; which words hold in it; which were news.

    Of two words of one rank the one that came first holds. A word was news if it outranks all of
    its decision and kind that came before it.
    """
    group = slot * (max(FeedbackKind) + 1) + words["feedback_kind"]
    order = np.argsort(group, kind="stable")
    placed = group[order]
    goes_on = placed[1:] == placed[:-1]
    ends_group = np.append(~goes_on, True)[: len(placed)]
    is_news = np.ones(len(words), dtype=bool)
    # Only where several words are of one decision and kind there is something to compare.
    several = np.append(goes_on, False)[: len(placed)]
    several[1:] |= goes_on
    some = order[several]  # by group, and in it as they came
    found = words.take(some)
    first, rest = _events(found)
    by_rank = np.lexsort((-some, rest, first, found["revision"], group[some]))
    order[several] = some[by_rank]
    rank = np.empty(len(some), dtype=np.intp)
    rank[by_rank] = np.arange(len(some))
    # Groups rise with the rank, so that the highest rank so far is one of the same group.
    highest = np.maximum.accumulate(rank)
    is_news[some[1:]] = highest[1:] > highest[:-1]
    return order, ends_group, is_news


def _events(words: NDArray[np.void]) -> tuple[NDArray[np.uint64], NDArray[np.uint16]]:
    """Return the events of words as two numbers each, which rise as the events do."""
    raw = np.ascontiguousarray(words["event"]).view("u1").reshape(-1, EVENT_BYTES)
    first, rest = (np.ascontiguousarray(part) for part in (raw[:, :8], raw[:, 8:]))
    return (
        first.view(">u8").reshape(-1).astype(np.uint64),
        rest.view(">u2").reshape(-1).astype(np.uint16),
    )


def _rows(slots: NDArray[np.intp], held: NDArray[np.void], n: int) -> list[bytes]:
    """Return the words that hold of each of `n` decisions, as they are stored."""
    if len(held) == n and (slots == np.arange(n)).all():
        return pieces(held)  # of each just one
    bounds = np.searchsorted(slots, np.arange(n + 1)) * ENTRIES.itemsize
    whole = held.tobytes()
    return [whole[a:b] for a, b in pairwise(bounds.tolist())]


def pieces(values: NDArray[Any]) -> list[bytes]:
    """Return the bytes of each element, or of each row of a table."""
    if not len(values):
        return []
    whole = np.ascontiguousarray(values)
    size = whole.nbytes // len(whole)
    found: list[bytes] = np.frombuffer(whole.tobytes(), dtype=f"V{size}").tolist()
    return found


def slots_of(names: Sequence[Name]) -> tuple[list[Name], NDArray[np.intp]]:
    """Return the distinct names in the order of their first coming, and which each one is."""
    slot_of = dict(zip(dict.fromkeys(names), count(), strict=False))
    slots = map(slot_of.__getitem__, names)
    return list(slot_of), np.fromiter(slots, dtype=np.intp, count=len(names))


def _standings(slots: NDArray[np.intp], held: NDArray[np.void], n: int) -> LabelStandings:
    out = LabelStandings.nothing(n)
    if not len(held):
        return out
    said, kinds = held["value_micro"] != RETRACTED, held["feedback_kind"].tobytes()
    for kind in _WEAKEST_FIRST:  # the strongest last, over the others
        if kind not in kinds:
            continue
        mine = said & (held["feedback_kind"] == kind)
        out.reward[slots[mine]] = held["value_micro"][mine] / MICRO
        out.kind[slots[mine]] = kind
    out.first[:] = out.reward
    judged = np.flatnonzero(said & (held["feedback_kind"] != _DERIVED))
    if len(judged) > np.count_nonzero(out.kind):  # else each has one word
        first, rest = _events(held.take(judged))
        latest_first = judged[np.lexsort((rest, first))[::-1]]
        out.first[slots[latest_first]] = held["value_micro"][latest_first] / MICRO
    if _DERIVED not in kinds:
        return out
    mine = said & (held["feedback_kind"] == _DERIVED)
    out.derived[slots[mine]] = held["value_micro"][mine] / MICRO
    out.source[slots[mine]] = held["source"][mine]
    out.is_derived[slots[mine]] = True
    return out
