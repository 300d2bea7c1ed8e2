"""Rows of old decisions that were put back so that more can be said of them."""

from __future__ import annotations

THAWED_AT_BYTES = 6
"""A row of `keys.thawed` begins with the time at which it was put there, in milliseconds."""


def thawed_row(row: bytes, at_ms: int) -> bytes:
    """Return the value under an old decision's nonce in `keys.thawed`.

    Args:
        row: what was said of it so far, all of it; empty where nothing was.
        at_ms: now, on the store's clock.
    """
    return at_ms.to_bytes(THAWED_AT_BYTES, "big") + row


def thawed_at_ms(value: bytes) -> int:
    """Return when a value of `keys.thawed` was put there."""
    return int.from_bytes(value[:THAWED_AT_BYTES], "big")
