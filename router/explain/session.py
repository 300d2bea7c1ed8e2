"""The decisions of a session or episode, in order, each with the way in which it came about.

They are found by a digest of the session's id that is kept beside every decision: batches without
it are passed over unread, and of what a decision shares with others only its frame is read.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from router.decision.ways import DecisionWay, way_in_the_end
from router.explain.kept import SHORT_CHARACTERS, KeptBatch, KeptIn
from router.explain.rows import DecisionRow
from router.explain.sentence import why_another

MOST_LISTED = 1000
"""Decisions that are listed, the newest: of the others only the ways are counted."""
MOST_COUNTED = 50_000
"""Decisions and answers that one place is read for: an id may be a constant that all calls have."""
MOST_S = 4.0
"""Of looking through one place: there may be a gigabyte of files, and somebody waits."""
Key = tuple[bytes, int]
"""Of a decision: the beginning of its nonce, and when it was made."""


class _Kept(NamedTuple):
    row: DecisionRow
    frame: dict[str, Any]
    batch: KeptBatch


class SessionDecisions:
    """What is kept of one session, gathered from one place after another."""

    def __init__(self, apps: Mapping[bytes, str]) -> None:
        """Make it empty.

        Args:
            apps: by what is kept of the session's digest in an app, that app.
        """
        self._apps = apps
        self._found: dict[Key, _Kept] = {}
        self._answered: dict[Key, str] = {}
        self._damaged: set[Key] = set()
        self._parts: dict[bytes, Any] = {}

    def read(self, place: KeptIn) -> str:
        """Take what a place has; return its name, or nothing where that was not all looked at.

        Raises:
            redis.RedisError, sqlite3.Error, OSError, ValueError: not all of it can be read.
        """
        n, until = 0, time.monotonic() + MOST_S
        for group in place.holding(list(self._apps)):
            n += sum(self._take(batch) for batch in group)
            if n >= MOST_COUNTED or time.monotonic() >= until:
                return ""
        return place.name

    def __len__(self) -> int:
        """Return how many decisions there are."""
        return len(self._found)

    def told(self) -> dict[str, Any]:
        """Return the decisions in order, the newest that are listed, and how often each way is.

        What is missing of them is said beside them.
        """
        ordered = sorted(self._found.items(), key=_order)
        ways = Counter(self._way(key, kept) for key, kept in ordered)
        listed = ordered[-MOST_LISTED:]
        draws = {kept.row.decided_at_ms for _, kept in ordered}
        followed = {kept.row.follows_ms for _, kept in ordered if kept.row.follows_ms}
        return {
            "n": len(ordered),
            "counts": {way.value: ways[way.value] for way in DecisionWay},
            "missing": {
                "draws": len(followed - draws),
                "not_listed": len(ordered) - len(listed),
                "damaged": len(self._damaged - self._found.keys()),
            },
            "decisions": [self._listed(key, kept) for key, kept in listed],
        }

    def _take(self, batch: KeptBatch) -> int:
        """Take the rows of a batch that are of the session; return how many they are."""
        rows = batch.of_sessions(list(self._apps))
        for row in rows:
            key = row.nonce, row.decided_at_ms
            try:
                frame = self._part(batch, row.frame)
            except ValueError:
                self._damaged.add(key)  # another place may have it whole
                continue
            if row.is_answer:
                self._answered[key] = frame["answered_by"]
            elif frame["app"] == self._apps[row.session]:  # digests may be alike, once in ages
                self._found.setdefault(key, _Kept(row, frame, batch))
        return len(rows)

    def _part(self, batch: KeptBatch, digest: bytes) -> Any:
        if digest not in self._parts:
            self._parts[digest] = batch.part(digest)
        return self._parts[digest]

    def _way(self, key: Key, kept: _Kept) -> str:
        frame = kept.frame
        answered = self._answered.get(key)
        return way_in_the_end(frame["way"], drawn=frame["drawn"], answered_by=answered)

    def _listed(self, key: Key, kept: _Kept) -> dict[str, Any]:
        row, frame, _ = kept
        return {
            "id": row.nonce.hex()[:SHORT_CHARACTERS],
            "decided_at_ms": row.decided_at_ms,
            **{name: frame[name] for name in ("app", "role", "task", "strategy", "drawn")},
            "answered_by": self._answered.get(key, frame["drawn"]),
            "propensity": row.propensity,
            "way": self._way(key, kept),
            "decided": frame["way"],
            "why": self._why(key, kept),
        }

    def _why(self, key: Key, kept: _Kept) -> str | None:
        """Return why another than whose turn it was serves; None where that is not so."""
        if self._way(key, kept) not in (DecisionWay.FAILOVER, DecisionWay.STAND_IN):
            return None
        frame, excluded = kept.frame, None
        try:
            if digest := frame["parts"].get("exclusions"):
                excluded = self._part(kept.batch, bytes.fromhex(digest))
        except ValueError:
            return None
        return why_another(
            drawn=frame["drawn"],
            answered_by=self._answered.get(key, frame["drawn"]),
            excluded=(excluded or {}).get(frame["drawn"]),
            stands_in_for=frame["stands_in_for"],
        )


def _order(item: tuple[Key, _Kept]) -> tuple[int, bool, bytes]:
    """Return what decisions are ordered by; of one millisecond a draw is before who follows it."""
    row = item[1].row
    return row.decided_at_ms, row.follows_ms > 0, row.nonce
