"""Ids of what lies at a provider, responses and conversations: where each was made, for 30 days.

There may be tens of millions, so each is a *mark* of six bytes within a string: five of a digest of
app, kind and id, by which an app finds its own alone and nobody who reads the store an id; and the
number of who made it, in a list that each day has of its own. By the digest's first bits it lies in
one of 16 *groups*, so that a cluster spreads them, and there in one of the day's *parts*
(`generations.py`). What was noted first holds.

A string grows by `BLOCK` marks at a time, written as a whole: servers give one that is appended to
twice what it needs.
"""

from __future__ import annotations

from telemetry import keys
from telemetry.digests import digest16
from telemetry.generations import MOST_PARTS, Generations
from telemetry.packed import NAME_BYTES, Command

SPAN_S = 86_400
"""A day: a look-up asks 31 spans at most."""
KEPT_S = 30 * SPAN_S
"""As long as OpenAI keeps a response."""
SPREAD_S = 3600
"""Over which a day's strings end: thousands at once would keep a server busy for longer than a
look-up may take."""
GROUPS = keys.STORED_ID_GROUPS
MAKER_BYTES = 8
DIGEST_BYTES = 5
"""Of the digest, the last ones, none of which tells group or part. Among 26 million ids (30 days at
ten a second) one that nobody noted is taken for another once in 10^8 look-ups."""
MARK_BYTES = DIGEST_BYTES + 1
MOST_MAKERS = 255
"""Of a day, in a group; ids of others are known to their routers alone."""
MARKS = 480
"""That a part has on average, where a day is as full as the one before it: 3 KB, so that names and
the server's own bookkeeping come to a third of a byte for each."""
FULL = 720
"""Beyond so many on average a new generation begins."""
BLOCK = 16
COUNTED = 8
"""Each part's marks are counted by so many: most notes are one write then, not two."""
_DAYS = Generations(
    span_s=SPAN_S,
    kept_s=KEPT_S,
    spread_s=SPREAD_S,
    per_part=MARKS,
    full=FULL,
    counted=COUNTED,
    generations="days",
    span="day",
    parts="count",
    began="began",
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
    return ("EVAL", LUA_NOTE, 1, *_place(key), key[-DIGEST_BYTES:], maker, ttl_ms)


def look_up(key: bytes) -> Command:
    """Return the command that replies who made an id, if that is kept."""
    return ("EVAL", LUA_LOOK_UP, 1, *_place(key), key[-DIGEST_BYTES:], key[-NAME_BYTES:])


def _place(key: bytes) -> Command:
    """Return group, name of its strings up to the day, and choice of the part."""
    group = key[0] * GROUPS >> 8
    return keys.stored_ids(group), keys.stored_ids_of(group, ""), int.from_bytes(key[1:3])


# Where a part lies, the number beside a digest in it, and whose that is.
_LUA_MARKS = f"""
local function part_of(day, parts)
  return ARGV[1] .. 'd' .. day .. ':' .. parts .. '.' .. math.floor(ARGV[2] * parts / {MOST_PARTS})
end
local function place_of(wanted, within, size)
  local at = string.find(within, wanted, 1, true)
  while at and at % size ~= 1 do
    at = string.find(within, wanted, at + 1, true)
  end
  return at
end
local function number_in(packed, digest)
  local at = place_of(digest, packed, {MARK_BYTES})
  return at and string.byte(packed, at + {DIGEST_BYTES}) or 0
end
local function maker_of(day, number)
  local makers = redis.call('HGET', KEYS[1], 'makers:' .. day)
  return string.sub(makers, (number - 1) * {MAKER_BYTES} + 1, number * {MAKER_BYTES})
end
"""

# KEYS[1] a group. ARGV: name of its strings up to the day, two bytes that tell the part, digest,
# maker, for how many ms it is kept. Returns what holds: the first writer wins.
#
# Of a group, beside its generations: of each day `makers:<day>`, digests back to back. What
# schema 5 wrote down of its own spans goes once they are over.
LUA_NOTE = (
    _LUA_MARKS
    + _DAYS.lua_current(
        dropped="redis.call('HDEL', KEYS[1], 'makers:' .. old)",
        begun=f"""
  local older = redis.call('HGET', KEYS[1], 'span')
  if older and tonumber(older) < now - {KEPT_S // SPAN_S} then
    redis.call('HDEL', KEYS[1], 'spans', 'span', 'parts', 'since')
  end
""",
    )
    + f"""
local where = part_of(span, parts)
local packed = redis.call('GET', where) or ''
local number = number_in(packed, ARGV[3])
if number > 0 then
  return maker_of(span, number)
end
local makers = redis.call('HGET', KEYS[1], 'makers:' .. span) or ''
number = ((place_of(ARGV[4], makers, {MAKER_BYTES}) or #makers + 1) - 1) / {MAKER_BYTES} + 1
if number > {MOST_MAKERS} then
  return ARGV[4]
end
if number * {MAKER_BYTES} > #makers then
  redis.call('HSET', KEYS[1], 'makers:' .. span, makers .. ARGV[4])
end
local low, high = 0, #packed / {MARK_BYTES}
while low < high do
  local middle = math.floor((low + high) / 2)
  if string.byte(packed, (middle + 1) * {MARK_BYTES}) > 0 then
    low = middle + 1
  else
    high = middle
  end
end
local mark = ARGV[3] .. string.char(number)
if low * {MARK_BYTES} < #packed then
  redis.call('SETRANGE', where, low * {MARK_BYTES}, mark)
else
  redis.call('SET', where, packed .. mark .. string.rep('\\0', {MARK_BYTES * (BLOCK - 1)}))
  {_DAYS.lua_end_of_part("where")}
end
if (low + 1) % {COUNTED} > 0 then
  return ARGV[4]
end
{_DAYS.lua_counted()}
return ARGV[4]
"""
)

# KEYS[1] a group. ARGV: as above up to the digest, then a longer one. Returns what was noted first
# of what is kept. Up to schema 5 each day had hashes, under `spans`, longer digest -> maker.
LUA_LOOK_UP = (
    _LUA_MARKS
    + f"""
local known = redis.call('HMGET', KEYS[1], 'spans', 'days')
for span, parts in string.gmatch(known[1] or '', '(%d+):(%d+)') do
  local part = math.floor(ARGV[2] * parts / {MOST_PARTS})
  local maker = redis.call('HGET', ARGV[1] .. span .. ':' .. parts .. '.' .. part, ARGV[4])
  if maker then
    return maker
  end
end
for day, parts in string.gmatch(known[2] or '', '(%d+):(%d+)') do
  local number = number_in(redis.call('GET', part_of(day, parts)) or '', ARGV[3])
  if number > 0 then
    return maker_of(day, number)
  end
end
return false
"""
)
