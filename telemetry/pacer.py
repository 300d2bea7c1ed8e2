"""How long a background loop rests: by what its rounds cost, and never longer than is fresh.

A loop that polls at a fixed rate pays for a freshness that nobody needs at ten calls a second. So a
loop sleeps on an event where there is one; after a round in which something came it rests so long
that what its rounds cost *whatever came* stays within a small share of a core. Work itself is never
rationed, and a full round is followed by the next at once.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SHARE = 0.02
"""Of a core, that the fixed cost of a loop's rounds may take."""
BUSY_EVENTS_PER_S, BUSIEST = 1000.0, 10.0
BUSY = 3.0
"""Above that rate rests are shorter, from BUSIEST times as much on by so much: there each round is
worth its fixed cost."""
RATE_S = 0.5
"""Seconds over which the rate of events is averaged."""
RISE = 0.02
"""By how much of the difference the fixed cost is believed to have risen, a round. It falls at
once: the cheapest of the last fifty rounds or so had next to nothing to do but its fixed part."""
POOLED = re.compile(r"[-_]\d+( \(.*\))?$")
"""What tells threads of one pool apart, or those that nobody named."""


@dataclass(slots=True)
class Pacer:
    """Paces one loop; not for several threads."""

    most_s: float  # the longest rest that freshness allows below BUSY_EVENTS_PER_S
    share: float = SHARE  # of a core, less where a round costs others as well
    busy: float = BUSY
    clock: Callable[[], float] = time.monotonic
    cpu: Callable[[], float] = time.thread_time  # to wait for the store is no work
    fixed_s: float = math.inf  # CPU seconds of a round, whatever came
    rate: float = 0.0  # events a second
    _cpu_at: float = 0.0
    _ended_at: float = -math.inf

    def begin(self) -> None:
        """Note that a round begins."""
        self._cpu_at = self.cpu()

    def rest_s(self, n_events: int, *, is_full: bool = False) -> float:
        """Return how long to rest after a round that something came in.

        Args:
            n_events: what came, by which the rate is told.
            is_full: there is more than one round takes.
        """
        cost_s = self.cpu() - self._cpu_at
        if cost_s < self.fixed_s:  # also in the first round
            self.fixed_s = cost_s
        else:
            self.fixed_s += RISE * (cost_s - self.fixed_s)
        now = self.clock()
        passed_s = max(now - self._ended_at, 1e-6)
        self._ended_at = now
        weight = -math.expm1(-passed_s / RATE_S)
        self.rate += weight * (n_events / passed_s - self.rate)
        if is_full:
            return 0.0
        return min(self.fixed_s / self.share, self._most_s())

    def _most_s(self) -> float:
        """Return the longest rest at the rate of now; it falls evenly while that grows tenfold."""
        if self.rate <= BUSY_EVENTS_PER_S:
            return self.most_s
        how_busy = min(math.log(self.rate / BUSY_EVENTS_PER_S, BUSIEST), 1.0)
        return float(self.most_s / self.busy**how_busy)


class Bell:
    """Wakes a loop that sleeps."""

    __slots__ = ("_event", "_rung")

    def __init__(self) -> None:
        self._event = threading.Event()
        self._rung = False  # whoever finds it so relies on the one who set it to set the event

    def ring(self) -> None:
        """Wake the loop; where it was rung already this costs next to nothing."""
        if not self._rung:
            self._rung = True
            self._event.set()

    def reset(self) -> None:
        """Listen anew; whatever came before must be looked for after this."""
        self._event.clear()
        self._rung = False  # after it: a ring between the two is one of before

    def wait(self, at_most_s: float) -> bool:
        """Sleep until it rings; return whether it did."""
        return self._event.wait(at_most_s)


def cpu_seconds_by_loop() -> dict[str, float]:
    """Return the CPU seconds that each thread of this process took so far, by its name.

    The kernel counts them, so that no loop spends anything on it: whatever a thread does is in it,
    its start as well. Threads of one pool count together, under its name. Where the kernel does not
    say, as outside of Linux, there are none.
    """
    found: dict[str, float] = {}
    for thread in threading.enumerate():
        try:
            told = Path(f"/proc/self/task/{thread.native_id}/schedstat").read_bytes()
            seconds = int(told.split()[0]) / 1e9
        except (OSError, ValueError, IndexError):
            continue  # it has ended, or nobody counts
        name = POOLED.sub("", thread.name)
        found[name] = found.get(name, 0.0) + seconds
    return found
