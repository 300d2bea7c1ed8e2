"""Which jobs have anything to do: asked of the store in a few commands, before one is started.

A job takes a process of its own, and a second of a core before it begins; so where nothing happens
none is run. What is asked here may say yes too often, and the job itself sees that nothing is due;
then it is not asked for again before something changed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from telemetry import keys, trials
from telemetry.damaged import DAMAGED, object_of
from telemetry.saving_state import STATE_FIELD
from telemetry.trials import TrialState
from workers.archive.archive import Archive
from workers.archive.trail import Trail
from workers.jobs import recent

OFTEN_S = 5.0
MINUTE_S = 60.0
HOUR_S = 3600.0
DAY_S = 86_400.0
EVERY_S = {
    "take": OFTEN_S,
    "thaw": OFTEN_S,
    "bury": 2 * OFTEN_S,
    "episodes": MINUTE_S,
    "compare": MINUTE_S,
    "tally": 2 * MINUTE_S,
    "prune": HOUR_S,
    "index": HOUR_S,
    "rank": HOUR_S,
    "check": DAY_S,
    "calibrate": DAY_S,
    "measure": DAY_S,
}
"""How often each job is due, at most."""
AGAIN_S = 600.0
"""What did not change is looked at so much later all the same: some of it changes with time."""


@dataclass(slots=True)
class Questions:
    """What there was to do for each job when it was last run, and what there is now."""

    archive: Archive
    trail: Trail
    keeps: bool  # an archive at all
    every_s: float  # a file at least
    clock: Callable[[], float] = time.monotonic
    _known: dict[str, tuple[object, float]] = field(default_factory=dict)

    def ask(self, name: str, *, now_ms: int) -> bool:
        """Return whether a job has anything to do that it did not see before.

        Args:
            now_ms: on the store's clock.

        Raises:
            redis.RedisError: the store is away.
        """
        asked: dict[str, Callable[[int], object]] = {
            "take": self._to_take,
            "thaw": self._to_thaw,
            "episodes": lambda now_ms: self._of(self._left(keys.EPISODES), now_ms),
            "tally": lambda now_ms: self._of(self._left(keys.SAVINGS, STATE_FIELD), now_ms),
            "compare": self._to_compare,
        }
        if name not in asked:
            return True
        try:
            found = asked[name](now_ms)
        except DAMAGED as error:  # the job says what is wrong with it
            found = type(error).__name__
        if found is None:
            self._known.pop(name, None)
            return False
        seen, at = self._known.get(name, (None, -math.inf))
        if found == seen and self.clock() - at < AGAIN_S:
            return False
        self._known[name] = found, self.clock()
        return True

    def forget(self) -> None:
        """Forget what was seen: it may not have been done."""
        self._known.clear()

    def _to_take(self, now_ms: int) -> object:
        """Return the shards of which a file is due; while it cannot be written, each minute."""
        shards = list(range(self.archive.n_shards))
        if self.keeps:
            limits = self.archive.limits(self.every_s) if self.archive.holds() else None
            shards = [
                shard
                for shard in shards
                if limits and self.archive.is_due(shard, now_ms=now_ms, limits=limits)
            ]
        else:
            marks = [self._hashed(keys.meta(shard), "mark", "archived") for shard in shards]
            shards = [shard for shard, (mark, done) in enumerate(marks) if mark and mark != done]
        trail = self.trail.is_due(now_ms=now_ms, every_s=self.every_s) and self.trail.holds()
        return (shards, trail, now_ms // 60_000) if shards or trail else None

    def _to_thaw(self, now_ms: int) -> object:
        """Return what is said of old decisions, and how far that of the others is archived."""
        shards, pipeline = range(self.archive.n_shards), self.archive.client.pipeline(False)
        for shard in shards:
            pipeline.hlen(keys.cold(shard))
            pipeline.hlen(keys.sought(shard))
        if not any(found := pipeline.execute()):
            return None
        return found, [self._hashed(keys.meta(shard), "mark", "archived") for shard in shards]

    def _to_compare(self, now_ms: int) -> object:
        """Return what trials there are and what came; those whose time is up end in any case."""
        version = trials.look(self.archive.client)
        running = trials.read_trials(self.archive.client).values() if version else ()
        over = [t.id for t in running if t.state is TrialState.RUNNING and t.ends_ms <= now_ms]
        if over:
            return version, over, now_ms // 60_000
        raw = self._left(keys.COMPARED, STATE_FIELD)
        is_other = object_of(raw).get("version", "") != (version or b"").decode(errors="replace")
        marks = self._of(None if is_other else raw, now_ms)
        return None if marks is None else (version, marks)

    def _of(self, left: bytes | None, now_ms: int) -> object:
        """Return up to where records came, where figures are due that were left in the store."""
        if not self.keeps:
            return None
        marks = recent.marks(self.archive)
        return marks if recent.is_due(left, marks, now_ms=now_ms) else None

    def _left(self, key: str, field: str | None = None) -> bytes | None:
        client = self.archive.client
        found: bytes | None = client.hget(key, field) if field else client.get(key)
        return found

    def _hashed(self, key: str, *fields: str) -> list[bytes | None]:
        found: list[bytes | None] = self.archive.client.hmget(key, list(fields))
        return found
