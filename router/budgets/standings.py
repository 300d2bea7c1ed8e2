"""How a budget stands, as one process knows it, and how that is told. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from router.budgets.claims import BudgetClaim
from router.config.budgets import NANO, BudgetUnit


class BudgetStanding(Struct, frozen=True):
    """One account; amounts in its unit's integers."""

    spent: int = 0  # by calls of this process
    held: int = 0  # reserved or free in this process
    untold: int = 0  # spent in this process beyond that, and not debited yet
    debited: int | None = None  # spent or held by all, as last heard; None: never heard here
    free: int | None = None  # for anybody, as last heard; below 0: the limit is exceeded
    n_words: int = 0  # said to the account by this process
    is_unknown: bool = False  # the store is away, or waits for what it forgot
    ready: int = 0  # of `held`, what is free in this process: a call may have it
    others: int = 0  # spent or held by everybody else, as last heard
    folded: int | None = None  # spent by all, as it was last looked at; None: not yet

    @property
    def spent_by_all(self) -> int:
        """What is spent or held by all, without what this process holds itself."""
        return max((self.debited or 0) + self.untold - self.held, self.spent)

    @property
    def known_spent(self) -> int:
        """What all have spent; what others hold counts as that, until it is looked at."""
        if self.folded is None:
            return self.others + self.spent
        return max(self.spent, self.folded)

    @property
    def known_held(self) -> int:
        """What is reserved for calls under way, or lies ready at others; spent, too, till told."""
        taken = self.others + self.spent + self.held - self.ready
        return max(taken - self.known_spent, 0)

    def left_of(self, limit: int) -> int:
        """Return what a call may come to here; never below 0."""
        return max(limit - self.known_spent - self.known_held, 0)


def told(claim: BudgetClaim, standing: BudgetStanding) -> dict[str, Any]:
    """Return what callers and people are told of a claim: money in USD.

    `left` is `limit` - `spent` - `held`, and never below 0.
    """
    return {
        "budget": claim.budget.name,
        "scope": {**claim.budget.scope, **dict(claim.values)},
        "note": claim.note,
        "per": claim.budget.span.value,
        "unit": claim.budget.unit.value,
        "limit": _amount(claim, claim.limit),
        "spent": _amount(claim, standing.known_spent),
        "held": _amount(claim, standing.known_held),
        "left": _amount(claim, standing.left_of(claim.limit)),
        "resets_at": resets_at(claim),
    }


def as_written(amount: int, unit: BudgetUnit) -> float | int:
    """Return an amount of a unit's integers as it is written: USD, tokens or calls."""
    return amount / NANO if unit is BudgetUnit.MONEY else amount


def resets_at(claim: BudgetClaim) -> str:
    """Return when a claim's account begins anew."""
    return datetime.fromtimestamp(claim.ends_s, UTC).isoformat().replace("+00:00", "Z")


def _amount(claim: BudgetClaim, amount: int) -> float | int:
    return as_written(amount, claim.budget.unit)
