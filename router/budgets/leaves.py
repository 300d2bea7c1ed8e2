"""Leave to make one attempt: what it reserved in budgets, and took of its provider's limits."""

from __future__ import annotations

from msgspec import Struct

from router.budgets.allowances import Grant
from router.budgets.claims import Claims
from router.budgets.rate_allowances import RateGrant


class Leave(Struct, frozen=True):
    """Settled, or given back, once; a second time changes nothing."""

    budgets: Grant | None = None  # that hold for its call
    rates: RateGrant | None = None

    @property
    def claims(self) -> Claims:
        """The accounts of budgets that it reserved in."""
        return () if self.budgets is None else self.budgets.claims

    @property
    def is_settled(self) -> bool:
        """Whether nothing of it is open."""
        return all(own is None or own.is_settled for own in (self.budgets, self.rates))
