"""What an attempt may come to at most in an account that is never exceeded. Pure.

Of an attempt that was sent, and of which nobody told what it used, that is what it comes to. Where
it is told how much was read, that much of it is known.
"""

from __future__ import annotations

import math

from msgspec import Struct

from router.budgets.amounts import MostTokens, most_nano
from router.endpoints.rates import PriceList


class Bound(Struct, frozen=True):
    """What was reserved for one attempt, and what it was worked out from."""

    amount: int
    tokens: MostTokens = MostTokens(0, 0)
    prices: PriceList | None = None  # None: tokens are counted
    at_s: float = 0.0  # of which the prices hold, in epoch seconds

    def having_read(self, tokens_in: int) -> int:
        """Return what it comes to at most, of a prompt that is known to have so many tokens."""
        if not self.amount:
            return 0
        tokens = MostTokens(tokens_in, self.tokens.tokens_out)
        most = tokens.tokens_in + tokens.tokens_out
        if self.prices is not None:
            most = most_nano(tokens, self.prices, at_s=self.at_s)
        return math.ceil(most) if math.isfinite(most) else self.amount


def amount_of(amount: int | Bound) -> int:
    """Return what is reserved."""
    return amount.amount if isinstance(amount, Bound) else amount


ONE_CALL = Bound(1)
"""Where calls are counted."""
