"""Many fields of a hash, or members of a sorted set, as few arguments of a script.

An argument costs whoever sends it and the store more than the bytes in it. So names of one length
and values travel back to back, and the script takes them apart.
"""

from __future__ import annotations

from collections.abc import Sequence

FILL, SCORE = "FILL", "SCORE"
"""Commands of the commit's own script."""
MOST_VALUE_BYTES = 255
"""One byte tells how long a value is."""

Packed = tuple[int, bytes, bytes, bytes]


def filled(width: int, names: bytes, sizes: Sequence[int], values: bytes) -> Packed:
    """Return the arguments of FILL: fields and values of a hash.

    Args:
        width: bytes of each name.
        names, values: back to back.
        sizes: bytes of each value.
    Raises:
        ValueError: a value is longer than `MOST_VALUE_BYTES`.
    """
    return width, names, bytes(sizes), values


def scored(score: int, width: int, names: bytes) -> tuple[int, int, bytes]:
    """Return the arguments of SCORE: members of a sorted set, all with one score.

    Args:
        width: bytes of each name.
        names: back to back.
    """
    return score, width, names


LUA_FILL = """
local function fill(key, width, names, sizes, values)
  local row, n, at, sub = {}, 0, 1, string.sub
  for j = 1, #sizes do
    local size = string.byte(sizes, j)
    row[n + 1] = sub(names, (j - 1) * width + 1, j * width)
    row[n + 2] = sub(values, at, at + size - 1)
    n, at = n + 2, at + size
    if n == 1000 or j == #sizes then
      redis.call('HSET', key, unpack(row, 1, n))
      n = 0
    end
  end
end
local function score(key, by, width, names)
  local row, n = {}, 0
  for at = 1, #names, width do
    row[n + 1], row[n + 2] = by, string.sub(names, at, at + width - 1)
    n = n + 2
    if n == 1000 or at + width > #names then
      redis.call('ZADD', key, unpack(row, 1, n))
      n = 0
    end
  end
end
"""
