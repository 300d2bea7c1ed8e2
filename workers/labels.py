"""What was said of one decision, and the reward that follows from it. Pure.

Of each kind the highest (revision, event id) holds; a retraction holds like a value. The reward
is that of the strongest kind that still says something. So the order in which feedback arrives,
and how often, does not matter.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from telemetry.events import MICRO, RETRACTED, FeedbackKind

_ENTRY = struct.Struct("<BIq16s")
STRENGTH = (
    FeedbackKind.TEST,
    FeedbackKind.HUMAN,
    FeedbackKind.EDIT,
    FeedbackKind.JUDGE,
    FeedbackKind.DERIVED,
)
"""Strongest first: a test that ran beats an opinion, a person beats a model."""


@dataclass(frozen=True, slots=True)
class Said:
    """The word of one kind that holds."""

    revision: int
    event: bytes
    value_micro: int


Labels = dict[int, Said]
"""By feedback kind."""


def parse(row: bytes | None) -> Labels:
    """Return the labels in a stored row; none where there is no row."""
    if not row:
        return {}
    return {
        kind: Said(revision, event, value)
        for kind, revision, value, event in _ENTRY.iter_unpack(row)
    }


def pack(labels: Labels) -> bytes:
    """Return the row to store."""
    return b"".join(
        _ENTRY.pack(kind, said.revision, said.value_micro, said.event)
        for kind, said in sorted(labels.items())
    )


def hear(labels: Labels, kind: int, said: Said) -> Labels:
    """Return the labels once `said` was heard; the same object where it changes nothing."""
    before = labels.get(kind)
    if before and (before.revision, before.event) >= (said.revision, said.event):
        return labels
    return {**labels, kind: said}


def reward(labels: Labels) -> float | None:
    """Return the reward in [0, 1] of the strongest kind, or None where nothing is said."""
    for kind in STRENGTH:
        said = labels.get(kind)
        if said and said.value_micro != RETRACTED:
            return said.value_micro / MICRO
    return None
