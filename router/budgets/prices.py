"""What money costs calls now, by the accounts that they count in; no I/O.

Held for one process and written by one task of its loop; a call asks for the sum over its accounts
of money, each in successes a USD. An account has two prices beside one another, and each unit goes
by one of them throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from bandit.pacing import Price
from router.budgets.call_mix import CallKind, CallMix
from router.budgets.claims import BudgetClaim, Claims
from router.budgets.solving import SolvedPrice
from router.config.budgets import BudgetUnit
from telemetry.budget_accounts import BudgetPeriod

MAX_NOTED = 10_000
"""Accounts of which is known here which calls they have; the oldest makes room."""
NOBODY = frozenset[int]()


class MoneyPrices:
    """Prices by account, and which calls each account has."""

    def __init__(self) -> None:
        self.solved: Mapping[BudgetPeriod, SolvedPrice] = MappingProxyType({})
        self.kept: Mapping[int, Price] = MappingProxyType({})  # by digest, until one is solved
        self._mixes: dict[BudgetPeriod, CallMix] = {}

    def of(self, claims: Claims, luck: Callable[[], float]) -> float:
        """Return what money costs calls with these claims, in successes a USD; mostly 0.

        Args:
            luck: returns the unit's own number in [0, 1) for it; asked where it decides.
        """
        total = 0.0
        for claim in claims:
            price = self.price_of(claim)
            if price is not None and price.high:
                is_low = price.p_low >= 1 or (price.p_low > 0 and luck() < price.p_low)
                total += price.low if is_low else price.high
        return total

    def expected(self, claims: Claims) -> float:
        """Return the same on average over units."""
        prices = [price for claim in claims if (price := self.price_of(claim)) is not None]
        return sum(p.p_low * p.low + (1 - p.p_low) * p.high for p in prices)

    def price_of(self, claim: BudgetClaim) -> Price | None:
        """Return the price of an account: as solved, or as it was before this process began."""
        if claim.budget.unit is not BudgetUnit.MONEY:
            return None
        solved = self.solved.get(claim.account)
        return solved.price if solved is not None else self.kept.get(claim.account.digest)

    def barred(self, kind: CallKind) -> frozenset[int]:
        """Return the arms that what is left does not suffice for, near the end of a period."""
        found = NOBODY
        for claim in kind.claims:
            solved = self.solved.get(claim.account)
            if solved is not None and solved.barred:
                found |= solved.barred.get(kind.key, NOBODY)
        return found

    @property
    def any_barred(self) -> bool:
        """Whether anybody is, in any account."""
        return any(solved.barred for solved in self.solved.values())

    def note(self, kind: CallKind, at_s: float) -> None:
        """Take note of a call that is to be served."""
        for claim in kind.claims:
            if claim.budget.unit is not BudgetUnit.MONEY:
                continue
            mix = self._mixes.get(claim.account)
            if mix is None:
                if len(self._mixes) >= MAX_NOTED:
                    del self._mixes[next(iter(self._mixes))]
                mix = self._mixes[claim.account] = CallMix(claim.account.length_s)
            mix.note(kind, at_s)

    def mix_of(self, account: BudgetPeriod) -> list[tuple[float, CallKind]]:
        """Return the kinds of an account's calls with their shares; empty where none came here."""
        mix = self._mixes.get(account)
        return [] if mix is None else list(mix.shares())

    def drop(self, account: BudgetPeriod) -> None:
        """Forget the calls of an account whose period has ended."""
        self._mixes.pop(account, None)


def has_money(claims: Claims) -> bool:
    """Return whether any of a call's accounts is one of money."""
    return any(claim.budget.unit is BudgetUnit.MONEY for claim in claims)
