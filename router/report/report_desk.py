"""The report of a running sidecar, as JSON over HTTP: the admin sees all, an app's key its own app.

It is made in a thread, one at a time: it waits for the store, and takes processor time that calls
need.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from router.beliefs.beliefs import Beliefs
from router.beliefs.keeper import Keeper
from router.config.compiled import App
from router.errors import RequestRejected
from router.net.asgi import Exchange
from router.policy.callers import Keys
from router.policy.standing import usual_strategy
from router.report.gather import ALL_TASKS, Report, ReportSource, fill
from router.report.page_wish import PageWish, page_wish_in, require_known
from router.report.views import keeper_rows
from telemetry.numbers import brief
from telemetry.store import Address, StoreErrors, connect
from telemetry.trouble import trouble_of

TIMEOUT_S = 10.0
"""Of one round trip."""


class ReportDesk:
    """Answers programs; one for the process."""

    def __init__(self, address: Address, keeper: Keeper, file: Path | None) -> None:
        """Ask nothing yet.

        Args:
            file: what the configuration was read from.
        """
        self._address, self._keeper, self._file = address, keeper, file
        self._turn = asyncio.Semaphore(1)

    async def tell(self, exchange: Exchange, beliefs: Beliefs) -> None:
        """Answer one request.

        Raises:
            RequestRejected: the key may not ask that, it cannot be meant, or the store is away.
        """
        configuration = beliefs.configuration
        own = configuration.derive(Keys).app_or_admin(exchange.headers)
        wish = page_wish_in(exchange.query, now_s=time.time())
        require_known(wish, configuration)
        if own is not None:
            wish = of_app(wish, own)
        async with self._turn:
            found = await asyncio.to_thread(self._read, beliefs, wish, own)
        await exchange.respond_json(200, found)

    def _read(self, beliefs: Beliefs, wish: PageWish, own: App | None) -> dict[str, Any]:
        source = ReportSource(
            beliefs=beliefs,
            strategy=wish.strategy or usual_strategy(beliefs.configuration),
            wish=wish,
            switch=self._keeper.switch,
            raters=self._keeper.raters,
            file=self._file,
            sees_all=own is None,
            most_tasks=ALL_TASKS,
            with_rows=own is None,
        )
        report = Report(posteriors=keeper_rows(self._keeper))
        try:
            with closing(connect(self._address, timeout_s=TIMEOUT_S)) as client:
                fill(report, client, source)
        except StoreErrors as error:
            message = f"the store: {trouble_of(error).shown}; try again"
            raise RequestRejected("store_away", message) from None
        return report.as_json() if own is None else report.page_json()


def of_app(wish: PageWish, own: App) -> PageWish:
    """Return what an app may ask: of itself.

    Raises:
        RequestRejected: it asks of another.
    """
    if wish.app not in (None, own.name):
        message = (
            f"app: {brief(wish.app or '')}: this key sees app {own.name!r} alone; leave it out"
        )
        raise RequestRejected("invalid_request", message, param="app")
    return replace(wish, app=own.name, ledger=wish.ledger._replace(app=own.name))
