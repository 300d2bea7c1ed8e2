"""How what is young lies in the store: many small hashes, which the server keeps packed.

A hash of few short fields is one piece of memory, with two or three bytes beside each field; a
large one takes 60 bytes or more for each. So what was said of decisions and what names them lies
in hashes by *span* (two hours of decisions) and *part* (by the first bits of a name, which are
as good as random). How many parts a span has is written down when it begins, from what the one
before it needed. Where that turns out to be too few, a *generation* of at least twice as many
begins; what lies in an earlier one stays there, and whoever looks asks all of the span's: mostly
one.

All of a shard's hashes lie in one slot, so scripts make their names themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from telemetry.errors import MalformedEvent

HOUR_MS = 3_600_000
SPAN_MS = 2 * HOUR_MS
"""A look-up asks each span that is young, 13 by default: 1,000 names in four shards take 150 ms,
and 220 with spans of one hour. A day is whole spans."""
FIELDS = 64
"""Fields that a part has on average, where a span is as full as the one before it. Half of 128,
the least that servers' own configurations keep packed (all three of ours: 512)."""
FULL = 96
"""Beyond so many on average a new generation begins; one part in a thousand has over 128 then."""
LEAST_PARTS = 4
MOST_PARTS = 1 << 16
"""Two bytes tell the part."""
MOST_GROUPED = 500
"""Fields of one command in a script; it takes twice as many arguments, of some 8,000."""
NAME_BYTES = 10
"""Of a decision's nonce, in the hashes of its own span and shard. Eight of them are random: among
10^6 decisions of a span two share them once in 10^7 such spans."""
DIGEST_BYTES = 12
"""Of a reference, the last ones: as many as the archive's index keeps."""
KEPT_DAYS = 37
"""When hashes end that nobody took away: feedback is heard for 30 days, and nobody may have folded
for a week."""
LABELS, REFERENCES = "said", "named"
"""Sorts of hashes, as their names have them (`keys.labels`, `keys.references`)."""


def span_of(at_ms: int) -> int:
    """Return the span of decisions of this time, in milliseconds since the epoch."""
    return at_ms // SPAN_MS


def name_of(nonce: bytes) -> bytes:
    """Return under which name what was said of a decision lies: the last bytes of its nonce."""
    return nonce[-NAME_BYTES:]


def expires_at_s(span: int) -> int:
    """Return when the hashes of a span end by themselves, in epoch seconds."""
    return (span + 1) * SPAN_MS // 1000 + KEPT_DAYS * 86_400


PUT_OVER, PUT_BEHIND = "over", "behind"
"""Whether a row takes the place of an earlier one, or stands behind those of the same name."""
Generations = tuple[int, ...]
"""How many parts each has, oldest first; each has at least twice those of the one before it."""


@dataclass(frozen=True, slots=True)
class YoungSpan:
    """What is written down of one span."""

    labels: Generations = ()
    references: Generations = ()
    mark: bytes = b"0-0"  # of the commit that wrote in it last
    is_rated: bool = False  # something was said in it by raters who are told apart

    @classmethod
    def parse(cls, value: bytes) -> YoungSpan:
        """Return what a stored value says.

        Raises:
            MalformedEvent: it is none.
        """
        try:
            labels, references, mark, rated = value.split(b"|")
            return cls(_numbers(labels), _numbers(references), mark, rated == b"1")
        except ValueError:
            raise MalformedEvent(f"a span of {value!r}") from None

    def pack(self) -> bytes:
        """Return the value to store."""
        parts = [said_as(self.labels), said_as(self.references)]
        return "|".join(parts).encode() + b"|%b|%d" % (self.mark, self.is_rated)

    def of(self, sort: str) -> Generations:
        """Return the generations of one sort of hashes."""
        return self.labels if sort == LABELS else self.references

    def grown(self, sort: str, generations: Generations) -> YoungSpan:
        """Return the span with these generations of one sort."""
        if sort == LABELS:
            return replace(self, labels=generations)
        return replace(self, references=generations)


def first_generation(n_before: int) -> Generations:
    """Return how a span begins, given how many fields the one before it turned out to have."""
    return (min(max(-(-n_before // FIELDS), LEAST_PARTS), MOST_PARTS),)


def grown(generations: Generations, n_fields: int) -> Generations:
    """Return a span's generations, given how many fields the last one would have otherwise."""
    last = generations[-1]
    if n_fields <= FULL * last or last >= MOST_PARTS:
        return generations
    return (*generations, min(max(2 * last, -(-n_fields // FIELDS)), MOST_PARTS))


def size_field(sort: str, span: int, parts: int) -> str:
    """Return under which field it is counted how many fields a generation has."""
    return f"{sort}:{span}:{parts}"


def said_as(generations: Generations) -> str:
    """Return generations as scripts read them."""
    return ",".join(map(str, generations))


def _numbers(text: bytes) -> Generations:
    return tuple(int(part) for part in text.split(b",") if part)


Group = tuple[int, int, int]
"""Names of one part: which, and where they begin and end in an order."""


def columns_of(names: Sequence[bytes], n_last: int) -> NDArray[np.uint8]:
    """Return the last bytes of names of one length, (n, n_last)."""
    whole = np.frombuffer(b"".join(names), dtype=np.uint8).reshape(len(names), -1)
    return whole[:, whole.shape[1] - n_last :]


def grouped(names: NDArray[np.uint8], parts: int) -> tuple[NDArray[np.intp], list[Group]]:
    """Return an order in which names of one part stand together, and the groups in it.

    Equal names stand together, too, in the order in which they came: parts go by the first bits.
    No group is longer than a command may be.

    Args:
        names: (n, n_bytes), of 8 bytes at least.
    """
    first = np.ascontiguousarray(names[:, :8]).view(">u8").reshape(-1).astype(np.uint64)
    order = np.argsort(first, kind="stable")
    found = (first[order] >> np.uint64(48)).astype(np.int64) * parts // MOST_PARTS
    bounds = [0, *((found[1:] != found[:-1]).nonzero()[0] + 1).tolist(), len(found)]
    each = zip(found[bounds[:-1]].tolist(), pairwise(bounds), strict=True)
    out = [
        (part, at, min(at + MOST_GROUPED, end))
        for part, (begin, end) in each
        for at in range(begin, end, MOST_GROUPED)
    ]
    return order, out


_HEAD = np.dtype([("part", ">u2"), ("is_first", "u1"), ("n_names", ">u2")])


def heads(groups: Sequence[Group], known: bytearray) -> bytes:
    """Return groups as a script reads them; note in `known` that their parts are there.

    Args:
        known: 1 where a part was written before, so that it has an end.
    """
    parts, begins, ends = np.array(groups, dtype=np.int64).reshape(-1, 3).T
    out, flags = np.zeros(len(groups), dtype=_HEAD), np.frombuffer(known, dtype=np.uint8)
    out["part"], out["is_first"], out["n_names"] = parts, 1 - flags[parts], ends - begins
    flags[parts] = 1
    return out.tobytes()


# Where a field lies, and all values under one.
LUA_PARTS = """
local function split(text)
  local out = {}
  for part in string.gmatch(text, '%d+') do
    out[#out + 1] = tonumber(part)
  end
  return out
end
local function hash_of(base, parts, field)
  local a, b = string.byte(field, 1, 2)
  return base .. parts .. '.' .. math.floor((a * 256 + b) * parts / 65536)
end
local function values_of(where, field)
  local out, value = {}, redis.call('HGET', where, field)
  while value do
    out[#out + 1] = value
    value = redis.call('HGET', where, field .. string.char(#out))
  end
  return out
end
"""

# Fields of ARGV from `first` on: name of the hashes up to the part, how rows are put, field of
# sizes, when the hashes end, bytes of a field, bytes of a field with its value, groups as `heads`
# has them, fields and values back to back (a tenth of what as many arguments cost). Several values
# of one field follow one another, lie under it and under it with a byte more (1 to 100), so that
# each stays short, and are 101 at most: the oldest go.
LUA_ROWS = (
    LUA_PARTS
    + """
local function append(where, row, i)
  local field = row[i]
  local values = values_of(where, field)
  local from = #values + 1
  while row[i] == field do
    values[#values + 1] = row[i + 1]
    i = i + 2
  end
  local gone = math.max(#values - 101, 0)
  if gone > 0 then
    from = 1
  end
  for k = from, #values - gone do
    redis.call('HSET', where, k == 1 and field or field .. string.char(k - 1), values[k + gone])
  end
  return i
end
local function put_behind(where, row)
  local names, n, is_new = {}, 0, true
  for i = 1, #row, 2 do
    is_new = is_new and row[i] ~= names[n]
    n = n + 1
    names[n] = row[i]
  end
  local known = redis.call('HMGET', where, unpack(names))
  for i = 1, n do
    is_new = is_new and not known[i]
  end
  if is_new then
    return redis.call('HSET', where, unpack(row))
  end
  local added, i = 0, 1
  while i < #row do
    if redis.call('HSETNX', where, row[i], row[i + 1]) == 1 then
      added, i = added + 1, i + 2
    else
      i = append(where, row, i)
    end
  end
  return added
end
local function put_rows(sizes, first)
  local base, is_behind, added = ARGV[first], ARGV[first + 1] == 'behind', 0
  local name, step, sub = tonumber(ARGV[first + 4]), tonumber(ARGV[first + 5]), string.sub
  local heads, packed, at = ARGV[first + 6], ARGV[first + 7], 1
  for i = 1, #heads, 5 do
    local high, low, is_first, many, few = string.byte(heads, i, i + 4)
    local where, row, n = base .. (high * 256 + low), {}, 0
    for k = at, at + (many * 256 + few - 1) * step, step do
      row[n + 1] = sub(packed, k, k + name - 1)
      row[n + 2] = sub(packed, k + name, k + step - 1)
      n = n + 2
    end
    at = at + n / 2 * step
    if is_behind then
      added = added + put_behind(where, row)
    else
      added = added + redis.call('HSET', where, unpack(row, 1, n))
    end
    if is_first == 1 then
      redis.call('EXPIREAT', where, ARGV[first + 3])
    end
  end
  if added > 0 then
    redis.call('HINCRBY', sizes, ARGV[first + 2], added)
  end
end
local function drop_rows(first, last)
  for k = first + 1, last do
    for part = 0, tonumber(ARGV[k]) - 1 do
      redis.call('UNLINK', ARGV[first] .. ARGV[k] .. '.' .. part)
    end
  end
end
"""
)

# KEYS[1] any of the shard. ARGV: name of the hashes up to the part, bytes of a field, then groups:
# part, fields back to back. Returns the values of each group.
LUA_READ = """
local out, size, sub = {}, tonumber(ARGV[2]), string.sub
for i = 3, #ARGV, 2 do
  local names, n, packed = {}, 0, ARGV[i + 1]
  for at = 1, #packed, size do
    n = n + 1
    names[n] = sub(packed, at, at + size - 1)
  end
  out[#out + 1] = redis.call('HMGET', ARGV[1] .. ARGV[i], unpack(names))
end
return out
"""

# KEYS[1] spans, KEYS[2] kinds, KEYS[3] meta. ARGV: name of the hashes up to the span, how many
# fields may be read, about, at how many values of a name no earlier span is asked, then names. It
# asks whole names only, at least one. Returns the id of the table of kinds, what has been young,
# and of each name that it came to what is found.
LUA_LOOK_UP = (
    LUA_PARTS
    + """
local known, spans = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #known, 2 do
  local parts = split(string.match(known[i + 1], '^[%d,]*|([%d,]*)') or '')
  spans[#spans + 1] = { tonumber(known[i]), ARGV[1] .. known[i] .. ':', parts }
end
table.sort(spans, function(a, b) return a[1] > b[1] end)
local out, left, enough = {}, tonumber(ARGV[2]), tonumber(ARGV[3])
for i = 4, #ARGV do
  local found = {}
  for _, span in ipairs(spans) do
    if #found >= enough then
      break
    end
    for _, parts in ipairs(span[3]) do
      for _, value in ipairs(values_of(hash_of(span[2], parts, ARGV[i]), ARGV[i])) do
        found[#found + 1] = value
      end
    end
  end
  out[#out + 1] = found
  left = left - #spans - #found
  if left <= 0 then
    break
  end
end
return { redis.call('HGET', KEYS[2], 'id') or '', redis.call('HGET', KEYS[3], 'young') or '', out }
"""
)
