"""What changed, as the store remembers it: one stream, each event once however many routers see it.

An event is told in one of two ways. Who knows its cause by name appends it under an id (`append`).
Who sees that something is not what it was changes what the store knows of it, and tells the event
in the same step (`note`): of several that see the same change one writes. Releases and alarms have
streams of their own and are not repeated here. An event that happens while the store is away is
told when it is back, where it still holds; what came and went meanwhile is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct

from telemetry import keys
from telemetry.damaged import DAMAGED, Moment
from telemetry.digests import digest8
from telemetry.store import Client

MAX_CHANGES = 10_000
"""Kept in the stream, about."""
MAX_IDS = 20_000
"""Ids remembered, so that nothing is told twice: more than there are events."""
CHANGE = b"change"
"""Field of an entry."""

# KEYS[1] stream, KEYS[2] ids. ARGV: how many events and ids to keep, then id, moment, event.
_APPEND = """
local told = {}
for i = 3, #ARGV, 3 do
  if redis.call('ZADD', KEYS[2], 'NX', ARGV[i + 1], ARGV[i]) == 1 then
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'change', ARGV[i + 2])
    told[#told + 1] = ARGV[i]
  end
end
if #told > 0 then
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - ARGV[2])
end
return told
"""

# KEYS[1] what is known, KEYS[2] stream. ARGV: field, what was seen there, what it is to be (empty:
# nothing), how many events to keep, then events.
_NOTE = """
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then
  return 0
end
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
for i = 5, #ARGV do
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'change', ARGV[i])
end
return 1
"""


class ChangeRecord(Struct, frozen=True, kw_only=True):
    """One event, in words; kinds are those of `bandit.report.ChangeKind`."""

    id: str
    at_ms: Moment
    kind: str
    subject: str  # endpoint, task or budget
    text: str  # one clause: from what to what
    reason: str = ""
    undo: str = ""  # one command; empty where there is nothing to undo
    app: str = ""


def change_id(kind: str, subject: str, cause: str) -> str:
    """Return the id of what happened to a subject by a cause: 16 hexadecimal digits."""
    return f"{digest8('change', kind, subject, cause):016x}"


def append(client: Client, records: Sequence[ChangeRecord]) -> list[ChangeRecord]:
    """Append events; return those that nobody had told before, by their ids.

    Raises:
        redis.RedisError, OSError: the store is away.
    """
    if not records:
        return []
    said = [part for one in records for part in (one.id, one.at_ms, msgspec.json.encode(one))]
    script = client.register_script(_APPEND)
    told = script(keys=[keys.CHANGES, keys.CHANGE_IDS], args=[MAX_CHANGES, MAX_IDS, *said])
    fresh = {bytes(id_).decode() for id_ in told}
    return [one for one in records if one.id in fresh]


def note(
    client: Client, field: str, *, seen: bytes, value: bytes, records: Iterable[ChangeRecord] = ()
) -> bool:
    """Return whether what is known of `field` still was `seen`, and is `value` now.

    Args:
        seen, value: empty where nothing was, or is to be.
        records: what to tell of it, in the same step.

    Raises:
        redis.RedisError, OSError: the store is away.
    """
    told = [msgspec.json.encode(one) for one in records]
    script = client.register_script(_NOTE)
    arguments = [field, seen, value, MAX_CHANGES, *told]
    return bool(script(keys=[keys.CHANGES_KNOWN, keys.CHANGES], args=arguments))


def read_known(client: Client) -> dict[str, bytes]:
    """Return all that is known, by field.

    Raises:
        redis.RedisError, OSError: the store is away.
    """
    found: dict[bytes, bytes] = client.hgetall(keys.CHANGES_KNOWN)
    return {field.decode("utf-8", "replace"): value for field, value in found.items()}


def read_changes(client: Client, *, since_ms: int = 0, limit: int = 100) -> list[ChangeRecord]:
    """Return the last events, the newest first; what cannot be read is left out.

    Args:
        since_ms: the store's time from which they were told, in epoch milliseconds.

    Raises:
        redis.RedisError, OSError: the store is away.
    """
    entries = client.xrevrange(keys.CHANGES, "+", max(since_ms, 0), count=limit)
    found = [parse_change(fields.get(CHANGE, b"")) for _, fields in entries]
    return [one for one in found if one is not None]


def parse_change(data: bytes) -> ChangeRecord | None:
    """Return an event as it lies in the store; None of what is none."""
    try:
        return msgspec.json.decode(data, type=ChangeRecord)
    except DAMAGED:
        return None
