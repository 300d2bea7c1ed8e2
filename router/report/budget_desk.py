"""How budgets stand, asked over HTTP: the admin sees all, an app's key the accounts of that app."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import replace
from typing import Any

from router.beliefs.beliefs import Beliefs
from router.budgets.watch import BudgetWatch
from router.config.compiled import Configuration
from router.net.exchange import Exchange
from router.policy.callers import Keys
from router.report.budgets import ANYBODY, AccountRow, Only, read_budgets
from router.report.desks import store_away
from telemetry.store import Address, StoreErrors, connect

TIMEOUT_S = 5.0
AT_ONCE = 1
"""Of a hundred thousand accounts a question takes seconds of processor time that calls need."""


class BudgetDesk:
    """Answers how budgets stand; one for the process."""

    def __init__(self, address: Address, watch: BudgetWatch) -> None:
        """Ask nothing yet."""
        self._address, self._watch = address, watch
        self._places = asyncio.Semaphore(AT_ONCE)

    async def tell(self, exchange: Exchange, beliefs: Beliefs) -> None:
        """Answer one request.

        Raises:
            RequestRejected: the key may not ask that, or the store is away.
        """
        configuration = beliefs.configuration
        own = configuration.derive(Keys).app_or_admin(exchange.headers)
        only = ANYBODY if own is None else Only(app=own.name)
        async with self._places:
            found = await asyncio.to_thread(self._read, configuration, only)
        await exchange.respond_json(200, found)

    def _read(self, configuration: Configuration, only: Only) -> dict[str, Any]:
        try:
            with closing(connect(self._address, timeout_s=TIMEOUT_S)) as client:
                now_s = self._watch.now_s()
                table = read_budgets(client, configuration, now_s=now_s, only=only)
        except StoreErrors as error:
            raise store_away(error) from None
        return table.as_json() | {"budgets": [self._row(row) for row in table.rows]}

    def _row(self, row: AccountRow) -> dict[str, Any]:
        """Return a row with the price in force here, and what is spent or ready here."""
        claim, prices = row.claim, self._watch.prices
        price, here = prices.price_of(claim) or row.price, self._watch.standing(claim)
        spent = max(row.spent, here.spent)
        shown = replace(row, spent=spent, ready=here.ready, price=price).as_json()
        solved = prices.solved.get(claim.account)
        if solved is not None:
            more = {"target_usd_per_call": solved.target_usd, "calls_expected": solved.calls}
            shown["pace"] |= more
        return shown
