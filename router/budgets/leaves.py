"""Leave to make one attempt: what it reserved in budgets, and took of its provider's limits."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from router.budgets.allowances import Grant
from router.budgets.bounds import Bound
from router.budgets.claims import Claims
from router.budgets.rate_allowances import RateGrant


class BegunSpend(Struct, frozen=True):
    """What the journal has of an attempt before it is sent."""

    token: bytes  # packed, of its decision: what follows it lies in the same shard
    amounts: Sequence[int]  # of each claim


class Leave(Struct):
    """Settled, or given back, once; a second time changes nothing."""

    budgets: Grant | None = None  # that hold for its call
    rates: RateGrant | None = None
    bounds: Sequence[Bound | None] = ()  # of each claim; None: it goes by estimates
    begun: BegunSpend | None = None

    @property
    def claims(self) -> Claims:
        """The accounts of budgets that it reserved in."""
        return () if self.budgets is None else self.budgets.claims

    @property
    def is_settled(self) -> bool:
        """Whether nothing of it is open."""
        return all(own is None or own.is_settled for own in (self.budgets, self.rates))


def is_bounded(leave: Leave | None) -> bool:
    """Return whether some account is never exceeded: so what it was reserved for goes out once."""
    return leave is not None and any(bound is not None for bound in leave.bounds)
