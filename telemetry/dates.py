"""Moments as people read them, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_day(ms: int) -> str:
    """Return the day of a moment in epoch milliseconds."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d")


def utc_minute(ms: int) -> str:
    """Return a moment in epoch milliseconds, to the minute."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
