"""How budgets stand, as JSON: of each account in use what is spent, and what its money costs.

Accounts that are in use in this sidecar are shown, and those of budgets that have but one. What is
spent is what is folded: of calls of the last second or so nothing is known as yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from msgspec.structs import asdict

from router.beliefs.beliefs import Beliefs
from router.budgets.claims import BudgetClaim
from router.budgets.periods import period_of
from router.budgets.standings import BudgetStanding, told
from router.budgets.warnings import BudgetWarning, passed_marks, read_warnings
from router.budgets.watch import BudgetWatch
from router.config.budgets import NANO, Budget, BudgetUnit
from router.config.compiled import Configuration
from router.errors import RequestRejected
from router.net.asgi import Exchange
from router.policy.callers import Keys
from telemetry.budget_accounts import BudgetPeriod
from telemetry.budget_rows import FoldedSpend, read_folded
from telemetry.store import Address, StoreErrors, connect
from telemetry.trouble import trouble_of

TIMEOUT_S = 5.0
MAX_ROWS = 1000
"""Accounts shown: those of which the greatest part is spent."""


class BudgetDesk:
    """Answers how budgets stand; one for the process."""

    def __init__(self, address: Address, watch: BudgetWatch) -> None:
        """Ask nothing yet."""
        self._address, self._watch = address, watch

    async def tell(self, exchange: Exchange, beliefs: Beliefs) -> None:
        """Answer one request: the admin sees all, the key of an app the accounts of that app.

        Raises:
            RequestRejected: the key may not ask that, or the store is away.
        """
        configuration = beliefs.configuration
        own = configuration.derive(Keys).app_or_admin(exchange.headers)
        claims = self._claims(configuration.budgets)
        if own is not None:
            claims = [claim for claim in claims if app_of(claim) == own.name]
        folded, warned = await asyncio.to_thread(self._read, claims, configuration)
        rows = [self._row(*one) for one in zip(claims, folded, strict=True)]
        rows.sort(key=lambda row: -row["spent"] / max(row["limit"], 1e-9))
        said = warned if own is None else _of(warned, claims)
        await exchange.respond_json(
            200,
            {
                "budgets": rows[:MAX_ROWS],
                "n_accounts": len(rows),
                "warnings": [_told(one) for one in said[:MAX_ROWS]],
            },
        )

    def _claims(self, budgets: Sequence[Budget]) -> list[BudgetClaim]:
        """Return the accounts in use, and those of budgets that have but one."""
        now_s = self._watch.now_s()
        found = {account: watched.claim for account, watched in self._watch.watched.items()}
        for budget in budgets:
            if not budget.each:
                account = BudgetPeriod(
                    budget.digest, *period_of(budget.span, budget.timezone, now_s)
                )
                found[account] = BudgetClaim(budget, account, budget.limit)
        return [claim for claim in found.values() if claim.ends_s > now_s]

    def _read(
        self, claims: Sequence[BudgetClaim], configuration: Configuration
    ) -> tuple[list[FoldedSpend], list[BudgetWarning]]:
        try:
            with closing(connect(self._address, timeout_s=TIMEOUT_S)) as client:
                accounts = [claim.account for claim in claims]
                folded = read_folded(client, configuration.store.shards, accounts)
                return folded, read_warnings(client)
        except StoreErrors as error:
            message = f"the store: {trouble_of(error).shown}; try again"
            raise RequestRejected("store_away", message) from None

    def _row(self, claim: BudgetClaim, folded: FoldedSpend) -> dict[str, Any]:
        budget, account = claim.budget, claim.account
        solved = self._watch.prices.solved.get(account)
        price = self._watch.prices.price_of(claim)
        return {
            **told(claim, BudgetStanding(spent=folded.amount)),
            "begins_at_s": account.start_s,
            "ends_at_s": claim.ends_s,
            "hard": budget.is_hard,
            "on_spent": budget.on_spent.value,
            "calls": folded.n_calls,
            "warned": passed_marks(folded.amount, claim.limit),
            "pace": None
            if price is None
            else {
                "price": price.low,
                "price_high": price.high,
                "p_low": price.p_low,
                "target_usd_per_call": None if solved is None else solved.target_usd,
                "calls_expected": None if solved is None else solved.calls,
            },
        }


def app_of(claim: BudgetClaim) -> str | None:
    """Return the app whose budget an account is; None where it is not of one app alone."""
    return dict(claim.values).get("app") or claim.budget.scope.get("app")


def _of(warned: Sequence[BudgetWarning], claims: Sequence[BudgetClaim]) -> list[BudgetWarning]:
    names = {(claim.budget.name, f"{claim.account.digest:016x}") for claim in claims}
    return [one for one in warned if (one.budget, one.account) in names]


def _told(warning: BudgetWarning) -> dict[str, Any]:
    unit = BudgetUnit(warning.unit)
    return {
        **asdict(warning),
        "spent": _amount(warning.spent, unit),
        "limit": _amount(warning.limit, unit),
    }


def _amount(amount: int, unit: BudgetUnit) -> float | int:
    """Return an amount as it is written: USD, tokens or calls."""
    return amount / NANO if unit is BudgetUnit.MONEY else amount
