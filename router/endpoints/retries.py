"""How many attempts beyond the first the process may make: a fifth of the calls, and three.

When everything is down, attempts must not multiply; while little fails, nobody notices the bound.

Ref: Finagle's retry budget; Envoy's `retry_budget` (20 %, at least 3).
"""

from __future__ import annotations

SHARE = 0.2
FLOOR = 3.0
MOST = 100.0
"""What quiet times leave: some hundred calls may be repeated at once when a provider hiccups."""


class RetryBudget:
    """A count of attempts that may still be made; one for the process."""

    __slots__ = ("_left", "_share")

    def __init__(self) -> None:
        self._left, self._share = FLOOR, SHARE

    def earn(self) -> None:
        """Note that a call came."""
        left = self._left + self._share
        self._left = left if left < MOST else MOST

    def end(self) -> None:
        """Allow none any more: whoever calls counts each attempt."""
        self._left, self._share = 0.0, 0.0

    def spend(self) -> bool:
        """Take one attempt; return whether there was one."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
