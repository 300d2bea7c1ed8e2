"""Under which names it is booked what is passed on: by provider and model, else path."""

from __future__ import annotations

from router.beliefs.names import Names
from router.endpoints.providers import Provider
from router.net.exchange import Exchange
from router.net.paths import shown_path
from telemetry.digests import digest8

MAX_NAMES = 1000
"""Distinct names booked; whatever comes beyond them is booked as `<provider>/other`."""


def passed_digest(name: str) -> int:
    """Return the digest of an endpoint that no configuration lists."""
    return digest8("passthrough", name)


class PassedNames:
    """The names that were booked; one for the process."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._booked: set[str] = set()

    def of(self, provider: Provider, exchange: Exchange, model: str) -> str:
        """Return the provider, and the model that a request names, else its path without ids."""
        name = (model or shown_path(exchange.path).removeprefix("/v1/"))[:128]
        full = f"{provider.name}/{name}"
        if full not in self._booked:
            if len(self._booked) >= MAX_NAMES:
                return f"{provider.name}/other"
            self._booked.add(full)
            self._names.add(passed_digest(full), full)
        return full
