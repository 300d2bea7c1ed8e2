"""What release keys stand at: changed in one step with what is announced, and what waits."""

from __future__ import annotations

from telemetry import keys
from telemetry.store import Client

# KEYS[1] standings, KEYS[2] releases, KEYS[3] proposals. ARGV: scope, version that was read, new
# value, how many releases to keep, how many fields and values are told and how many proposals end,
# these, then ids and values of open proposals. A value that cannot be read counts as version 0.
_CHANGE_STANDINGS = """
local held = redis.call('HGET', KEYS[1], ARGV[1])
local version = 0
if held then
  local readable, value = pcall(cjson.decode, held)
  if readable and type(value) == 'table' then
    version = tonumber(value['version']) or 0
  end
end
if version ~= tonumber(ARGV[2]) then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
local told, gone = 6 + tonumber(ARGV[5]), 6 + tonumber(ARGV[5]) + tonumber(ARGV[6])
for i = 7, told, 2 do
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', ARGV[i], ARGV[i + 1])
end
for i = told + 1, gone do
  redis.call('HDEL', KEYS[3], ARGV[i])
end
for i = gone + 1, #ARGV, 2 do
  redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
end
return 1
"""


def change_standings(
    client: Client,
    scope: str,
    *,
    seen: int,
    value: bytes,
    told: list[tuple[str, bytes]],
    gone: list[str],
    proposals: dict[str, bytes],
    keep: int,
) -> bool:
    """Return whether a scope's standings were still of version `seen`, and are `value` now.

    Args:
        told: what to append to the stream of releases, each under a field, in the same step.
        gone: ids of proposals that end, in the same step.
        proposals: those that are open, by id.
        keep: how many releases the stream holds, about.
    """
    script = client.register_script(_CHANGE_STANDINGS)
    fields = [part for pair in told for part in pair]
    known = [part for pair in proposals.items() for part in pair]
    arguments = [scope, seen, value, keep, len(fields), len(gone), *fields, *gone, *known]
    return bool(script(keys=[keys.STANDINGS, keys.RELEASES, keys.PROPOSALS], args=arguments))
