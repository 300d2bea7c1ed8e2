"""Whether the limits of providers are shared out among apps that there are."""

from __future__ import annotations

from collections.abc import Iterator

from router.config.entries import File
from router.config.masking import Place
from router.config.named import check_name
from router.endpoints.rate_limits import RateLimitsEntry


def check_rates(entries: File) -> Iterator[tuple[Place, str, str]]:
    """Yield what is wrong with limits of a minute: place, value, hint."""
    for name, provider in entries.providers.items():
        yield from _check_shares(("providers", name, "limits"), provider.limits, entries)
    for i, endpoint in enumerate(entries.endpoints):
        yield from _check_shares(("endpoints", i, "limits"), endpoint.limits, entries)


def _check_shares(
    where: Place, limits: RateLimitsEntry, entries: File
) -> Iterator[tuple[Place, str, str]]:
    for app in limits.shares or {}:
        yield from check_name((*where, "shares", app), app, entries.all_apps, "app")
