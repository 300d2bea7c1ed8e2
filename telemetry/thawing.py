"""The few steps by which what is old is put back, each of them whole or not at all.

Who does so holds no shard: so each step sees for itself that what it rests on still holds.
"""

from __future__ import annotations

from collections.abc import Mapping

from telemetry import keys
from telemetry.store import Client

# KEYS[1] meta, KEYS[2] thawed, KEYS[3] stream. ARGV: archived mark that was seen, number of rows,
# nonces and rows, frame. What was put back before may hold newer words than the row at hand: it
# stays, and is taken as put back with the frame, so that it is not dropped before that is folded:
# whoever drops goes by the time of entries. What was dropped is in the archive up to its mark at
# that time: so that must not have moved.
_PUT_BACK = """
if (redis.call('HGET', KEYS[1], 'archived') or '0-0') ~= ARGV[1] then
  return false
end
local last = 2 + 2 * tonumber(ARGV[2])
local entry, stamp = redis.call('XADD', KEYS[3], '*', 'f', ARGV[last + 1]), ''
local now = tonumber(string.match(entry, '^%d+'))
for _ = 1, 6 do
  stamp = string.char(now % 256) .. stamp
  now = math.floor(now / 256)
end
for i = 3, last, 2 do
  local held = redis.call('HGET', KEYS[2], ARGV[i])
  redis.call('HSET', KEYS[2], ARGV[i], stamp .. (held and string.sub(held, 7) or ARGV[i + 1]))
end
return entry
"""

# KEYS[1] meta, KEYS[2] cold, KEYS[3] dead. ARGV: how many dead letters to keep, reason, fields.
_GIVE_UP = """
local n = 0
for i = 3, #ARGV do
  local raw = redis.call('HGET', KEYS[2], ARGV[i])
  if raw then
    redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[1], '*', 'reason', ARGV[2], 'raw', raw)
    redis.call('HDEL', KEYS[2], ARGV[i])
    n = n + 1
  end
end
if n > 0 then
  redis.call('HINCRBY', KEYS[1], 'n_unknown_old', n)
end
return n
"""

# KEYS[1] held, KEYS[2] chosen, KEYS[3] due. ARGV: event, what it was found to mean.
_CHOOSE = """
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 or redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then
  return 0
end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[3], 0, ARGV[1])
return 1
"""

# KEYS: held, chosen, due, dead, meta, sought. ARGV: event, how many dead letters to keep, reason.
_REFUSE = """
local raw = redis.call('HGET', KEYS[1], ARGV[1])
if not raw or redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then
  return 0
end
redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[2], '*', 'reason', ARGV[3], 'raw', raw)
redis.call('HINCRBY', KEYS[5], 'n_' .. ARGV[3], 1)
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[6], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
return 1
"""


def put_back(
    client: Client, shard: int, rows: Mapping[bytes, bytes], frame: bytes, *, archived: bytes
) -> bytes | None:
    """Put back what was said of old decisions, and send a frame that says more of them.

    Args:
        rows: by nonce, as of an archive that is at `archived` or further.
        archived: the shard's archived mark, as it was before the archive was read.
    Returns:
        The id of the frame's entry; None where the archive moved on, and nothing was done.
    """
    names = [keys.meta(shard), keys.thawed(shard), keys.stream(shard)]
    pairs = [part for pair in rows.items() for part in pair]
    arguments = [archived, len(rows), *pairs, frame]
    entry: bytes | None = client.register_script(_PUT_BACK)(keys=names, args=arguments)
    return entry


def give_up(client: Client, shard: int, fields: list[bytes], *, reason: str, keep: int) -> int:
    """Make dead letters of feedback for old decisions that is kept; return of how many.

    Args:
        keep: dead letters, about.
    """
    names = [keys.meta(shard), keys.cold(shard), keys.dead(shard)]
    return int(client.register_script(_GIVE_UP)(keys=names, args=[keep, reason, *fields]))


def choose(client: Client, shard: int, event: bytes, resolution: bytes) -> bool:
    """Say what feedback by reference means, unless it does not wait, or that was said already.

    Whoever holds the shard sends it there at the next look.
    """
    names = [keys.held(shard), keys.chosen(shard), keys.due(shard)]
    return bool(client.register_script(_CHOOSE)(keys=names, args=[event, resolution]))


def refuse(client: Client, shard: int, event: bytes, *, reason: str, keep: int) -> bool:
    """Make a dead letter of feedback by reference that means no one decision, if it waits.

    Args:
        reason: as counters name it.
        keep: dead letters, about.
    """
    names = [keys.held(shard), keys.chosen(shard), keys.due(shard)]
    names += [keys.dead(shard), keys.meta(shard), keys.sought(shard)]
    return bool(client.register_script(_REFUSE)(keys=names, args=[event, keep, reason]))
