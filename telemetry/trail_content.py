"""What was read of the audit trail, wherever it lay: each record once, and what is missing."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from telemetry.events import RECORD_SIZE
from telemetry.frames import Frame
from telemetry.trail import Assembler, InForce, decode_trail


class Hole(NamedTuple):
    """Numbers of one producer that are nowhere, and between which times they were given."""

    from_ms: int  # 0: its first ones
    to_ms: int
    n_records: int


class _Run(NamedTuple):
    """Numbers in a row that were seen: from `first` up to, and without, `end`."""

    first: int
    end: int
    first_ms: int
    end_ms: int


class NumbersSeen:
    """Which numbers of one producer were seen; in any order, and any of them twice."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []  # apart, in order

    def add(self, first: int, end: int, at_ms: int) -> list[tuple[int, int]]:
        """Take numbers as seen; return those that are new, as pairs of first and end."""
        runs = self._runs
        at = max(bisect_right(runs, first, key=lambda run: run.first) - 1, 0)
        upto, new, merged = at, [], _Run(first, end, at_ms, at_ms)
        start = first
        while upto < len(runs) and runs[upto].first <= end:
            run = runs[upto]
            upto += 1
            if run.end < first:
                at = upto
                continue
            if start < run.first:
                new.append((start, run.first))
            start = max(start, run.end)
            merged = _together(merged, run)
        if start < end:
            new.append((start, end))
        runs[at:upto] = [merged]
        return new

    def holes(self) -> Iterator[Hole]:
        """Yield what is missing before the last number that was seen."""
        runs = self._runs
        if runs and runs[0].first:
            yield Hole(0, runs[0].first_ms, runs[0].first)
        for before, after in pairwise(runs):
            yield Hole(before.end_ms, after.first_ms, after.first - before.end)


def _together(one: _Run, other: _Run) -> _Run:
    first = min(one, other, key=lambda run: (run.first, run.first_ms))
    last = max(one, other, key=lambda run: (run.end, -run.end_ms))
    return _Run(first.first, last.end, first.first_ms, last.end_ms)


class Departure(NamedTuple):
    """What left alike: only times and decisions differ."""

    class_name: bytes
    level: int
    app_name: bytes
    endpoint_name: bytes
    endpoint: int
    zone: bytes
    configuration: int
    way: int


@dataclass(slots=True)
class DepartureCount:
    """How often it did, and when."""

    n: int = 0
    first_ms: int = 0
    last_ms: int = 0
    first_nonce: bytes = b""

    def add(self, at_ms: int, nonce: bytes) -> None:
        """Count one more."""
        if not self.n or at_ms < self.first_ms:
            self.first_ms, self.first_nonce = at_ms, nonce
        self.last_ms = max(self.last_ms, at_ms)
        self.n += 1


@dataclass(slots=True)
class TrailContent:
    """The audit trail, as far as it was read: counts, so that a year of it needs little memory."""

    since_ms: int = 0  # what left before is not counted
    left: dict[Departure, DepartureCount] = field(default_factory=dict)
    numbers: dict[bytes, NumbersSeen] = field(default_factory=dict)  # by producer
    kept_since_ms: int = 0  # what was older is gone by configuration; 0: nothing is
    looked_at: list[str] = field(default_factory=list)
    not_looked_at: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    sent_ms: list[int] = field(default_factory=list)  # up to when producers elsewhere sent
    n_unsound: int = 0
    n_mute: int = 0  # processes that record calls, and keep no trail
    _assembler: Assembler = field(default_factory=Assembler)

    def add(self, frame: Frame, at_ms: int) -> None:
        """Take the records of a frame that were not seen before."""
        for first, end in self.note(frame.producer, frame.first, frame.n_records, at_ms):
            start, stop = first - frame.first, end - frame.first
            found = decode_trail(frame.body[start * RECORD_SIZE : stop * RECORD_SIZE])
            self.n_unsound += found.n_unsound
            self._count(found.intents)
            self._assembler.add(frame.producer, found.parts)

    def note(
        self, producer: bytes, first: int, n_records: int, at_ms: int
    ) -> list[tuple[int, int]]:
        """Take numbers as seen; return those that are new, as pairs of first and end."""
        seen = self.numbers.setdefault(producer, NumbersSeen())
        return seen.add(first, first + n_records, at_ms)

    def _count(self, intents: NDArray[np.void]) -> None:
        wanted = intents[intents["at_ms"] >= self.since_ms]
        columns = [wanted[name].tolist() for name in (*Departure._fields, "at_ms", "nonce")]
        for *alike, at_ms, nonce in zip(*columns, strict=True):
            departure = Departure(*alike)
            self.left.setdefault(departure, DepartureCount()).add(at_ms, bytes(nonce))

    @property
    def said(self) -> list[InForce]:
        """What processes said of their configurations, oldest first."""
        return sorted(self._assembler.said, key=lambda one: one.at_ms)
