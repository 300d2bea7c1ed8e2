"""Ids of what lies at a provider, responses and conversations: where each was made, for 30 days.

They lie packed (`packed.py`), known by a digest of the app, the kind of thing and the id, so that
an app finds its own alone, and nobody who reads the store an id. The value is the digest of the
endpoint, or of the provider, that made it.
"""

from __future__ import annotations

from telemetry import keys
from telemetry.events import digest16
from telemetry.packed import Command, PackedIndex

SPAN_S = 86_400
"""A day: a look-up asks 31 spans at most."""
KEPT_S = 30 * SPAN_S
"""As long as OpenAI keeps a response."""
SPREAD_S = 3600
"""Over which a span's hashes end."""
GROUPS = keys.STORED_ID_GROUPS
MAKER_BYTES = 8

_INDEX = PackedIndex(
    GROUPS,
    keys.stored_ids,
    keys.stored_ids_of,
    span_s=SPAN_S,
    kept_s=KEPT_S,
    spread_s=SPREAD_S,
)


def key_of(app: str, kind: str, id_: str) -> bytes:
    """Return the 16 bytes by which an id is known to its app."""
    return digest16("stored", app, kind, id_)


def note(key: bytes, maker: bytes, *, ttl_ms: int) -> Command:
    """Return the command that notes who made an id, unless that is known; it replies what holds.

    Args:
        maker: `MAKER_BYTES` of a digest.
        ttl_ms: for how long it is kept at least; `KEPT_S` but for what is written late.
    """
    return _INDEX.note(key, maker, ttl_ms=ttl_ms)


def look_up(key: bytes) -> Command:
    """Return the command that replies who made an id, if that is kept."""
    return _INDEX.look_up(key)
