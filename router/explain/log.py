"""Decisions with their numbers, kept for `explain_days`.

A call only appends to a bounded queue. A thread takes them out once a second, or once there are
many, packs them, so that none holds posteriors in memory any longer, and writes them to files and
to the store; what cannot be written waits for the next time, up to a bound in bytes. Whatever fails
here is counted and said once, and never touches a call. Killed at any moment, a sidecar loses what
was not yet written.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import structlog

from router.beliefs.beliefs import Beliefs
from router.config.rules import MergedPolicy
from router.decision.decide import Decision
from router.decision.kinds import DecisionKind, kind_of
from router.endpoints.catalog import Endpoint
from router.explain import explanation
from router.explain.files import BUSY_S, DecisionFiles
from router.explain.parts import Part, PartPacking, packed_numbers
from router.explain.rows import NONCE_BYTES, DecisionRow
from router.explain.shared import SharedDecisions
from router.policy.telling import told
from telemetry.pacer import Bell

log = structlog.get_logger()
EVERY_S = 1.0
"""How long decisions gather into one row; whoever asks here for one is not kept waiting."""
MOST_GATHERED = 512
"""More do not wait so long: each holds its request's context."""
MAX_QUEUED = 8192
"""Two seconds of more calls than one process serves."""
MAX_WAITING_BYTES = 16 << 20
"""Some minutes of calls, where the disk is full or another holds the file."""
PRUNE_EVERY_S = 3600.0
ROW_BYTES = 200
"""Of a decision that waits, beside its parts."""
MAX_REMEMBERED = 4096
"""Sorts of calls of which what they share is remembered, under the same beliefs."""
MAX_POLICIES = 256
"""Merged policies of which the part is remembered, under the same configuration."""
RETRY_S = 1.0
"""What the store did not take is tried again after so long, while no calls come."""


class _Kept(NamedTuple):
    """What is kept of decisions of one kind beside their rows: the frame first, then its parts."""

    parts: tuple[Part, ...]
    digests: tuple[bytes, ...]
    draw: bytes  # digest of the draw's; empty where it has none of its own


class DecisionLog:
    """Writes decisions down and finds them again."""

    def __init__(
        self,
        directory: Path,
        *,
        days: float,
        max_bytes: int,
        shared: SharedDecisions | None = None,
    ) -> None:
        """Make it; `start` begins to write.

        Args:
            shared: the store's side, if any.
        """
        self._n_dropped = 0
        self.n_written = 0
        self.shared = shared
        self.files = DecisionFiles(directory, days=days, max_bytes=max_bytes)
        if shared is not None:
            shared.packing = self.files.packing
        self._keeps = days > 0
        self._queue: deque[tuple[Decision, Endpoint | None, DecisionKind | None]] = deque()
        self._waiting: list[DecisionRow] = []
        self._parts: dict[bytes, bytes] = {}  # of those: digest -> body
        self._waiting_bytes = 0
        self._beliefs: Beliefs | None = None
        self._packing = PartPacking()
        self._draws: dict[tuple[object, ...], Part | None] = {}
        self._policies: dict[int, tuple[MergedPolicy, Part]] = {}
        self._next: dict[tuple[object, ...], list[str]] = {}
        self._listed: Part = (b"", b"")  # of the configuration
        self._ok = True
        self._pruned_at = float("-inf")  # monotonic seconds
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._bell = Bell()
        self._many = Bell()
        self._thread = threading.Thread(target=self._run, name="decisions", daemon=True)

    @property
    def n_dropped(self) -> int:
        """Decisions that are not kept in files, or not in the store."""
        return self._n_dropped + (self.shared.n_dropped if self.shared is not None else 0)

    @property
    def n_waiting(self) -> int:
        """Decisions that the store did not take yet."""
        return self.shared.n_waiting if self.shared is not None else 0

    def start(self) -> None:
        """Begin to write."""
        if self._keeps:
            self._thread.start()

    def close(self) -> None:
        """Write what is queued, and end; what cannot be written now is dropped."""
        self._stop.set()
        self._bell.ring()
        self._many.ring()
        if self._thread.is_alive():
            self._thread.join(2 * BUSY_S + 1)

    def put(
        self,
        decision: Decision,
        answered: Endpoint | None = None,
        kind: DecisionKind | None = None,
    ) -> None:
        """Note a decision, or who answered it; never waits, never raises.

        Args:
            answered: another than the drawn endpoint; the decision itself was noted before.
            kind: of the decision, where that is known.
        """
        if not self._keeps:
            return
        if len(self._queue) >= MAX_QUEUED:
            self._n_dropped += 1
            return
        self._queue.append((decision, answered, kind))
        self._bell.ring()
        if len(self._queue) >= MOST_GATHERED:
            self._many.ring()

    def flush(self) -> None:
        """Write what is queued, and what could not be written before."""
        with self._lock:
            self._pack()
            if self._waiting:
                self._write()
            if self.shared is not None:
                self.shared.write()
            self.files.rest()

    def _write(self) -> None:
        try:
            self.files.write(self._waiting, self._parts)
            self.n_written += len(self._waiting)
            self.note(None)
        except (sqlite3.Error, OSError) as error:
            self.note(error)
            return  # the next time
        except Exception as error:  # whatever it is, the next decisions are to be kept
            self._n_dropped += len(self._waiting)
            self.note(error)
        self._waiting, self._parts, self._waiting_bytes = [], {}, 0

    def _run(self) -> None:
        while not self._stop.is_set():
            is_soon = self.n_waiting or self.files.is_open
            self._bell.wait(RETRY_S if is_soon else PRUNE_EVERY_S)
            self._bell.reset()
            self._many.wait(EVERY_S)  # decisions gather
            self._many.reset()
            self._flush_all()
            if self._waiting:
                self._bell.ring()  # what could not be written is tried again
            if time.monotonic() - self._pruned_at >= PRUNE_EVERY_S:
                self._pruned_at = time.monotonic()
                with suppress(OSError):
                    self.files.prune()
        self._flush_all()
        with self._lock:
            self.files.close()
        self._n_dropped += len(self._waiting)

    def _flush_all(self) -> None:
        try:
            self.flush()
        except Exception as error:  # of the store's side; this thread is to live
            self.note(error)

    def _pack(self) -> None:
        """Take decisions out of the queue, as far as there is room for what waits."""
        rows: list[DecisionRow] = []
        for _ in range(len(self._queue)):
            decision, answered, kind = self._queue.popleft()
            if self._waiting_bytes >= MAX_WAITING_BYTES:
                self._n_dropped += 1
                continue
            try:
                rows.append(self._row(decision, answered, kind))
            except Exception as error:  # of this one alone
                self.note(error)
                self._n_dropped += 1
            else:
                self._waiting_bytes += ROW_BYTES
        self._waiting += rows
        if self.shared is not None and rows:
            self.shared.put(rows, self._parts)

    def _row(
        self, decision: Decision, answered: Endpoint | None, kind: DecisionKind | None
    ) -> DecisionRow:
        if answered is not None:
            frame = self._keep(self._packing.of(explanation.of_answer(answered)))
            nonce, made_ms = decision.nonce[:NONCE_BYTES], decision.decided_at_ms
            return DecisionRow(
                nonce,
                made_ms,
                frame,
                explanation.unit_of(decision),
                is_answer=True,
                session=explanation.session_of(decision),
                parts=(frame,),
            )
        kept = self._kept(decision, kind)
        for part in kept.parts:
            self._keep(part)
        digests = kept.digests
        return explanation.row_of(decision, frame=digests[0], draw=kept.draw, parts=digests)

    def _kept(self, decision: Decision, kind: DecisionKind | None = None) -> _Kept:
        """Return what is kept of a decision beside its row; once for all of its kind."""
        context, drawn = decision.context, decision.plan.drawn
        translations = context.translations
        if translations.told_of(drawn) or translations.left_out(drawn):
            return self._work_out(decision)  # which fields those are is each call's own
        known = (kind or kind_of(decision)).known
        found: _Kept | None = known.get(_Kept)
        if found is None:
            found = known[_Kept] = self._work_out(decision)
        return found

    def _work_out(self, decision: Decision) -> _Kept:
        self._follow(decision.context.beliefs)
        more = {"configuration": self._listed, "policy": self._policy(decision)}
        if excluded := explanation.of_exclusions(decision):
            more["exclusions"] = self._packing.of(excluded)
        if ended := explanation.of_ended(decision):
            more["ended"] = self._packing.of(ended)
        drawn = self._draw(decision)
        told = {name: part[0].hex() for name, part in more.items()}
        said = explanation.of_frame(decision, then=self._then(decision), more=told)
        frame = self._packing.of(said)
        parts = (frame, *([drawn] if drawn is not None else ()), *more.values())
        digests = tuple(part[0] for part in parts)
        return _Kept(parts, digests, drawn[0] if drawn is not None else b"")

    def _policy(self, decision: Decision) -> Part:
        """Return the part of the merged policy; worked out once for all calls that share it."""
        policy = decision.context.policy
        known = self._policies.get(id(policy))
        if known is None or known[0] is not policy:
            if len(self._policies) >= MAX_POLICIES:
                self._policies.clear()
            known = self._policies[id(policy)] = policy, self._packing.of(told(policy))
        return known[1]

    def _keep(self, part: Part) -> bytes:
        """Return the digest of a part, which is written with the decisions that wait."""
        if part[0] not in self._parts:
            self._parts[part[0]] = part[1]
            self._waiting_bytes += len(self._parts[part[0]]) + ROW_BYTES
        return part[0]

    def _follow(self, beliefs: Beliefs) -> None:
        """Forget what was worked out for other beliefs."""
        before = self._beliefs
        if before is None or before.configuration is not beliefs.configuration:
            listed = explanation.of_configuration(beliefs.configuration)
            self._listed = self._packing.of(listed)
            self._policies.clear()
        if before is beliefs and len(self._next) < MAX_REMEMBERED:
            return
        self._beliefs = beliefs
        self._draws.clear()
        self._next.clear()

    def _draw(self, decision: Decision) -> Part | None:
        """Return the part of the draw; worked out once for all calls that share it."""
        key = explanation.drawing_key(decision)
        if key not in self._draws:
            found = explanation.of_draw(decision)
            self._draws[key] = packed_numbers(found) if found is not None else None
        return self._draws[key]

    def _then(self, decision: Decision) -> list[str]:
        """Return the fallbacks; worked out once for all calls that share them."""
        key = explanation.next_key(decision)
        if key not in self._next:
            self._next[key] = explanation.of_next(decision)
        return self._next[key]

    def note(self, error: Exception | None) -> None:
        """Say once that decisions are not kept, and once that they are again."""
        if error is not None and self._ok:
            log.error("decisions cannot be kept", error=type(error).__name__, detail=str(error))
        elif error is None and not self._ok:
            log.info("decisions are kept again")
        self._ok = error is None
