"""The report of a running sidecar, as JSON over HTTP: the admin sees all, an app's key its own app.

It is made in a thread, one at a time: it waits for the store, and takes processor time that calls
need.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from router.beliefs.beliefs import Beliefs
from router.config.compiled import App
from router.errors import RequestRejected
from router.net.exchange import Exchange
from router.policy.callers import Keys
from router.report.desks import store_away
from router.report.gather import Report
from router.report.page_wish import PageWish, page_wish_in, require_known
from telemetry.numbers import brief
from telemetry.store import StoreErrors

ReportOf = Callable[[Beliefs, PageWish, App | None], Report]
"""Makes a report; whose app's own, or everybody's. It waits for the store, and may raise
`StoreErrors`."""


class ReportDesk:
    """Answers programs; one for the process."""

    def __init__(self, report_of: ReportOf) -> None:
        """Ask nothing yet."""
        self._report_of = report_of
        self._turn = asyncio.Semaphore(1)

    async def tell(self, exchange: Exchange, beliefs: Beliefs) -> None:
        """Answer one request.

        Raises:
            RequestRejected: the key may not ask that, it cannot be meant, or the store is away.
        """
        configuration = beliefs.configuration
        own = configuration.derive(Keys).app_or_admin(exchange.headers)
        wish = page_wish_in(exchange.query, now_s=time.time())
        if own is not None:
            wish = of_app(wish, own)
        require_known(wish, configuration)
        async with self._turn:
            found = await asyncio.to_thread(self._read, beliefs, wish, own)
        await exchange.respond_json(200, found)

    def _read(self, beliefs: Beliefs, wish: PageWish, own: App | None) -> dict[str, Any]:
        try:
            report = self._report_of(beliefs, wish, own)
        except StoreErrors as error:
            raise store_away(error) from None
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
