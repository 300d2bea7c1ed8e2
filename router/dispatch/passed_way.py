"""The way of what is passed on: where it goes, and how long its body may take."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

import httpx

from router.endpoints.providers import Provider
from router.errors import RequestRejected
from router.net.deadline import Deadline
from router.net.exchange import Exchange
from router.net.paths import below_version
from router.net.pool import Target


def target_of(provider: Provider, exchange: Exchange) -> Target:
    """Return where a request goes.

    Raises:
        RequestRejected: its path is no URL.
    """
    path = below_version(exchange.raw_path)
    query = b"&".join(part for part in (provider.query, exchange.query) if part).decode("latin-1")
    url = provider.base_url + path + (f"?{query}" if query else "")
    try:
        return Target.of(httpx.URL(url))
    except httpx.InvalidURL:
        raise RequestRejected("not_found", "this path is no URL that could be sent") from None


async def timed(
    pieces: AsyncIterator[bytes], limit: Deadline, silence_s: float
) -> AsyncIterator[bytes]:
    """Yield the pieces of a body; the time that the client takes for them does not count."""
    limit.move(math.inf)
    async for piece in pieces:
        limit.move(silence_s)
        yield piece
        limit.move(math.inf)
    limit.move(silence_s)
