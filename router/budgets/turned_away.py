"""Calls that are turned away for a budget: counted, and kept until the watch has looked at them."""

from __future__ import annotations

from collections import Counter

from msgspec import Struct

from router.budgets.claims import BudgetClaim
from telemetry.budget_accounts import BudgetPeriod

NEARLY = 80
"""Percent of a limit from which on any call that does not fit says that it is used up."""


class TurnedAway(Struct, frozen=True):
    """What an account refused, under the limit of its claim."""

    claim: BudgetClaim
    amount: int
    granted: int  # the most that a call had reserved there before

    def over(self, other: TurnedAway | None) -> TurnedAway:
        """Return which of two says more: the larger of usual amounts, the lesser of larger ones."""
        if other is None or other.claim.limit != self.claim.limit:
            return self
        return max(self, other, key=lambda one: one._rank)

    @property
    def _rank(self) -> tuple[bool, int]:
        is_usual = self.amount <= self.granted
        return is_usual, self.amount if is_usual else -self.amount

    def is_used_up(self, spent: int, limit: int) -> bool:
        """Return whether an account refuses what it is there for, by what is spent of it.

        A call that is larger than any before tells nothing, unless little is left. What is only
        held for others comes back.
        """
        if limit != self.claim.limit or self.amount <= limit - spent:
            return False
        return self.amount <= self.granted or 100 * spent >= NEARLY * limit


class Turnings:
    """Those of one process."""

    def __init__(self, counted: Counter[tuple[str, str]]) -> None:
        """Begin without any.

        Args:
            counted: by budget and code, how many calls were turned away.
        """
        self._counted = counted
        self._fresh: dict[BudgetPeriod, TurnedAway] = {}

    def count(self, budget: str, code: str) -> None:
        """Count one."""
        self._counted[budget, code] += 1

    def note(self, claim: BudgetClaim, amount: int, granted: int) -> None:
        """Take note of what did not fit into an account."""
        known = self._fresh.get(claim.account)
        self._fresh[claim.account] = TurnedAway(claim, amount, granted).over(known)

    def take(self) -> list[TurnedAway]:
        """Return what was noted since this was called last."""
        found, self._fresh = list(self._fresh.values()), {}
        return found
