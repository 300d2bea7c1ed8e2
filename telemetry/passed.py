"""How far every producer is that decides calls: by when all that it recorded is in the streams.

Times are on the store's clock. Whoever has to know what had been decided by some time waits until
every one that lately wrote has passed it. A process that only reads labels off calls says nothing.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from telemetry import keys
from telemetry.clock import StoreClock
from telemetry.store import Client

COUNTS_MS = 10_000
"""Who wrote nothing for so long before a time is not waited for: it was idle, or gone."""
ASKED_MS = COUNTS_MS + 30_000
"""So long after its last frame anybody may wait for its word: for 30 s at most (`held.MOST_S`)."""
FORGOTTEN_MS = 3_600_000
WORD_S = 1.0
"""After the last frame an idle writer says once how far it is: soon enough for who waits for it,
seldom enough to cost nothing."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The word of one producer."""

    passed_ms: int  # everything recorded by then is in the streams
    wrote_ms: int  # when it last sent a frame

    def pack(self) -> bytes:
        """Return the value to store."""
        return b"%d:%d" % (self.passed_ms, self.wrote_ms)

    @classmethod
    def parse(cls, value: bytes) -> Progress:
        """Return the word in a stored value; of one that cannot be read, that of nobody."""
        passed_ms, _, wrote_ms = value.partition(b":")
        try:
            return cls(int(passed_ms), int(wrote_ms))
        except ValueError:
            return cls(0, 0)


@dataclass(slots=True)
class ProgressTeller:
    """What a producer says of how far it is."""

    producer: bytes
    clock: StoreClock
    due_at: float = math.inf  # when, in monotonic seconds, an idle writer says it once more
    _said: Progress = field(default_factory=lambda: Progress(0, 0))

    def add(self, pipeline: Client, passed_ms: int) -> None:
        """Have it said together with frames.

        Args:
            passed_ms: 0 where there is more to send: then it is as far as it was.
        """
        now_ms = self.clock.now_ms()
        self._said = Progress(passed_ms or min(self._said.passed_ms, now_ms), now_ms)
        self.due_at = time.monotonic() + WORD_S
        pipeline.hset(keys.PASSED, self.producer, self._said.pack())

    def give(self, client: Client, at_ms: int, *, is_look: bool, is_last: bool) -> None:
        """Say that everything up to `at_ms` is sent, if that is due and anybody may wait for it.

        Args:
            is_look: at a look that is made anyway.
            is_last: nothing will come any more, so that nobody need wait.
        """
        if not self._said.wrote_ms:
            return
        if is_last:
            client.hdel(keys.PASSED, self.producer)
            return
        is_asked_for = at_ms - self._said.wrote_ms <= ASKED_MS
        if time.monotonic() >= self.due_at or (is_look and is_asked_for):
            said = Progress(at_ms, self._said.wrote_ms)
            client.hset(keys.PASSED, self.producer, said.pack())
            self._said, self.due_at = said, math.inf


def words(client: Client) -> list[Progress]:
    """Return the words of all producers.

    Raises:
        redis.RedisError: the store is away.
    """
    return [Progress.parse(value) for value in client.hvals(keys.PASSED)]


def is_passed(words: list[Progress], at_ms: int) -> bool:
    """Return whether every producer that counts at a time sent what it had recorded by then."""
    return all(word.passed_ms >= at_ms or word.wrote_ms < at_ms - COUNTS_MS for word in words)


def forget_silent(client: Client, now_ms: int) -> None:
    """Drop the words of producers that are silent for an hour."""
    known = client.hgetall(keys.PASSED)
    old = [name for name, value in known.items() if _is_silent(Progress.parse(value), now_ms)]
    if old:
        client.hdel(keys.PASSED, *old)


def _is_silent(word: Progress, now_ms: int) -> bool:
    return now_ms - max(word.passed_ms, word.wrote_ms) > FORGOTTEN_MS
