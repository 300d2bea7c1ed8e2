"""Ids of events: 16 bytes that sort by time, so that of two words the later one holds."""

from __future__ import annotations

import secrets


def new_event_id(at_ms: int) -> bytes:
    """Return 16 bytes that sort by time: of two feedbacks of one revision the later one holds."""
    return at_ms.to_bytes(6, "big") + secrets.token_bytes(10)


def ingested_event_id(at_ms: int, digest: bytes) -> bytes:
    """Return an id that sorts by time like any other, and is the same each time it is told."""
    return at_ms.to_bytes(6, "big") + digest[:10]
