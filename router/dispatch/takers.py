"""Which requests are not ours to decide, by path and by who asks, and who takes them."""

from __future__ import annotations

from router.dialects.parsers import CALLS
from router.endpoints.catalog import Catalog
from router.endpoints.providers import Provider, dialect_at
from router.errors import RequestRejected
from router.net.exchange import Exchange
from router.net.paths import shown_path
from telemetry.numbers import clipped

OURS = ("/v1/router/", "/v1/feedback", "/v1/events")
"""What no provider ever sees."""


def taker(exchange: Exchange, catalog: Catalog) -> Provider | None:
    """Return who takes what is not listed of a request; None: nobody does."""
    by_anthropics = b"anthropic-version" in exchange.headers
    return catalog.passthrough(exchange.path, by_anthropics=by_anthropics)


def takes_rest(exchange: Exchange, catalog: Catalog) -> bool:
    """Return whether a provider takes what is not ours of a path."""
    passes = exchange.path.startswith("/v1/") and not exchange.path.startswith(OURS)
    return passes and taker(exchange, catalog) is not None


def is_passed_on(exchange: Exchange, catalog: Catalog) -> bool:
    """Return whether a call of a dialect that no endpoint takes has a provider that takes it.

    Then nothing of it is ours to decide, and its body goes there as it is.
    """
    dialect = CALLS.get(exchange.path) if exchange.method == "POST" else None
    is_taken = dialect is None or dialect in catalog.taken
    return not is_taken and takes_rest(exchange, catalog)


def nobody_takes(path: str) -> RequestRejected:
    """Return the refusal of a path that is not ours, and that no provider takes."""
    dialect = dialect_at(path)
    claim = f"{{dialects: [{dialect}]}}" if dialect else f"{{paths: [{clipped(shown_path(path))}]}}"
    return RequestRejected(
        "not_found",
        f"there is no {clipped(path)}; a provider with passthrough: true would take it, or one "
        f"with passthrough: {claim}",
    )
