"""The ledger of a running sidecar: asked over HTTP, and looked at once an hour.

Reading waits for the store, so it happens in threads; few at a time, for it takes processor time
that calls need.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import structlog

from router.beliefs.beliefs import Beliefs
from router.config.compiled import Configuration
from router.errors import RequestRejected
from router.net.exchange import Exchange
from router.policy.callers import Keys
from router.report.desks import store_away
from router.report.ledger import answer
from router.report.ledger_wish import LedgerWish, wish_in
from router.report.price_truth import PriceDoubt, announce, doubts_about, find_doubts
from telemetry.numbers import brief
from telemetry.store import Address, Client, StoreErrors, connect

log = structlog.get_logger()

TIMEOUT_S = 10.0
"""Of one round trip: a day of many users is one reply."""
AT_ONCE = 2
FIRST_LOOK_S = 60.0
LOOK_EVERY_S = 3600.0
KNOWN_FOR_S = 300.0
NEVER: tuple[float, int | None, list[PriceDoubt]] = (0.0, None, [])
"""When prices were looked at, under which configuration, and which are in doubt."""


class LedgerDesk:
    """Answers what the ledger is asked; one for the process."""

    def __init__(
        self, address: Address, configuration: Callable[[], Configuration], file: Path | None
    ) -> None:
        """Ask nothing yet.

        Args:
            configuration: returns the one in force.
            file: what it was read from.
        """
        self._address, self._configuration, self._file = address, configuration, file
        self._places = asyncio.Semaphore(AT_ONCE)
        self._looked_at = NEVER
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)

    def start(self) -> None:
        """Begin to look whether prices are true."""
        self._thread.start()

    def stop(self) -> None:
        """End that; a look that is under way is not waited for long."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2)

    async def tell(self, exchange: Exchange, beliefs: Beliefs) -> None:
        """Answer one request.

        Raises:
            RequestRejected: the key may not ask that, it cannot be meant, or the store is away.
        """
        configuration = beliefs.configuration
        own = configuration.derive(Keys).app_or_admin(exchange.headers)
        wish = wish_in(exchange.query, now_s=time.time())
        if own is not None:
            wish = _of_app(wish, own.name)
        async with self._places:
            found = await asyncio.to_thread(self.read, wish, configuration, is_admin=own is None)
        await exchange.respond_json(200, found)

    def read(
        self, wish: LedgerWish, configuration: Configuration, *, is_admin: bool
    ) -> dict[str, Any]:
        """Return the answer; alarms are for the admin alone.

        Raises:
            RequestRejected: of what is asked something is not known, or the store is away.
        """
        try:
            with closing(connect(self._address, timeout_s=TIMEOUT_S)) as client:
                found = answer(client, configuration, wish)
                if is_admin:
                    doubts = self._doubts(client, configuration)
                    doubts = doubts_about(client, doubts, configuration, wish)
                    found.alarms = [one.as_json() for one in doubts]
                return found.as_json()
        except StoreErrors as error:
            raise store_away(error) from None

    def _doubts(self, client: Client, configuration: Configuration) -> list[PriceDoubt]:
        """Return the prices that are in doubt, as of a few minutes ago."""
        now, version = time.monotonic(), configuration.version
        at, of, found = self._looked_at
        if of != version or now - at > KNOWN_FOR_S:
            found = find_doubts(
                client,
                configuration.catalog,
                n_shards=configuration.store.shards,
                now_s=time.time(),
                file=self._file,
            )
            self._looked_at = now, version, found
        return found

    def look(self) -> None:
        """Look once whether prices are true, and tell of those that are not."""
        configuration = self._configuration()
        try:
            with closing(connect(self._address, timeout_s=TIMEOUT_S)) as client:
                self._looked_at = NEVER
                announce(client, self._doubts(client, configuration))
        except StoreErrors:
            return  # the writer says so; the next look is soon enough

    def _run(self) -> None:
        rest_s = FIRST_LOOK_S
        while not self._stop.wait(rest_s):
            rest_s = LOOK_EVERY_S
            try:
                self.look()
            except Exception as error:  # whatever it is, the next look may go well
                log.error("prices could not be looked at", error=type(error).__name__)


def _of_app(wish: LedgerWish, app: str) -> LedgerWish:
    """Return what an app may ask: of itself."""
    if wish.app is not None and wish.app != app:
        message = f"app: {brief(wish.app)}: this key sees app {app!r} alone; leave it out"
        raise RequestRejected("invalid_request", message, param="app")
    return wish._replace(app=app)
