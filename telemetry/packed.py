"""How values that are noted once lie in the store: packed, in hashes that end by themselves.

Each is known by a key of 16 random bytes. By the first four bits it lies in one of 16 *groups*, so
that a cluster spreads them; of a group in the hashes of the *span* of time in which it was noted,
which has *parts* and *generations* of them (`generations.py`). To note costs the same however much
there is: what lies in another span or generation is not looked at, and may lie in several; what was
noted first holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from telemetry.generations import MOST_PARTS, Generations
from telemetry.store import Client

FIELDS = 64
"""Fields that a part has on average, where a span is as full as the one before it. Half of 128,
the least that servers' own configurations keep packed."""
FULL = 96
"""Beyond so many on average a new generation begins; one part in a thousand has over 128 then."""
COUNTED = 4
"""Each hash's fields are counted by so many: most notes are one write then, not two."""
NAME_BYTES = 8
"""Of the key, the last ones, none of which tells group or part: among 10^7 things a day one is
taken for another once in 10^6 years."""

LOOKED_AT = 200
"""Hashes looked at in one round trip, where all are: together less than a thousandth of a second
of the server's time each."""

Command = tuple[bytes | str | int, ...]


class PackedIndex:
    """Values of one sort by key: how they are noted, and looked up."""

    def __init__(
        self,
        groups: int,
        group_name: Callable[[int], str],
        part_name: Callable[[int, str], str],
        *,
        span_s: int,
        kept_s: int,
        spread_s: int,
    ) -> None:
        """Make the scripts.

        Args:
            groups: how many there are, at most 16.
            group_name: of a group's own hash.
            part_name: of a hash of a group, by what follows; "" for what all names begin with.
            span_s: of one span.
            kept_s: how long a value is kept at least, in whole spans.
            spread_s: a span's hashes end one after the other over this time: ten thousand at once
                would keep a server busy for longer than a look-up may take.
        """
        self._groups = groups
        self._group_name = group_name
        self._part_name = part_name
        self.lua_note = _lua_note(
            Generations(
                span_s=span_s,
                kept_s=kept_s,
                spread_s=spread_s,
                per_part=FIELDS,
                full=FULL,
                counted=COUNTED,
                generations="spans",
                span="span",
                parts="parts",
                began="since",
            )
        )

    def note(self, key: bytes, value: bytes, *, ttl_ms: int) -> Command:
        """Return the command that notes a value, unless one is known; it replies what holds.

        Args:
            key: 16 bytes, as good as random.
            value: at most 64 bytes.
            ttl_ms: for how long it is kept at least; `kept_s` but for what is written late.
        """
        return ("EVAL", self.lua_note, 1, *self._place(key), value, ttl_ms)

    def look_up(self, key: bytes) -> Command:
        """Return the command that replies what was noted, or nothing where that is not kept."""
        return ("EVAL", LUA_LOOK_UP, 1, *self._place(key))

    def drop_ending(self, client: Client, end: bytes) -> int:
        """Delete what lies under keys that end so; return how many there were.

        Raises:
            redis.RedisError: the store is away, or takes no writes; some may be gone.
        """
        n = 0
        for names in self._hashes(client):
            pipeline = client.pipeline(transaction=False)
            for name in names:
                pipeline.hkeys(name)
            found = zip(names, pipeline.execute(), strict=True)
            pipeline = client.pipeline(transaction=False)
            for name, fields in found:
                if gone := [field for field in fields if field.endswith(end)]:
                    pipeline.hdel(name, *gone)
            n += sum(pipeline.execute())
        return n

    def _hashes(self, client: Client) -> Iterator[list[str]]:
        """Yield the names of all hashes that hold something, some at a time."""
        for group in range(self._groups):
            spans, names = client.hget(self._group_name(group), "spans") or b"", []
            for span in spans.decode().split():
                parts = int(span.partition(":")[2])
                names += [self._part_name(group, f"{span}.{part}") for part in range(parts)]
            for start in range(0, len(names), LOOKED_AT):
                yield names[start : start + LOOKED_AT]

    def _place(self, key: bytes) -> Command:
        """Return group, name of its hashes up to the span, choice of the part, and field."""
        group = key[0] * self._groups >> 8
        return (
            self._group_name(group),
            self._part_name(group, ""),
            int.from_bytes(key[1:3]),
            key[-NAME_BYTES:],
        )


# KEYS[1] a group. ARGV: name of its hashes up to the span, two bytes that tell the part, field,
# value, for how many ms it is kept. Returns what holds: the first writer wins.
def _lua_note(spans: Generations) -> str:
    return f"""
{spans.lua_current()}
local where = ARGV[1] .. span .. ':' .. parts .. '.' .. math.floor(ARGV[2] * parts / {MOST_PARTS})
if redis.call('HSETNX', where, ARGV[3], ARGV[4]) == 0 then
  return redis.call('HGET', where, ARGV[3])
end
local fields = redis.call('HLEN', where)
if fields == 1 then
  {spans.lua_end_of_part("where")}
end
if fields % {COUNTED} > 0 then
  return ARGV[4]
end
{spans.lua_counted()}
return ARGV[4]
"""


# KEYS[1] a group. ARGV: as above, up to the field. Returns what was noted first of what is kept.
LUA_LOOK_UP = f"""
local spans = redis.call('HGET', KEYS[1], 'spans')
for span, parts in string.gmatch(spans or '', '(%d+):(%d+)') do
  local part = math.floor(ARGV[2] * parts / {MOST_PARTS})
  local value = redis.call('HGET', ARGV[1] .. span .. ':' .. parts .. '.' .. part, ARGV[3])
  if value then
    return value
  end
end
return false
"""
