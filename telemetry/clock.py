"""The store's clock: what processes on several machines go by to say what came first.

Each process knows how far its own clock is from it. The difference is measured by asking the store
for the time: the answer lies between sending and receiving, so the quickest answer of the last few
says most, and is off by half of its delay at most.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import redis

from telemetry import keys
from telemetry.store import Client

KEPT = 8
"""Answers: those of 40 seconds. Over that time clocks drift apart by a few milliseconds."""
DRIFT_MS = 5.0
"""What two answers may differ by beyond their delays; more, and one of the clocks was set."""
_TIME = "return redis.call('TIME')"


def _passed_s() -> float:
    """Return seconds since some moment, sleep of the machine included where that is known."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


_BEGAN_S = time.time() - _passed_s()


def steady() -> float:
    """Return epoch seconds by the clock as it stood when this process began: nobody sets it."""
    return _BEGAN_S + _passed_s()


@dataclass(slots=True)
class StoreClock:
    """The store's time, as one process knows it: its own until the store was heard."""

    own: Callable[[], float] = steady  # epoch seconds
    offset_ms: float = 0.0  # to add to one's own
    _heard: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=KEPT))

    def now_ms(self) -> int:
        """Return the store's time, in epoch milliseconds."""
        return int(self.own() * 1000 + self.offset_ms)

    def ask(self, client: Client) -> None:
        """Ask the store for the time. One that does not let us ask leaves what is known.

        By a key, so that on a cluster all processes go by the same node's clock.

        Raises:
            redis.RedisError, OSError: the store is away.
        """
        with suppress(redis.ResponseError):
            sent_ms = self.own() * 1000
            seconds, micros = client.eval(_TIME, 1, keys.PROBE)
            heard_ms = self.own() * 1000
            there_ms = int(seconds) * 1000 + int(micros) / 1000
            self.hear(there_ms - (sent_ms + heard_ms) / 2, delay_ms=heard_ms - sent_ms)

    def hear(self, offset_ms: float, *, delay_ms: float) -> None:
        """Take one measurement over: the quickest of the last few holds."""
        for delay, offset in self._heard:
            if abs(offset - offset_ms) > (delay + delay_ms) / 2 + DRIFT_MS:
                self._heard.clear()
                break
        self._heard.append((delay_ms, offset_ms))
        self.offset_ms = min(self._heard)[1]


def store_now_ms(client: Client) -> int:
    """Return the store's time, in epoch milliseconds, for one who needs it once.

    Raises:
        redis.RedisError, OSError: the store is away.
    """
    clock = StoreClock()
    clock.ask(client)
    return clock.now_ms()
