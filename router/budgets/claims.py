"""What a call has to be allowed by: the accounts of budgets that hold for it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from router.budgets.periods import period_of
from router.config.budgets import EACH, SCOPES, Budget
from telemetry.budget_accounts import BudgetPeriod
from telemetry.digests import digest8

NO_VALUE = ""
"""The user of calls that name none: together they have one more account."""
NO_USER = "calls that name no user"


class BudgetClaim(Struct, frozen=True):
    """One account that a call counts in."""

    budget: Budget
    account: BudgetPeriod
    limit: int
    values: tuple[tuple[str, str], ...] = ()  # of the fields that are `each`; shown, never stored
    user_key: str = ""  # in place of the user's name, where it is stored

    @property
    def note(self) -> str:
        """Whose account it is, where its values do not say so; empty: they do."""
        return NO_USER if ("user", NO_VALUE) in self.values else ""

    @property
    def is_hard(self) -> bool:
        """Whether its budget is never exceeded."""
        return self.budget.is_hard

    @property
    def ends_s(self) -> int:
        """When its period ends, and the next one begins, in epoch seconds."""
        return self.account.start_s + self.account.length_s


Claims = tuple[BudgetClaim, ...]


def find_claims(
    budgets: Sequence[Budget],
    said: Mapping[str, str | None],
    *,
    user_key: str,
    at_s: float,
) -> Claims:
    """Return the accounts that a call counts in.

    Where every value has an account of its own calls without one have none; but those that name no
    user share one, as else whoever names nobody would have no limit.

    Args:
        said: of each of `SCOPES` what the call has; None: nothing.
        user_key: what its user is told by in an account's digest, so that it tells nobody who
            it is; "" where it names none.
        at_s: when the call came, in epoch seconds.
    """
    return tuple(
        _claim(budget, said, user_key, at_s)
        for budget in budgets
        if all(_holds(field, value, said) for field, value in budget.scope.items())
    )


def _holds(field: str, value: str, said: Mapping[str, str | None]) -> bool:
    if value == EACH:
        return field == "user" or bool(said[field])
    return said[field] == value


def _claim(
    budget: Budget, said: Mapping[str, str | None], user_key: str, at_s: float
) -> BudgetClaim:
    values = {field: said[field] or NO_VALUE for field in budget.each}
    keyed = [user_key if field == "user" else value for field, value in values.items()]
    start_s, length_s = period_of(budget.span, budget.timezone, at_s)
    account = BudgetPeriod(account_digest(budget, keyed), start_s, length_s)
    limit = budget.limit_of(values)
    return BudgetClaim(
        budget, account, limit, tuple(values.items()), user_key if "user" in values else ""
    )


def account_digest(budget: Budget, keyed: Sequence[str]) -> int:
    """Return what tells an account from others.

    Args:
        keyed: the values of the fields that are `each`, in their order; a user by its key.
    """
    return digest8("account", f"{budget.digest:016x}", *keyed) if keyed else budget.digest


assert set(SCOPES) == {"app", "user", "tag", "role", "strategy"}
