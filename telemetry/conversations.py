"""How conversations without a session id lie in the store: packed (`packed.py`), for a day.

Each is what its calls were given.
"""

from __future__ import annotations

from telemetry import keys
from telemetry.packed import Command, PackedIndex
from telemetry.store import Client

SPAN_S = 7200
"""Two hours: a conversation is kept for 25 on average, and a look-up asks 13 spans."""
KEPT_S = 86_400
"""How long a conversation is kept at least, in whole spans."""
SPREAD_S = 600
"""Over which a span's hashes end."""
GROUPS = keys.CONVERSATION_GROUPS

_INDEX = PackedIndex(
    GROUPS,
    keys.conversations,
    keys.conversations_of,
    span_s=SPAN_S,
    kept_s=KEPT_S,
    spread_s=SPREAD_S,
)
LUA_NOTE = _INDEX.lua_note


def note(key: bytes, value: bytes, *, ttl_ms: int) -> Command:
    """Return the command that notes a conversation, unless it is known; it replies what holds."""
    return _INDEX.note(key, value, ttl_ms=ttl_ms)


def look_up(key: bytes) -> Command:
    """Return the command that replies what was noted of a conversation, if it is kept."""
    return _INDEX.look_up(key)


def drop_ending(client: Client, end: bytes) -> int:
    """Delete the conversations whose keys end so; return how many.

    Every one that is kept is looked at: some ten thousand in 100 ms.

    Args:
        end: at most 8 bytes.

    Raises:
        redis.RedisError: the store is away, or takes no writes; some may be gone.
    """
    return _INDEX.drop_ending(client, end)
