"""Decisions with their numbers, kept for `explain_days`: one SQLite file a day.

A call only appends to a bounded queue; a thread writes it a few times a second. Whatever fails
here is counted and said once, and never touches a call. Killed at any moment, a sidecar loses what
was queued, less than a second of it.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import zlib
from collections import deque
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import structlog

from router import explanation
from router.beliefs import Beliefs
from router.decide import Decision

log = structlog.get_logger()

EVERY_S = 0.25
MAX_QUEUED = 8192
"""Two seconds of more calls than one process serves; each holds its request's frame."""
PRUNE_EVERY_S = 3600.0
BUSY_S = 2.0
"""Several routers may share a directory: one waits so long for another's batch."""
DAY_MS = 86_400_000
SUFFIX = ".sqlite"
_TABLES = """
create table if not exists decision (
    nonce blob primary key, decided_at_ms integer, unit blob, body blob, draw blob, exclusions blob
) without rowid;
create index if not exists by_time on decision (decided_at_ms) where draw is not null;
create table if not exists part (digest blob primary key, body blob) without rowid;
"""


class DecisionLog:
    """Writes decisions down and finds them again."""

    def __init__(self, directory: Path, *, days: float, max_bytes: int) -> None:
        self.n_dropped = 0
        self.n_written = 0
        self._directory = directory
        self._days, self._max_bytes = days, max_bytes
        self._queue: deque[Decision] = deque()
        self._beliefs: Beliefs | None = None
        self._draws: dict[tuple[object, ...], explanation.Part | None] = {}
        self._ok = True
        self._pruned_at = float("-inf")  # monotonic seconds
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="decisions", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        if self._days:
            self._thread.start()

    def close(self) -> None:
        """Write what is queued, and end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(BUSY_S + 1)

    def put(self, decision: Decision) -> None:
        """Note a decision; never waits, never raises."""
        if not self._days:
            return
        if len(self._queue) >= MAX_QUEUED:
            self.n_dropped += 1
            return
        self._queue.append(decision)

    def find(self, nonce: bytes, decided_at_ms: int) -> dict[str, Any] | None:
        """Return the explanation of a decision; None where it is not kept.

        One that follows a stored draw holds the explanation of that draw under `draw_of`, where
        it is kept here.
        """
        self.flush()
        found = self._read(decided_at_ms, "nonce = ?", (nonce,))
        if found is None:
            return None
        body, unit = found
        follows = body["follows"]
        body["draw_of"] = None
        if follows is not None:
            where = "decided_at_ms = ? and unit = ? and draw is not null"
            first = self._read(follows["decided_at_ms"], where, (follows["decided_at_ms"], unit))
            body["draw_of"] = first[0] if first else None
        return body

    def flush(self) -> None:
        """Write what is queued."""
        with self._lock:
            waiting = [self._queue.popleft() for _ in range(len(self._queue))]
            if not waiting:
                return
            try:
                for day in sorted({_day(d.decided_at_ms) for d in waiting}):
                    self._write(day, [d for d in waiting if _day(d.decided_at_ms) == day])
                self.n_written += len(waiting)
                self._note(None)
            except (sqlite3.Error, OSError) as error:
                self.n_dropped += len(waiting)
                self._note(error)

    def prune(self) -> int:
        """Delete files that are too old, then the oldest of too many; return how many."""
        oldest = (datetime.now(UTC) - timedelta(days=self._days)).strftime("%Y-%m-%d")
        files = sorted(self._directory.glob(f"*{SUFFIX}"))
        sizes = {path: _size(path) for path in files}
        total, gone = sum(sizes.values()), []
        for path in files:
            old = path.stem < oldest
            # The last one is being written to: it stops at the limit by itself.
            if old or (total > self._max_bytes and path is not files[-1]):
                if not old:
                    log.warning("too many decisions are kept: the oldest go", day=path.stem)
                total -= sizes[path]
                gone.append(path)
        for path in gone:
            for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
                path.with_name(name).unlink(missing_ok=True)
        return len(gone)

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            self.flush()
            if time.monotonic() - self._pruned_at >= PRUNE_EVERY_S:
                self._pruned_at = time.monotonic()
                with suppress(OSError):
                    self.prune()
        self.flush()

    def _write(self, day: str, decisions: list[Decision]) -> None:
        path = self._directory / f"{day}{SUFFIX}"
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if _size(path) >= self._max_bytes:
            raise OSError("server.explain_max_bytes is reached by this day alone")
        parts: dict[bytes, bytes] = {}
        rows = [self._row(decision, parts) for decision in decisions]
        try:
            _insert(path, rows, parts)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise  # locked, full, or not ours to write: the file itself may be sound
            _put_aside(path)
            _insert(path, rows, parts)

    def _row(self, decision: Decision, parts: dict[bytes, bytes]) -> tuple[Any, ...]:
        draw = self._draw(decision)
        excluded = explanation.of_exclusions(decision)
        exclusions = explanation.packed(excluded) if excluded else None
        for part in (draw, exclusions):
            if part is not None and part[0] not in parts:
                parts[part[0]] = zlib.compress(part[1])
        return (
            decision.nonce,
            decision.decided_at_ms,
            (decision.frame.unit.key or decision.nonce)[:8],
            explanation.text_of(explanation.of_decision(decision)),
            draw[0] if draw else None,
            exclusions[0] if exclusions else None,
        )

    def _draw(self, decision: Decision) -> explanation.Part | None:
        """Return the part of the draw; worked out once for all calls that share it."""
        if not decision.plan.drawn_now:
            return None
        if self._beliefs is not decision.frame.beliefs:
            self._beliefs = decision.frame.beliefs
            self._draws.clear()
        key = explanation.draw_key(decision)
        if key not in self._draws:
            found = explanation.of_draw(decision)
            self._draws[key] = explanation.packed(found) if found is not None else None
        return self._draws[key]

    def _read(
        self, decided_at_ms: int, where: str, values: tuple[Any, ...]
    ) -> tuple[dict[str, Any], bytes] | None:
        path = self._directory / f"{_day(decided_at_ms)}{SUFFIX}"
        if not path.exists():
            return None
        try:
            with closing(sqlite3.connect(path, timeout=BUSY_S)) as database:
                # `where` is one of two texts above; values are bound.
                select = f"select body, unit, draw, exclusions from decision where {where}"  # noqa: S608
                row = database.execute(select, values).fetchone()
                if row is None:
                    return None
                body = json.loads(row[0])
                for name, digest in (("draw", row[2]), ("exclusions", row[3])):
                    body[name] = _part(database, digest)
                return body, row[1]
        except (sqlite3.Error, ValueError, zlib.error) as error:
            self._note(error)
            return None

    def _note(self, error: Exception | None) -> None:
        """Say once that decisions are not kept, and once that they are again."""
        if error is not None and self._ok:
            log.error("decisions cannot be kept", error=type(error).__name__, detail=str(error))
        elif error is None and not self._ok:
            log.info("decisions are kept again")
        self._ok = error is None


def _insert(path: Path, rows: list[tuple[Any, ...]], parts: dict[bytes, bytes]) -> None:
    with closing(_connect(path)) as database, database:
        database.executemany("insert or ignore into part values (?, ?)", parts.items())
        database.executemany("insert or ignore into decision values (?, ?, ?, ?, ?, ?)", rows)


def _put_aside(path: Path) -> None:
    """Make way for a new file where one is no database any more."""
    log.error("a file of decisions is damaged and put aside", file=path.name)
    path.replace(path.with_name(f"{path.name}.damaged"))
    for left in ("-wal", "-shm"):
        path.with_name(path.name + left).unlink(missing_ok=True)


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=BUSY_S)
    try:
        database.execute("pragma journal_mode = wal")
        database.execute("pragma synchronous = normal")  # a killed process loses nothing by it
        database.executescript(_TABLES)
    except sqlite3.Error:
        database.close()
        raise
    return database


def _part(database: sqlite3.Connection, digest: bytes | None) -> Any:
    if digest is None:
        return None
    row = database.execute("select body from part where digest = ?", (digest,)).fetchone()
    return json.loads(zlib.decompress(row[0])) if row else None


def _day(at_ms: int) -> str:
    return _date(at_ms // DAY_MS)


@lru_cache(maxsize=64)
def _date(day: int) -> str:
    return datetime.fromtimestamp(day * DAY_MS / 1000, UTC).strftime("%Y-%m-%d")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
