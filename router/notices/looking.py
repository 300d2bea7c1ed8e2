"""How a thread looks at the store again and again, whatever goes wrong at one look."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing, suppress

import structlog

from telemetry.store import Address, Client, StoreErrors, connect

log = structlog.get_logger()

AWAY_S = 5.0
TIMEOUT_S = 1.0


def look_until(
    stop: threading.Event,
    address: Address,
    look: Callable[[Client], float],
    leave: Callable[[Client], None],
    *,
    rest_s: float,
    failed: str,
) -> None:
    """Look at the store until `stop` is set, then leave it.

    Args:
        look: looks once, and returns for how many seconds to rest.
        leave: what to take back at the end, where the store is there.
        rest_s: before the first look.
        failed: what is logged where a look goes wrong for another reason than the store's.
    """
    with closing(connect(address, timeout_s=TIMEOUT_S)) as client:
        while not stop.wait(rest_s):
            try:
                rest_s = look(client)
            except StoreErrors:  # the writer says so
                rest_s = AWAY_S
            except Exception as error:  # whatever it is, the next look may go well
                log.error(failed, error=type(error).__name__)
                rest_s = AWAY_S
        with suppress(*StoreErrors):
            leave(client)
