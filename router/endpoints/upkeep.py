"""What time alone changes of a configuration, looked after by a thread: keys and days.

Keys are renewed. When a day begins, agreements that end are told of in the log, and where other
prices come into force the configuration is taken anew, so that what is believed goes by them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from router.endpoints.catalog import Catalog
from router.endpoints.terms import agreement_warnings

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
DAY_S = 86_400


class Upkeep:
    """The thread; one for the process."""

    def __init__(
        self,
        *,
        on_new_key: Callable[[], None],
        on_new_prices: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Do nothing yet.

        Args:
            on_new_key: called from the thread when some key is another one.
            on_new_prices: the same when other prices have come into force.
            clock: epoch seconds.
        """
        self._on_new_key = on_new_key
        self._on_new_prices = on_new_prices
        self._clock = clock
        self._catalog: Catalog | None = None
        self._looked_s = clock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def follow(self, catalog: Catalog) -> None:
        """Look after another catalog from now on."""
        self._catalog = catalog
        self._warn(catalog, self._clock())

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; a command that it waits for is not waited for."""
        self._stop.set()
        self._thread.join(2)

    def look(self, now: float) -> None:
        """Look once.

        Args:
            now: monotonic seconds.
        """
        catalog, before, at_s = self._catalog, self._looked_s, self._clock()
        if catalog is None:
            return
        if catalog.keys.look(now):
            self._on_new_key()
        self._looked_s = at_s
        if at_s // DAY_S > before // DAY_S:
            self._warn(catalog, at_s)
            if any(e.prices and e.prices.begin_within(before, at_s) for e in catalog.endpoints):
                self._on_new_prices()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            try:
                self.look(time.monotonic())
            except Exception as error:  # whatever it is, keys must go on being renewed
                log.error("keys and days could not be looked at", error=type(error).__name__)

    def _warn(self, catalog: Catalog, at_s: float) -> None:
        for line in agreement_warnings(catalog.agreed, at_s):
            log.warning(line)
