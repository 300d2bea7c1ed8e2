"""Names of spend tags in the store: as many as it keeps, however many processes tell them."""

from __future__ import annotations

from collections.abc import Mapping

from telemetry import keys
from telemetry.store import Client

# KEYS[1] names of tags. ARGV: how many are kept, then digests and names. Room is counted where it
# is taken: else each of several processes, or of one's lives, would fill the same room.
_TELL = """
local room = tonumber(ARGV[1]) - redis.call('HLEN', KEYS[1])
for i = 2, #ARGV, 2 do
  if room <= 0 then
    return 0
  end
  room = room - redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1])
end
return room
"""


def tell_tags(client: Client, names: Mapping[int, str], *, most: int) -> None:
    """Tell what tags are called, as far as there is room; a name that is there stays.

    Args:
        names: by digest; some thousand at once.
        most: names that the store is to keep.

    Raises:
        redis.RedisError: the store is away, or takes no writes.
    """
    told = [part for digest, name in names.items() for part in (f"{digest:016x}", name)]
    client.register_script(_TELL)(keys=[keys.TAG_NAMES], args=[most, *told])
