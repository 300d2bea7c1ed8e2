"""Recent decisions in the store: written by every router of it, found by every router and verb.

Whoever writes never waits for a store that is away: what it did not take is kept for the next
time, up to a bound, and then dropped and counted. It lies in the files of its own process anyway.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from router.explain.kept import KeptBatch, PackedBatch
from router.explain.rows import DecisionRow, RowPacking
from telemetry import explained
from telemetry.explained import DecisionSegment
from telemetry.memory import MB, MemoryUse
from telemetry.store import Client, StoreErrors

AT_ONCE = 1000
"""Rows of one batch."""
MOST_PART_BYTES = 1 << 20
"""Of the parts that go with it, so that a script keeps the server for a millisecond or two."""
MAX_WAITING = 20_000
"""Rows for a store that is away: some seconds of many calls, an hour of few."""
MAX_WAITING_BYTES = 8 << 20
"""Of their parts."""
REST_S = 2.0
"""After a store did not answer it is left alone for so long."""
LEAST_KEPT_S = 60
LATE_MS = 3000
"""A decision is written so long after it was made, or its segment is not the likeliest."""


def bound_now(max_mb: int, use: MemoryUse | None) -> int:
    """Return how many bytes decisions may take: as configured, but a quarter of the store's memory.

    Args:
        use: of the store's memory, as it was measured; None while it was not.
    """
    configured = max_mb * MB
    if use is None or not use.limit_bytes:
        return configured
    return min(configured, use.limit_bytes // 4) if use.keeps_draws else 0


class SharedDecisions:
    """The store's side of the decisions."""

    name = "store"

    def __init__(self, client: Client, *, bound: Callable[[], int], days: float) -> None:
        """Make it; nothing is asked yet.

        Args:
            bound: how many bytes all decisions in the store may take now, whoever wrote them; 0:
                none are written.
            days: for how long they are kept.
        """
        self.n_dropped = 0
        self._client = client
        self._bound = bound
        self._keep_s = max(int(days * 86_400), LEAST_KEPT_S)
        self._waiting: deque[DecisionRow] = deque()
        self._parts: dict[bytes, bytes] = {}
        self._part_bytes = 0
        self._next = 0.0  # monotonic seconds
        self.packing = RowPacking()

    @property
    def n_waiting(self) -> int:
        """Rows that the store did not take yet."""
        return len(self._waiting)

    def put(self, rows: list[DecisionRow], parts: Mapping[bytes, bytes]) -> None:
        """Take rows over that are to be written, with the parts that they name."""
        if self._bound() <= 0:
            return
        for row in rows:
            if len(self._waiting) >= MAX_WAITING or self._part_bytes >= MAX_WAITING_BYTES:
                self.n_dropped += 1
                continue
            self._waiting.append(row)
            for digest in row.parts:
                if digest not in self._parts:
                    self._parts[digest] = parts[digest]
                    self._part_bytes += len(parts[digest])

    def write(self) -> bool:
        """Write what waits; return whether none is left. Never raises for a store that is away."""
        if self._waiting and time.monotonic() >= self._next:
            try:
                while self._waiting:
                    self._write_some()
            except StoreErrors:  # others say so, who lose more by it
                self._next = time.monotonic() + REST_S
        if not self._waiting:
            self._parts, self._part_bytes = {}, 0
        return not self._waiting

    def _write_some(self) -> None:
        rows: list[DecisionRow] = []
        parts: dict[bytes, bytes] = {}
        n_bytes, second = 0, 0
        before: tuple[bytes, ...] | None = None
        fresh: dict[bytes, bytes] = {}
        for row in self._waiting:
            if row.parts is not before:
                before = row.parts
                fresh = {d: self._parts[d] for d in before if d not in parts}
                n_bytes += sum(map(len, fresh.values()))
            # By second, as the files have them: then both are packed at once.
            is_full = len(rows) >= AT_ONCE or n_bytes > MOST_PART_BYTES
            if rows and (is_full or row.decided_at_ms // 1000 != second):
                break
            second = row.decided_at_ms // 1000
            rows.append(row)
            parts |= fresh
        is_taken = explained.write(
            self._client,
            self.packing.of(rows),
            parts,
            first_ms=min(row.decided_at_ms for row in rows),
            max_bytes=self._bound(),
            keep_s=self._keep_s,
        )
        self.n_dropped += 0 if is_taken else len(rows)
        for _ in rows:
            self._waiting.popleft()

    def near(self, decided_at_ms: int) -> Iterator[list[KeptBatch]]:
        """Yield a segment at a time: those in which it was written in time, then later ones.

        Raises:
            redis.RedisError, OSError, ValueError: the store does not say it.
        """
        there = explained.segments(self._client)
        before = [each for each in there if each.since_ms <= decided_at_ms]
        # Several write: a segment may begin with a decision that is later than others in it.
        begun = [each for each in there if 0 < each.since_ms - decided_at_ms <= LATE_MS]
        likely = [*before[-1:], *begun]
        rest = [each for each in there if each.number > max((e.number for e in likely), default=0)]
        for segment in [*likely, *rest, *reversed(before[:-1])]:
            yield self._batches(segment)

    def newest(self) -> Iterator[list[KeptBatch]]:
        """Yield all segments, the newest first, as `near` does."""
        for segment in reversed(explained.segments(self._client)):
            yield self._batches(segment)

    def holding(self, sessions: Sequence[bytes]) -> Iterator[list[KeptBatch]]:
        """Yield the batches that may hold decisions of these sessions, as `newest` does.

        The server looks for them: of what it passes over nothing is sent.
        """
        for segment in reversed(explained.segments(self._client)):
            yield self._unpacked(segment, segment.holding(self._client, sessions))

    def since_ms(self) -> int | None:
        """Return when the oldest decision was made that is kept, as far as is known; None: none.

        Raises:
            redis.RedisError, OSError: the store does not say it.
        """
        there = explained.segments(self._client)
        return there[0].since_ms if there else None

    def _batches(self, segment: DecisionSegment) -> list[KeptBatch]:
        return self._unpacked(segment, segment.batches(self._client))

    def _unpacked(self, segment: DecisionSegment, packed: Iterable[bytes]) -> list[KeptBatch]:
        parts = partial(segment.parts, self._client)
        return [PackedBatch(each, parts) for each in packed]
