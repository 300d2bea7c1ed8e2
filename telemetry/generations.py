"""How many parts a span of time has, of what lies packed in the store.

How many is chosen when a span begins, from what the one before it came to. Where that is too few, a
*generation* of at least twice as many begins, and whoever looks asks all of them. A wrong guess
costs memory, never truth.

Spans go by the store's clock: routers' own would differ.
"""

from __future__ import annotations

from dataclasses import dataclass

MOST_PARTS = 1 << 16
"""Two bytes tell the part."""
MOST_GROWTH = 8
"""A generation has at most so many times the parts of the one before it, however fast that filled:
a burst of a second is no reason to expect a whole span of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generations:
    """The steps by which spans and generations begin, within a script that notes something.

    KEYS[1] is the hash that says what there is. Of it: all generations, oldest first, each as
    `span:parts`; span and parts of the last one; about how many values its span has (`n`), at how
    many the next one begins (`limit`), and when (epoch seconds) and at which `n` it began itself.
    """

    span_s: int
    kept_s: int  # in whole spans
    spread_s: int  # over which the parts of a span end, by two bytes that tell the part
    per_part: int  # values on average, where a span is as full as the one before it
    full: int  # values on average beyond which a generation begins
    counted: int  # by so many are values counted: most notes are one write then, not two
    generations: str  # names of the fields
    span: str
    parts: str
    began: str

    def lua_current(self, *, dropped: str = "", begun: str = "") -> str:
        """Return the step that finds the span at hand, and begins one where it is another one.

        It sets `at` (epoch seconds), `now` (the span of that), `span`, `parts` and `limit`, and
        takes from ARGV[5] for how many ms a value is kept.

        Nothing goes back to a span that ended, also what was noted in it and is written late, while
        it is kept; only a clock that was set back by more does, or all would stay until it has
        caught up.

        Args:
            dropped: done with each span `old` that is kept no longer.
            begun: done when one begins, before anything is said of it.
        """
        kept_spans = self.kept_s // self.span_s
        return f"""
local at = redis.call('TIME')[1] + ARGV[5] / 1000 - {self.kept_s}
local last = redis.call('HMGET', KEYS[1], '{self.span}', '{self.parts}', 'limit')
local now, span, parts, limit = math.floor(at / {self.span_s}), last[1], last[2], tonumber(last[3])
if not span or now > tonumber(span) or now < span - {kept_spans} then
  local before, kept = redis.call('HMGET', KEYS[1], '{self.generations}', 'n'), ''
  for old, n in string.gmatch(before[1] or '', '(%d+):(%d+)') do
    if tonumber(old) >= now - {kept_spans} then
      kept = kept .. old .. ':' .. n .. ' '
    else
      {dropped}
    end
  end
  {begun}
  span = now
  parts = math.min(math.max(math.ceil((before[2] or 0) / {self.per_part}), 1), {MOST_PARTS})
  limit = {self.full} * parts
  redis.call('HSET', KEYS[1], '{self.span}', span, '{self.parts}', parts,
    '{self.generations}', kept .. span .. ':' .. parts,
    'n', 0, 'limit', limit, '{self.began}', math.floor(at), 'from', 0)
  redis.call('EXPIREAT', KEYS[1], (span + 1) * {self.span_s} + {self.kept_s + self.spread_s})
end
"""

    def lua_end_of_part(self, where: str) -> str:
        """Return the step that lets a new part end, spread by the two bytes of ARGV[2]."""
        return f"""
local spread = math.floor(ARGV[2] * {self.spread_s} / {MOST_PARTS})
redis.call('EXPIREAT', {where}, (span + 1) * {self.span_s} + {self.kept_s} + spread)
"""

    def lua_counted(self) -> str:
        """Return the step that counts `counted` values more, and begins a generation where full."""
        return f"""
local n = redis.call('HINCRBY', KEYS[1], 'n', {self.counted})
if n >= limit and parts * 2 <= {MOST_PARTS} then
  last = redis.call('HMGET', KEYS[1], '{self.generations}', '{self.began}', 'from')
  local left = math.max((span + 1) * {self.span_s} - at, 0)
  local expected = (n - last[3]) / math.max(at - last[2], 1) * left
  local more = math.max(math.ceil(expected / {self.per_part}), parts * 2)
  more = math.min(more, parts * {MOST_GROWTH}, {MOST_PARTS})
  redis.call('HSET', KEYS[1], '{self.parts}', more,
    '{self.generations}', last[1] .. ' ' .. span .. ':' .. more,
    'limit', n + {self.full} * more, '{self.began}', math.floor(at), 'from', n)
end
"""
