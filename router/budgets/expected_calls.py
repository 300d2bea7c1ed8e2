"""How many calls are still to come in a period: by its own rate, and by how the last one went.

A day has its hours: what the last period had left at this point, times how much more or less this
one had up to here, is a better guess than any rate while the period is young. The older it is, the
more its own rate counts. Pure.
"""

from __future__ import annotations

from msgspec import Struct

PARTS = 24
"""Of a period, for which calls are counted apart."""
PRIOR_CALLS = 20.0
"""Calls by which two periods are taken to be alike before either says otherwise. UNVALIDATED."""
LEAST_CALLS, LEAST_S = 5, 2.0
"""Before which a period's own rate is not gone by."""


class CallCurve(Struct):
    """Calls of one period up to the end of each of its parts, as far as it has come."""

    start_s: int
    length_s: int
    n: list[int]

    def note(self, n_calls: int, at_s: float) -> None:
        """Take how many there are by now."""
        part = min(int(self._parts_at(at_s)), PARTS - 1)
        while len(self.n) <= part:
            self.n.append(self.n[-1] if self.n else 0)
        self.n[part] = max(n_calls, self.n[part])

    @property
    def total(self) -> int:
        """Calls of the whole period."""
        return self.n[-1] if self.n else 0

    def by(self, passed: float) -> float:
        """Return how many there were once a part of the period had passed, from 0 to 1."""
        at = min(max(passed, 0.0), 1.0) * PARTS
        part = min(int(at), PARTS - 1)
        before, after = self._upto(part - 1), self._upto(part)
        return before + (after - before) * (at - part)

    def _upto(self, part: int) -> int:
        if part < 0 or not self.n:
            return 0
        return self.n[min(part, len(self.n) - 1)]

    def _parts_at(self, at_s: float) -> float:
        return max(at_s - self.start_s, 0.0) / self.length_s * PARTS


class CallsSince(Struct):
    """Since when an account's calls are counted: the first in a period, as far as is known."""

    at_s: float
    n: int  # by then


def calls_to_come(
    now: CallCurve, last: CallCurve | None, since: CallsSince, *, at_s: float
) -> float | None:
    """Return how many calls are expected until the period ends; None while nothing is known.

    Args:
        last: how the period before went, where that is known.
    """
    left_s = max(now.start_s + now.length_s - at_s, 0.0)
    passed = 1 - left_s / now.length_s
    n, for_s = now.total - since.n, at_s - since.at_s
    own = n / for_s * left_s if n >= LEAST_CALLS and for_s >= LEAST_S else None
    if last is None or not last.total:
        return own
    before = last.by(passed)
    alike = (last.total - before) * (now.total + PRIOR_CALLS) / (before + PRIOR_CALLS)
    return alike if own is None else (1 - passed) * alike + passed * own
