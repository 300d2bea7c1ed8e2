"""Accounts of what providers take a minute: as those of budgets, and nothing to be kept.

What they count is in no record: it is worth nothing once its minute is over.
"""

from __future__ import annotations

from telemetry import keys
from telemetry.budget_accounts import BudgetPeriod

KEPT_MS = 10 * 60 * 1000
"""After the last word on one: calls that began in its minute settle there."""


class RatePeriod(BudgetPeriod):
    """Whose limit, and of which minute."""

    __slots__ = ()

    @property
    def keys(self) -> tuple[str, str]:
        """The two keys of its account; they lie in one slot."""
        return keys.rate(self.digest, self.start_s)

    @property
    def keep_ms(self) -> int:
        """How long the account stays in the store when nobody speaks of it any more."""
        return KEPT_MS
