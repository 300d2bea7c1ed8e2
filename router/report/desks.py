"""What desks that ask the store have in common."""

from __future__ import annotations

from router.errors import RequestRejected
from telemetry.trouble import trouble_of


def store_away(error: Exception) -> RequestRejected:
    """Return what whoever asked is told where the store does not do what it is asked."""
    return RequestRejected("store_away", f"the store: {trouble_of(error).shown}; try again")
