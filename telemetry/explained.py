"""Recent decisions in the store, for whoever asks why: bounded in bytes over all who write.

They lie in *segments* of about a 32nd of the bound: a list of packed decisions, and a hash of the
parts that these share, by digest. Whoever writes goes on with the last segment; where that has its
size, or the bound would be passed, the oldest segments go, whole. So nothing that is kept names a
part that is not, and no count of references is needed.

What a segment takes is counted as the most that a server needs for it, its own bookkeeping
included: the store grows by less than the bound, never by more. What is in the bytes is the
router's own affair.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from telemetry import keys
from telemetry.store import Client

SEGMENTS = 32
META_BYTES = 6000
"""Of the hash that lists them."""
SEGMENT_BYTES = 600
"""Of a segment without anything in it: two keys, their times, a list and a hash."""
PART_BYTES = 112
"""Of a field of a hash beside its value: name, entry, and its share of a table that is growing."""
ENTRY_BYTES = 24
"""Of an entry of a list, beside what is in it."""
LARGE_BYTES, NODE_BYTES = 1024, 64
"""Small entries share their server's nodes of 8 KB; larger ones may have one each."""

# KEYS[1] the list of segments. ARGV: bound in bytes, what names begin with, for how many seconds
# all is kept, epoch ms of the earliest decision, the decisions, then digest and body of each part.
# Returns 1, or 0 where the bound has no room for as much at once.
#
# Of it: `first` and `last` segment, `bytes` of all that is there, and of each segment `b` (bytes)
# and `s` (since when). Memory is given out in steps of up to a quarter, so a quarter is
# added, but for what is small and lies close together.
LUA_WRITE = f"""
local function size_of(n)
  return n + math.ceil(n / 4)
end
local function name_of(letter, n)
  return ARGV[2] .. letter .. string.format('%d', n)
end
local known = redis.call('HMGET', KEYS[1], 'first', 'last', 'bytes')
local first, last = tonumber(known[1] or 1), tonumber(known[2] or 0)
local bound, total = tonumber(ARGV[1]), tonumber(known[3] or {META_BYTES})
local function drop()
  local counted = redis.call('HGET', KEYS[1], 'b' .. string.format('%d', first)) or 0
  redis.call('UNLINK', name_of('r', first), name_of('p', first))
  redis.call('HDEL', KEYS[1], 'b' .. string.format('%d', first), 's' .. string.format('%d', first))
  total, first = total - counted, first + 1
end
local rows = #ARGV[5] + {ENTRY_BYTES}
if rows > {LARGE_BYTES} then
  rows = size_of(rows) + {NODE_BYTES}
end
local whole, cost = rows, rows
for i = 6, #ARGV, 2 do
  local part = size_of(#ARGV[i + 1]) + {PART_BYTES}
  whole = whole + part
  if redis.call('HEXISTS', name_of('p', last), ARGV[i]) == 0 then
    cost = cost + part
  end
end
if whole + {META_BYTES + SEGMENT_BYTES} > bound then
  return 0
end
while first < last and redis.call('EXISTS', name_of('r', first)) == 0 do
  drop()
end
local there = redis.call('EXISTS', name_of('r', last)) == 1
local taken = tonumber(redis.call('HGET', KEYS[1], 'b' .. string.format('%d', last)) or 0)
if not there or taken + cost > bound / {SEGMENTS} and taken > {SEGMENT_BYTES} then
  last, taken, cost = last + 1, 0, whole + {SEGMENT_BYTES}
  redis.call('HSET', KEYS[1], 's' .. string.format('%d', last), ARGV[4])
end
while first < last and total + cost > bound do
  drop()
end
redis.call('RPUSH', name_of('r', last), ARGV[5])
for i = 6, #ARGV, 2 do
  redis.call('HSETNX', name_of('p', last), ARGV[i], ARGV[i + 1])
end
redis.call('HSET', KEYS[1], 'first', first, 'last', last, 'bytes', total + cost,
  'b' .. string.format('%d', last), taken + cost)
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('EXPIRE', name_of('r', last), ARGV[3])
redis.call('EXPIRE', name_of('p', last), ARGV[3])
return 1
"""

AT_ONCE_BYTES = 1_000_000
"""Looked through by one script, so that it keeps the server for a millisecond or two."""
# KEYS[1] the decisions of a segment. ARGV: place of the first entry to look at, how many bytes to
# look through, then what is looked for. Returns where to go on, -1 at the end, and the entries in
# which some of it is.
LUA_HOLDING = """
local at, left, found = tonumber(ARGV[1]), tonumber(ARGV[2]), {0}
while left > 0 do
  local some = redis.call('LRANGE', KEYS[1], at, at + 63)
  for i = 1, #some do
    left = left - #some[i] * (#ARGV - 2)
    for j = 3, #ARGV do
      if string.find(some[i], ARGV[j], 1, true) then
        found[#found + 1] = some[i]
        break
      end
    end
  end
  at = at + #some
  if #some < 64 then
    at, left = -1, 0
  end
end
found[1] = at
return found
"""


@dataclass(frozen=True, slots=True)
class DecisionSegment:
    """Some of what is kept, in the order of its writing."""

    number: int
    since_ms: int  # its earliest decision, or of the first batch of it

    def batches(self, client: Client) -> list[bytes]:
        """Return its packed decisions; none where it went meanwhile."""
        found: list[bytes] = client.lrange(keys.explained(f"r{self.number}"), 0, -1)
        return found

    def holding(self, client: Client, wanted: Sequence[bytes]) -> list[bytes]:
        """Return those packed decisions in whose bytes some of these occur, in their order.

        Raises:
            redis.RedisError, OSError: the store is away.
        """
        at, found = 0, []
        while at >= 0 and wanted:
            given = (keys.explained(f"r{self.number}"), at, AT_ONCE_BYTES, *wanted)
            at, *some = client.execute_command("EVAL", LUA_HOLDING, 1, *given)
            found += some
        return found

    def parts(self, client: Client, digests: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return those of these parts that it has."""
        asked = list(digests)
        if not asked:
            return {}
        found = client.hmget(keys.explained(f"p{self.number}"), asked)
        return {d: body for d, body in zip(asked, found, strict=True) if body is not None}


def write(
    client: Client,
    batch: bytes,
    parts: Mapping[bytes, bytes],
    *,
    first_ms: int,
    max_bytes: int,
    keep_s: int,
) -> bool:
    """Write a batch and the parts that it names; return False where it is too large for the bound.

    Args:
        first_ms: of its earliest decision.
        max_bytes: of all that is kept, whoever wrote it.
        keep_s: after so long without a word a segment goes by itself.

    Raises:
        redis.RedisError, OSError: the store is away or takes no writes.
    """
    flat = [each for part in parts.items() for each in part]
    given = (max_bytes, keys.explained(""), keep_s, first_ms, batch, *flat)
    return bool(client.execute_command("EVAL", LUA_WRITE, 1, keys.EXPLAINED, *given))


def segments(client: Client) -> list[DecisionSegment]:
    """Return what is kept, oldest first.

    Raises:
        redis.RedisError, OSError: the store is away.
    """
    known = client.hgetall(keys.EXPLAINED)
    since = {int(name[1:]): int(value) for name, value in known.items() if name[:1] == b"s"}
    return [DecisionSegment(number, since[number]) for number in sorted(since)]


def counted_bytes(client: Client) -> int:
    """Return what is counted against the bound.

    Raises:
        redis.RedisError, OSError: the store is away.
    """
    return int(client.hget(keys.EXPLAINED, "bytes") or 0)


def used_bytes(client: Client) -> tuple[int, int]:
    """Return what the server says it takes: decisions, and parts with the list of segments.

    Raises:
        redis.RedisError, OSError: the store is away, or does not say it.
    """

    def usage(name: str) -> int:
        return int(client.execute_command("MEMORY USAGE", name, "SAMPLES", 0) or 0)

    there = segments(client)
    rows = sum(usage(keys.explained(f"r{each.number}")) for each in there)
    parts = sum(usage(keys.explained(f"p{each.number}")) for each in there)
    return rows, parts + usage(keys.EXPLAINED)
