"""Up to when everything that was decided and written is folded, by all producers and shards.

A reference means what had been decided by some time. That is known once every producer that lately
wrote has passed the time, and once every shard is folded up to where its stream then ended.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from telemetry import keys
from telemetry.passed import Progress, is_passed, words
from telemetry.store import Client
from workers.folding.batch import START, position

AT_ONCE = 4
"""Looks that wait for shards to be folded; where folding is behind, further ones would only wait
behind these."""


@dataclass(frozen=True, slots=True)
class Horizon:
    """How far the producers were at some time, and where the streams ended just then."""

    seen_ms: int
    words: list[Progress]
    tails: list[bytes]  # by shard

    def is_reached(self, marks: list[bytes]) -> bool:
        """Return whether everything up to the tails is folded."""
        pairs = zip(marks, self.tails, strict=True)
        return all(position(mark) >= position(tail) for mark, tail in pairs)


@dataclass(slots=True)
class Settling:
    """How far everything is settled, as one worker saw it."""

    n_shards: int
    _reached: Horizon | None = None  # the latest whose entries are all folded
    _waiting: deque[Horizon] = field(default_factory=deque)

    def look(self, client: Client, now_ms: int) -> None:
        """Find out how far everything is.

        Args:
            now_ms: on the store's clock.
        Raises:
            redis.RedisError: the store is away.
        """
        if len(self._waiting) < AT_ONCE:
            found = words(client)  # before the tails: what they sent by then is in these
            self._waiting.append(Horizon(now_ms, found, self._tails(client)))
        marks = self._marks(client)
        while self._waiting and self._waiting[0].is_reached(marks):
            self._reached = self._waiting.popleft()

    def is_settled(self, at_ms: int) -> bool:
        """Return whether what was decided by a time, and written, is folded."""
        reached = self._reached
        return reached is not None and reached.seen_ms >= at_ms and is_passed(reached.words, at_ms)

    def begin_anew(self) -> None:
        """Forget what was seen: the store may be another one."""
        self._reached = None
        self._waiting.clear()

    def _tails(self, client: Client) -> list[bytes]:
        """Return the last entry of each stream; asked after the producers, so what they sent is in
        it.
        """
        pipeline = client.pipeline(transaction=False)
        for shard in range(self.n_shards):
            pipeline.xrevrange(keys.stream(shard), count=1)
        return [found[0][0] if found else START for found in pipeline.execute()]

    def _marks(self, client: Client) -> list[bytes]:
        pipeline = client.pipeline(transaction=False)
        for shard in range(self.n_shards):
            pipeline.hget(keys.meta(shard), "mark")
        return [mark or START for mark in pipeline.execute()]
