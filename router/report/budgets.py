"""How budgets stand: of each account in this period what is spent, reserved and left.

Read from the store alone, so that it says the same wherever it is asked. What is *spent* is what
is folded: of calls of the last second or so nothing is known as yet. What is *held* is reserved, or
lies ready at a sidecar, or is spent and not folded. A user is named where the configuration does,
and else by the keyed hash that the ledger has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bandit.pacing import Price
from router.budgets.account_names import AccountName, read_names
from router.budgets.claims import BudgetClaim, account_digest
from router.budgets.kept_prices import read_prices
from router.budgets.periods import period_of
from router.budgets.standings import BudgetStanding, as_written, told
from router.budgets.warnings import BudgetWarning, read_warnings
from router.config.budgets import Budget, BudgetUnit
from router.config.compiled import Configuration
from router.decision.units import user_hash
from router.policy.hints import short_name
from telemetry import keys
from telemetry.budget_accounts import BudgetPeriod, read_debited
from telemetry.budget_rows import FoldedSpend, read_folded
from telemetry.store import Client

MAX_ROWS = 1000
"""Accounts shown: those of which the greatest part is spent."""


@dataclass(frozen=True, slots=True)
class AccountRow:
    """One account; amounts in the integers of its unit."""

    claim: BudgetClaim
    spent: int  # folded, or by the sidecar that is asked, whichever is more
    n_calls: int
    debited: int  # spent or held, as its account has it
    price: Price | None = None  # of money, where that was worked out
    warned: tuple[BudgetWarning, ...] = ()  # under the limit of now
    ready: int = 0  # of `debited`, what lies free at the sidecar that is asked

    @property
    def held(self) -> int:
        """What is reserved, or lies ready at another sidecar, or is spent and not folded."""
        return max(self.debited - self.ready - self.spent, 0)

    def as_json(self) -> dict[str, Any]:
        """Return it as it is shown; money in USD."""
        claim, budget, price = self.claim, self.claim.budget, self.price
        return {
            **told(claim, BudgetStanding(others=self.held + self.spent, folded=self.spent)),
            "calls": self.n_calls,
            "timezone": budget.timezone,
            "begins_at_s": claim.account.start_s,
            "ends_at_s": claim.ends_s,
            "hard": budget.is_hard,
            "on_spent": budget.on_spent.value,
            "warned": [{"percent": w.percent, "at": _rfc3339(w.at_s)} for w in self.warned],
            "pace": price and {"price": price.low, "price_high": price.high, "p_low": price.p_low},
        }


@dataclass(frozen=True, slots=True)
class BudgetTable:
    """The accounts of this period, the most used first."""

    rows: tuple[AccountRow, ...] = ()
    more: int = 0  # accounts that are not in `rows`
    warnings: tuple[BudgetWarning, ...] = ()  # of the last 40 days, the latest first
    known: tuple[BudgetClaim, ...] = ()  # all accounts of now and lately

    def as_json(self) -> dict[str, Any]:
        """Return it as one object."""
        return {
            "budgets": [row.as_json() for row in self.rows],
            "more": self.more,
            "warnings": [_warning(one) for one in self.warnings[:MAX_ROWS]],
        }


@dataclass(frozen=True, slots=True)
class Only:
    """Whose accounts are shown: None: anybody's."""

    app: str | None = None
    user: frozenset[str] | None = None  # by name or keyed hash
    tag: str | None = None

    def admits(self, claim: BudgetClaim) -> bool:
        """Return whether an account is one of those."""
        scope = {**claim.budget.scope, **dict(claim.values)}
        return (
            self.app in (None, scope.get("app"))
            and self.tag in (None, scope.get("tag"))
            and (self.user is None or scope.get("user") in self.user)
        )


ANYBODY = Only()


def read_budgets(
    client: Client, configuration: Configuration, *, now_s: float, only: Only = ANYBODY
) -> BudgetTable:
    """Return how the budgets of a configuration stand.

    Args:
        now_s: epoch seconds, by the store's clock.

    Raises:
        redis.RedisError: the store is away.
    """
    if not configuration.budgets:
        return BudgetTable()
    known = [own for own in accounts_of(client, configuration, now_s=now_s) if only.admits(own)]
    claims = [claim for claim in known if claim.account.start_s <= now_s < claim.ends_s]
    folded = read_folded(client, configuration.store.shards, [one.account for one in claims])
    ranked = sorted(
        zip(claims, folded, strict=True), key=lambda one: -one[1].amount / max(one[0].limit, 1)
    )
    shown, names = ranked[:MAX_ROWS], {(c.budget.name, account_hex(c)) for c in known}
    said = [w for w in read_warnings(client) if only == ANYBODY or (w.budget, w.account) in names]
    rows = _rows(client, shown, said, now_s=now_s)
    return BudgetTable(tuple(rows), len(ranked) - len(shown), tuple(said), tuple(known))


def _rows(
    client: Client,
    shown: Sequence[tuple[BudgetClaim, FoldedSpend]],
    said: Sequence[BudgetWarning],
    *,
    now_s: float,
) -> Iterator[AccountRow]:
    debited = read_debited(client, [claim.account for claim, _ in shown])
    money = [c.account.digest for c, _ in shown if c.budget.unit is BudgetUnit.MONEY]
    prices = read_prices(client, money, now_s=now_s)
    warned: dict[tuple[str, int], list[BudgetWarning]] = {}
    for one in sorted(said, key=lambda one: one.percent):
        warned.setdefault((one.account, one.start_s), []).append(one)
    for (claim, spend), taken in zip(shown, debited, strict=True):
        yield AccountRow(
            claim,
            spend.amount,
            spend.n_calls,
            taken,
            prices.get(claim.account.digest),
            tuple(
                one
                for one in warned.get((account_hex(claim), claim.account.start_s), ())
                if one.limit == claim.limit
            ),
        )


def accounts_of(
    client: Client, configuration: Configuration, *, now_s: float
) -> Iterator[BudgetClaim]:
    """Yield the accounts that were used in this period, and those of budgets that have but one.

    Accounts of periods that ended lately are among them.

    Raises:
        redis.RedisError: the store is away.
    """
    by_name = {budget.name: budget for budget in configuration.budgets if budget.each}
    for budget in configuration.budgets:
        if not budget.each:
            period = BudgetPeriod(budget.digest, *period_of(budget.span, budget.timezone, now_s))
            yield BudgetClaim(budget, period, budget.limit)
    if not by_name:
        return
    users = user_names(client, configuration)
    for name in read_names(client):
        own = by_name.get(name.budget)
        if own is not None and _is_of(name, own):
            values = {f: users.get(v, v) if f == "user" else v for f, v in name.values}
            yield BudgetClaim(own, name.account, own.limit_of(values), tuple(values.items()))


def _is_of(name: AccountName, budget: Budget) -> bool:
    """Return whether an account is one of a budget as it is now: else unit or span were others."""
    fields = tuple(field for field, _ in name.values)
    keyed = [value for _, value in name.values]
    if not all(value or field == "user" for field, value in name.values):
        return False  # calls that name nothing of it do not count there
    return fields == budget.each and name.digest == account_digest(budget, keyed)


def user_names(client: Client, configuration: Configuration) -> dict[str, str]:
    """Return the users that the configuration names, by the keyed hashes that accounts have.

    Raises:
        redis.RedisError: the store is away.
    """
    secret = client.get(keys.SECRET)
    if not secret:
        return {}
    names = {*configuration.users, *(h.user for h in configuration.key_holders.values() if h.user)}
    for budget in configuration.budgets:
        if budget.each == ("user",):
            names |= set(budget.instead)
    out = {}
    for name in names:
        short = short_name(name)
        for app in ("",) if short in configuration.users else configuration.apps:
            out[user_hash(secret, app, short).hex()] = short
    return out


def account_hex(claim: BudgetClaim) -> str:
    """Return an account's digest as warnings have it."""
    return f"{claim.account.digest:016x}"


def _warning(warning: BudgetWarning) -> dict[str, Any]:
    unit = BudgetUnit(warning.unit)
    return {
        "budget": warning.budget,
        "account": warning.account,
        "period": warning.period,
        "start_s": warning.start_s,
        "ends_s": warning.ends_s,
        "unit": warning.unit,
        "percent": warning.percent,
        "spent": as_written(warning.spent, unit),
        "limit": as_written(warning.limit, unit),
        "at_s": warning.at_s,
    }


def _rfc3339(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat().replace("+00:00", "Z")
