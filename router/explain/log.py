"""Decisions with their numbers, kept for `explain_days`.

A call only appends to a bounded queue. A thread takes them out a few times a second, packs them,
so that none holds posteriors in memory any longer, and writes them; what cannot be written waits
for the next time, up to a bound in bytes. Whatever fails here is counted and said once, and never
touches a call. Killed at any moment, a sidecar loses what was not yet written.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import zlib
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from router.beliefs.beliefs import Beliefs
from router.decision.decide import Decision
from router.explain import explanation
from router.explain.files import BUSY_S, DecisionFiles, DecisionRow
from telemetry.pacer import Bell

log = structlog.get_logger()
EVERY_S = 0.25
"""How long decisions gather into one row."""
MAX_QUEUED = 8192
"""Two seconds of more calls than one process serves; each holds its request's context."""
MAX_WAITING_BYTES = 16 << 20
"""Some minutes of calls, where the disk is full or another holds the file."""
PRUNE_EVERY_S = 3600.0
ROW_BYTES = 100
"""Of a decision that waits, beside its texts."""


class DecisionLog:
    """Writes decisions down and finds them again."""

    def __init__(self, directory: Path, *, days: float, max_bytes: int) -> None:
        self.n_dropped = 0
        self.n_written = 0
        self._keeps = days > 0
        self._files = DecisionFiles(directory, days=days, max_bytes=max_bytes)
        self._queue: deque[Decision] = deque()
        self._waiting: list[DecisionRow] = []
        self._parts: dict[bytes, bytes] = {}  # of those: digest -> text, compressed
        self._waiting_bytes = 0
        self._beliefs: Beliefs | None = None
        self._draws: dict[tuple[object, ...], explanation.Part | None] = {}
        self._ok = True
        self._pruned_at = float("-inf")  # monotonic seconds
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._bell = Bell()
        self._thread = threading.Thread(target=self._run, name="decisions", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        if self._keeps:
            self._thread.start()

    def close(self) -> None:
        """Write what is queued, and end; what cannot be written now is dropped."""
        self._stop.set()
        self._bell.ring()
        if self._thread.is_alive():
            self._thread.join(2 * BUSY_S + 1)

    def put(self, decision: Decision) -> None:
        """Note a decision; never waits, never raises."""
        if not self._keeps:
            return
        if len(self._queue) >= MAX_QUEUED:
            self.n_dropped += 1
            return
        self._queue.append(decision)
        self._bell.ring()

    def find(self, nonce: bytes, decided_at_ms: int) -> dict[str, Any] | None:
        """Return the explanation of a decision; None where it is not kept.

        One that follows a stored draw holds the explanation of that draw under `draw_of`, where
        it is kept here.
        """
        self.flush()
        try:
            found = self._files.find(nonce, decided_at_ms)
            if found is None:
                return None
            body, unit = found
            follows = body["follows"]
            body["draw_of"] = None
            if follows is not None:
                body["draw_of"] = self._files.find_draw(unit, follows["decided_at_ms"])
        except (sqlite3.Error, OSError, ValueError) as error:
            self._note(error)
            return None
        return body

    def flush(self) -> None:
        """Write what is queued, and what could not be written before."""
        with self._lock:
            self._pack()
            if not self._waiting:
                return
            try:
                self._files.write(self._waiting, self._parts)
                self.n_written += len(self._waiting)
                self._note(None)
            except (sqlite3.Error, OSError) as error:
                self._note(error)
                return  # the next time
            except Exception as error:  # whatever it is, the next decisions are to be kept
                self.n_dropped += len(self._waiting)
                self._note(error)
            self._waiting, self._parts, self._waiting_bytes = [], {}, 0

    def _run(self) -> None:
        while not self._stop.is_set():
            self._bell.wait(PRUNE_EVERY_S)
            self._bell.reset()
            self._stop.wait(EVERY_S)  # decisions gather
            self.flush()
            if self._waiting:
                self._bell.ring()  # what could not be written is tried again
            if time.monotonic() - self._pruned_at >= PRUNE_EVERY_S:
                self._pruned_at = time.monotonic()
                with suppress(OSError):
                    self._files.prune()
        self.flush()
        self.n_dropped += len(self._waiting)

    def _pack(self) -> None:
        """Take decisions out of the queue, as far as there is room for what waits."""
        for _ in range(len(self._queue)):
            decision = self._queue.popleft()
            if self._waiting_bytes >= MAX_WAITING_BYTES:
                self.n_dropped += 1
                continue
            try:
                row = self._row(decision)
            except Exception as error:  # of this one alone
                self._note(error)
                self.n_dropped += 1
            else:
                self._waiting.append(row)
                self._waiting_bytes += len(row.body) + ROW_BYTES

    def _row(self, decision: Decision) -> DecisionRow:
        excluded = explanation.of_exclusions(decision)
        exclusions = explanation.packed(excluded) if excluded else None
        return DecisionRow(
            decision.nonce,
            decision.decided_at_ms,
            decision.context.unit.session(decision.nonce),
            explanation.text_of(explanation.of_decision(decision)),
            self._keep(self._draw(decision)),
            self._keep(exclusions),
        )

    def _keep(self, part: explanation.Part | None) -> bytes | None:
        """Return the digest of a part, which is written with the decisions that wait."""
        if part is None:
            return None
        if part[0] not in self._parts:
            self._parts[part[0]] = zlib.compress(part[1])
            self._waiting_bytes += len(self._parts[part[0]]) + ROW_BYTES
        return part[0]

    def _draw(self, decision: Decision) -> explanation.Part | None:
        """Return the part of the draw; worked out once for all calls that share it."""
        if not decision.plan.drawn_now:
            return None
        if self._beliefs is not decision.context.beliefs:
            self._beliefs = decision.context.beliefs
            self._draws.clear()
        key = explanation.drawing_key(decision)
        if key not in self._draws:
            found = explanation.of_draw(decision)
            self._draws[key] = explanation.packed(found) if found is not None else None
        return self._draws[key]

    def _note(self, error: Exception | None) -> None:
        """Say once that decisions are not kept, and once that they are again."""
        if error is not None and self._ok:
            log.error("decisions cannot be kept", error=type(error).__name__, detail=str(error))
        elif error is None and not self._ok:
            log.info("decisions are kept again")
        self._ok = error is None
