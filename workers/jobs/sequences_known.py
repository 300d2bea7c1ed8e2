"""Which trial or hold-out each unit belongs to: that in force at its first assigned call. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from telemetry.digests import digest8
from telemetry.trials import Trial, TrialState

SETTLING_MS = 30_000
"""Routers look at trials twice a second, and may be cut off from the store for some: a unit that
begins so soon after one comparison took the place of another is in neither."""
ALWAYS_MS = 1 << 62
HOLDOUT_SUFFIX = ":h"


@dataclass(frozen=True, slots=True)
class KnownSequence:
    """One trial's or hold-out's comparison, with a beginning of its own."""

    field: str  # under which its sums lie in the store
    digest: int
    trial: Trial
    is_holdout: bool
    since_ms: int
    until_ms: int  # exclusive

    @property
    def key(self) -> tuple[bool, int]:
        """Whose calls it compares: those of an app, or of a release key; and of which."""
        if self.trial.is_of_app:
            return True, digest8("app", self.trial.app)
        return False, self.trial.release_key


def sequences_of(trials: Iterable[Trial]) -> list[KnownSequence]:
    """Return the comparisons of trials, and of the hold-outs that those left that were won."""
    out = []
    for trial in trials:
        is_running = trial.state is TrialState.RUNNING
        until_ms = ALWAYS_MS if is_running else trial.ended_ms
        digest = digest8("trial", trial.id)
        out.append(KnownSequence(trial.id, digest, trial, False, trial.began_ms, until_ms))
        if trial.state is TrialState.WON:
            field, digest = trial.id + HOLDOUT_SUFFIX, digest8("holdout", trial.id)
            out.append(KnownSequence(field, digest, trial, True, trial.ended_ms, ALWAYS_MS))
    return out


@dataclass(frozen=True, slots=True)
class Timeline:
    """What was in force when for one release key, or for one app."""

    begins_ms: NDArray[np.int64]  # (n_spans,) rising
    which: NDArray[np.int64]  # (n_spans,) which sequence; -1: none
    since_ms: NDArray[np.int64]  # (n_spans,) when that one began

    @classmethod
    def of(cls, sequences: list[tuple[int, KnownSequence]]) -> Timeline:
        """Return the timeline of sequences with their numbers; of several the latest is in force.

        So a hold-out rests while another trial of its key runs, and goes on after it.
        """
        edges = {0, *(s.since_ms for _, s in sequences), *(s.until_ms for _, s in sequences)}
        spans = []
        for at_ms in sorted(edges):
            there = [(s.since_ms, n) for n, s in sequences if s.since_ms <= at_ms < s.until_ms]
            spans.append((at_ms, *max(there, default=(0, -1))))
        begins, since, which = (
            np.array(column, dtype=np.int64) for column in zip(*spans, strict=True)
        )
        return cls(begins, which, since)

    def at(self, at_ms: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return which sequence was in force, and since when; -1 and 0 where none was.

        Nor was one for as long as routers may still have been at the one before it.
        """
        place = np.searchsorted(self.begins_ms, at_ms, side="right") - 1
        before = np.searchsorted(self.begins_ms, at_ms - SETTLING_MS, side="right") - 1
        now, then = self.which[place], self.which[np.maximum(before, 0)]
        is_settled = (now == then) | (then < 0)
        which = np.where(is_settled, now, -1)
        return which, np.where(which >= 0, self.since_ms[place], 0)


def timelines(sequences: list[KnownSequence]) -> dict[tuple[bool, int], Timeline]:
    """Return by app, and by release key, what was in force when; numbers are places in the list."""
    of_key: dict[tuple[bool, int], list[tuple[int, KnownSequence]]] = defaultdict(list)
    for number, sequence in enumerate(sequences):
        of_key[sequence.key].append((number, sequence))
    return {key: Timeline.of(own) for key, own in of_key.items()}
