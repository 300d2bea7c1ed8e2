"""What was said of one decision, and what follows from it. Pure.

Of each kind the highest (revision, event id) holds; a retraction holds like a value. The reward
is that of the strongest kind that still says something; what was only derived stands beside it.
So the order in which feedback arrives, and how often, does not matter.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from telemetry.events import MICRO, RETRACTED, FeedbackKind, Source

EVENT_BYTES = 10
"""Of an event's id: six are its time in milliseconds, four are random or of a digest. That orders
two words of a decision, a kind and a revision as the whole id does unless they are of one
millisecond and share 32 random bits; then the one that came first holds. One that is told again
has the same bytes."""
_ENTRY = struct.Struct(f"<BBIi{EVENT_BYTES}s")
_WIDE = struct.Struct("<BBIq16s")
"""An entry of a row as it was stored up to schema 4."""
STRENGTH = (FeedbackKind.TEST, FeedbackKind.HUMAN, FeedbackKind.EDIT, FeedbackKind.JUDGE)
"""Strongest first: a test that ran beats an opinion, a person beats a model. Derived labels are
no rewards by themselves: what they are worth is worked out on reading."""


@dataclass(frozen=True, slots=True)
class Word:
    """The word of one kind that holds."""

    revision: int
    event: bytes
    value_micro: int
    source: int = Source.CALLER


Labels = dict[int, Word]
"""By feedback kind."""


def parse(row: bytes | None) -> Labels:
    """Return the labels in a stored row; none where there is no row."""
    if not row:
        return {}
    return {
        kind: Word(revision, event, value, source)
        for kind, source, revision, value, event in _ENTRY.iter_unpack(row)
    }


def pack(labels: Labels) -> bytes:
    """Return the row to store."""
    return b"".join(
        _ENTRY.pack(kind, said.source, said.revision, said.value_micro, said.event)
        for kind, said in sorted(labels.items())
    )


def narrowed(row: bytes) -> bytes:
    """Return a row as it is stored now, of one as it was up to schema 4.

    Where a row lies says which it is; its length does not.
    """
    words = _WIDE.iter_unpack(row[: len(row) // _WIDE.size * _WIDE.size])
    return b"".join(_ENTRY.pack(*word[:-1], word[-1][:EVENT_BYTES]) for word in words)


def widened(row: bytes) -> bytes:
    """Return a row as it was stored up to schema 4; what is not known of its events is 0."""
    return b"".join(_WIDE.pack(*word) for word in _ENTRY.iter_unpack(row))


def said_in(record: np.void) -> Word:
    """Return what a feedback record says."""
    return Word(
        int(record["revision"]),
        record["event"].tobytes()[:EVENT_BYTES],
        int(record["value_micro"]),
        int(record["source"]),
    )


def hear(labels: Labels, kind: int, said: Word) -> Labels:
    """Return the labels once `said` was heard; the same object where it changes nothing."""
    before = labels.get(kind)
    if before and (before.revision, before.event) >= (said.revision, said.event):
        return labels
    return {**labels, kind: said}


@dataclass(frozen=True, slots=True)
class Standing:
    """What holds of one decision."""

    reward: float | None = None  # in [0, 1], of the strongest kind that says something
    kind: int = 0  # which that is
    first: float | None = None  # in [0, 1], of those kinds what was said first
    derived: float | None = None  # in [0, 1], what was read off the calls themselves
    source: int = Source.CALLER  # what it was read off


NOTHING = Standing()


def standing(labels: Labels) -> Standing:
    """Return what holds once all of `labels` were heard."""
    said = labels.get(FeedbackKind.DERIVED)
    derived, source = None, int(Source.CALLER)
    if said and said.value_micro != RETRACTED:
        derived, source = said.value_micro / MICRO, said.source
    holding = [(k, labels[k]) for k in STRENGTH if k in labels]
    holding = [(k, word) for k, word in holding if word.value_micro != RETRACTED]
    if holding:
        kind, strongest = holding[0]
        _, first = min(holding, key=lambda pair: (pair[1].event, pair[0]))
        return Standing(
            strongest.value_micro / MICRO, kind, first.value_micro / MICRO, derived, source
        )
    return Standing(derived=derived, source=source)
