"""How calls at once share the time of a machine that is paid by the hour. Pure.

While n calls are under way each has an nth of every moment, so the shares of all of them add up to
the time in which the machine was busy. Only calls of this process are known.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class _Machine:
    n: int = 0  # calls under way
    share_s: float = 0.0  # what a call would have had that was there all along
    since: float = 0.0

    def move(self, now: float) -> float:
        if self.n:
            self.share_s += (now - self.since) / self.n
        self.since = now
        return self.share_s


class MachineTime:
    """Of all machines, by the endpoint's digest; times are monotonic seconds."""

    def __init__(self) -> None:
        self._machines: dict[int, _Machine] = {}

    def begin(self, digest: int, now: float) -> float:
        """Note that a call starts; return what `end` wants to know."""
        machine = self._machines.setdefault(digest, _Machine())
        begun_at = machine.move(now)
        machine.n += 1
        return begun_at

    def end(self, digest: int, now: float, begun_at: float) -> float:
        """Note that a call has ended; return how many seconds of the machine it had."""
        machine = self._machines[digest]
        share_s = machine.move(now) - begun_at
        machine.n -= 1
        return share_s
