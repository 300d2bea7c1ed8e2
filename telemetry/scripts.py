"""The few steps that the store must take atomically.

A script is not rolled back when it fails halfway. So each one checks first and writes last, and
what it writes was built by one process from values of known types.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from telemetry import keys
from telemetry.filling import LUA_FILL
from telemetry.store import Client
from telemetry.topology import spans_slots
from telemetry.young import LUA_ROWS

Argument = bytes | str | int | float

# ARGV from `i` on: commands as name, index into KEYS, number of further arguments, the arguments.
# Seven names are the script's own: ROWS puts rows into a span's hashes and DROP takes hashes away
# (`telemetry/young.py`); FILL and SCORE write many fields or members (`telemetry/filling.py`). THAW
# writes fields that begin with a time, none of which goes back. CHILL deletes fields of a hash that
# still have the value beside them.
_RUN = (
    LUA_ROWS
    + LUA_FILL
    + """
local function run(i)
  while i <= #ARGV do
    local key, n = KEYS[tonumber(ARGV[i + 1])], tonumber(ARGV[i + 2])
    if ARGV[i] == 'ROWS' then
      put_rows(key, i + 3)
    elseif ARGV[i] == 'DROP' then
      drop_rows(i + 3, i + 2 + n)
    elseif ARGV[i] == 'THAW' then
      for j = i + 3, i + 2 + n, 2 do
        local at = string.sub(redis.call('HGET', key, ARGV[j]) or '', 1, 6)
        local value = ARGV[j + 1]
        if at > string.sub(value, 1, 6) then
          value = at .. string.sub(value, 7)
        end
        redis.call('HSET', key, ARGV[j], value)
      end
    elseif ARGV[i] == 'CHILL' then
      for j = i + 3, i + 2 + n, 2 do
        if redis.call('HGET', key, ARGV[j]) == ARGV[j + 1] then
          redis.call('HDEL', key, ARGV[j])
        end
      end
    elseif ARGV[i] == 'FILL' then
      fill(key, tonumber(ARGV[i + 3]), ARGV[i + 4], ARGV[i + 5], ARGV[i + 6])
    elseif ARGV[i] == 'SCORE' then
      score(key, ARGV[i + 3], tonumber(ARGV[i + 4]), ARGV[i + 5])
    else
      redis.call(ARGV[i], key, unpack(ARGV, i + 3, i + 2 + n))
    end
    i = i + 3 + n
  end
end
"""
)

# KEYS[1] meta; the others are what the commands touch. ARGV: expected mark, expected token, new
# mark, then commands.
_COMMIT = (
    _RUN
    + """
local seen = redis.call('HMGET', KEYS[1], 'mark', 'token')
if (seen[1] or '0-0') ~= ARGV[1] or seen[2] ~= ARGV[2] then
  return -1
end
run(4)
redis.call('HSET', KEYS[1], 'mark', ARGV[3])
return redis.call('HINCRBY', KEYS[1], 'version', 1)
"""
)

_WRITE = _RUN + "run(1)"

# KEYS[1] workers. ARGV: the worker, for how many ms its word holds (0: it leaves). By the clock of
# the store, so that the clocks of workers need not agree.
_SIGN_ON = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('PEXPIRE', KEYS[1], 60000)
return redis.call('ZRANGE', KEYS[1], 0, -1)
"""

_CLAIM = """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[3] then
  return held
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
"""

# KEYS[1] watches, KEYS[2] stream of alarms, KEYS[3] labels as of the last look. ARGV: what
# `closed` was seen to be, what it is to be, how many alarms to keep, how many fields and values
# there are of watches and of labels, these, then alarms.
_CLOSE_BUCKET = """
if (redis.call('HGET', KEYS[1], 'closed') or '') ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'closed', ARGV[2])
local watches = 5 + tonumber(ARGV[4])
for i = 6, watches, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
local last = watches + tonumber(ARGV[5])
for i = watches + 1, last, 2 do
  redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
end
for i = last + 1, #ARGV do
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', 'alarm', ARGV[i])
end
return 1
"""

# KEYS[1] prompts, KEYS[2] stream of alarms. ARGV: task, what was seen of it, what it is to be, how
# many alarms to keep, then alarms.
_CHANGE_PROMPTS = """
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
for i = 5, #ARGV do
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'alarm', ARGV[i])
end
return 1
"""

# KEYS[1] meta. ARGV: archived mark that was seen, new one, bytes folded up to it.
# ARGV: the word's moment, its text, whether it is `off`, which is what holds of one moment.
_SAY_SWITCH = """
local function said_at(key)
  local held = redis.call('GET', key)
  return held and (tonumber(string.match(held, '^%d+')) or 0) or -1
end
local at, other = tonumber(ARGV[1]), said_at(KEYS[2])
if at < said_at(KEYS[1]) or at < other or (at == other and ARGV[3] == '0') then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('DEL', KEYS[2])
return 1
"""

_SET_ARCHIVED = """
if (redis.call('HGET', KEYS[1], 'archived') or '0-0') ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'archived', ARGV[2], 'archived_bytes', ARGV[3])
return 1
"""

# KEYS[1] archiver. ARGV: who asks, time to live in ms.
_HOLD = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

ROWS, DROP, THAW, CHILL = "ROWS", "DROP", "THAW", "CHILL"
"""Commands of the commit's own script, for what is young."""
MAX_ARGUMENTS = 1000
"""Arguments of one command inside a commit: `unpack` fails near 8,000."""


def in_parts(arguments: Sequence[Argument]) -> list[Sequence[Argument]]:
    """Split arguments into parts short enough for one command; pairs stay together."""
    return [arguments[i : i + MAX_ARGUMENTS] for i in range(0, len(arguments), MAX_ARGUMENTS)]


class Commit:
    """Commands that take effect together, and only for the holder of the shard.

    State and mark move in one step: a crash before it changes nothing, one after it is invisible.
    """

    def __init__(self, meta: str) -> None:
        self._keys = {meta: 1}
        self._commands: list[Argument] = []

    def add(self, name: str, key: str, *arguments: Argument) -> None:
        """Add a command on `key`; at most `MAX_ARGUMENTS` arguments.

        Raises:
            ValueError: more arguments than a script can pass on.
        """
        if len(arguments) > MAX_ARGUMENTS:
            raise ValueError(f"{name} with {len(arguments)} arguments; split it")
        place = self._keys.setdefault(key, len(self._keys) + 1)
        self._commands += [name, place, len(arguments), *arguments]

    def add_all(self, name: str, key: str, arguments: Sequence[Argument]) -> None:
        """Add a command on `key` as often as it takes for any number of arguments; none for none.

        Pairs stay together.
        """
        for part in in_parts(arguments):
            self.add(name, key, *part)

    def run(self, client: Client, *, mark: bytes, token: int, new_mark: bytes) -> int:
        """Return the new version, or -1 where mark or token show another owner."""
        script = client.register_script(_COMMIT)
        return int(script(keys=list(self._keys), args=[mark, token, new_mark, *self._commands]))

    def write(self, client: Client) -> None:
        """Write without asking who holds the shard: for who restores it, before anybody does."""
        client.register_script(_WRITE)(keys=list(self._keys), args=self._commands)

    def arguments(self, *, mark: bytes, token: int, new_mark: bytes) -> list[Argument]:
        """Return what the script is called with: the number of keys, keys, arguments."""
        return [len(self._keys), *self._keys, mark, token, new_mark, *self._commands]


@dataclass(frozen=True, slots=True)
class Ready:
    """A commit, and under which mark and token it may take effect."""

    commit: Commit
    mark: bytes
    token: int
    new_mark: bytes

    def run(self, client: Client) -> int:
        """Return the new version, or -1."""
        return self.commit.run(client, mark=self.mark, token=self.token, new_mark=self.new_mark)


def run_all(client: Client, commits: list[Ready]) -> list[int]:
    """Run commits of several shards, and tell readers; return each one's version, or -1.

    They are sent at once and stand each for itself. On a cluster one goes after the other, as its
    pipelines run no scripts.

    Raises:
        redis.RedisError: some may have taken effect and others not.
    """
    if spans_slots(client):
        versions = [ready.run(client) for ready in commits]
        client.publish(keys.CHANGED, "")
        return versions
    sha = client.register_script(_COMMIT).sha
    pipeline = client.pipeline(transaction=False)
    for ready in commits:
        mark, token, new_mark = ready.mark, ready.token, ready.new_mark
        arguments = ready.commit.arguments(mark=mark, token=token, new_mark=new_mark)
        pipeline.evalsha(sha, *arguments)
    # Once all are through: a reader that looks at the first would rest before the others. Should
    # the message get lost, the reader looks within a second by itself.
    pipeline.publish(keys.CHANGED, "")
    *found, _ = pipeline.execute(raise_on_error=False)
    versions = []
    for ready, version in zip(commits, found, strict=True):
        if isinstance(version, redis.exceptions.NoScriptError):  # a server that started since
            version = ready.run(client)
        elif isinstance(version, Exception):
            raise version
        versions.append(int(version))
    return versions


def ask(client: Client, commands: list[tuple[Argument, ...]]) -> list[Any]:
    """Return the replies to commands that only read, each with its key second."""
    if not commands:
        return []
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    found: list[Any] = pipeline.execute()
    return found


def sign_on(client: Client, worker: str, *, ttl_ms: int) -> list[str]:
    """Note that a worker is at work for `ttl_ms` (0: no more); return all that are, in order."""
    script = client.register_script(_SIGN_ON)
    return sorted(name.decode() for name in script(keys=[keys.WORKERS], args=[worker, ttl_ms]))


CLAIM = _CLAIM
"""KEYS[1] a draw; ARGV: the draw, its time to live in ms, the draw it may replace. Returns what
holds: the first writer wins."""


def close_bucket(
    client: Client,
    *,
    seen: bytes,
    closed: bytes,
    watches: dict[bytes, bytes],
    looked_at: dict[bytes, bytes],
    alarms: list[bytes],
    keep: int,
) -> bool:
    """Return whether `seen` still was the last bucket closed, and `closed` is now.

    Args:
        watches, looked_at: fields to set, in the same step.
        alarms: what to append to the stream of alarms, in the same step.
        keep: how many alarms the stream holds, about.
    """
    known = [part for pair in watches.items() for part in pair]
    labels = [part for pair in looked_at.items() for part in pair]
    script = client.register_script(_CLOSE_BUCKET)
    arguments = [seen, closed, keep, len(known), len(labels), *known, *labels, *alarms]
    return bool(script(keys=[keys.DRIFT, keys.ALARMS, keys.LOOKED_AT], args=arguments))


def change_prompts(
    client: Client, task: bytes, *, seen: bytes, value: bytes, alarms: list[bytes], keep: int
) -> bool:
    """Return whether what is known of a task's prompts still was `seen`, and is `value` now.

    Args:
        seen: empty where nothing was.
        alarms: what to append to the stream of alarms, in the same step.
        keep: how many alarms the stream holds, about.
    """
    script = client.register_script(_CHANGE_PROMPTS)
    arguments = [task, seen, value, keep, *alarms]
    return bool(script(keys=[keys.PROMPTS, keys.ALARMS], args=arguments))


def say_switch(client: Client, *, off: bool, at_ms: int, text: bytes) -> bool:
    """Return whether the switch has this word now; if not, it has a later one."""
    mine, other = (keys.OFF, keys.ON) if off else (keys.ON, keys.OFF)
    script = client.register_script(_SAY_SWITCH)
    return bool(script(keys=[mine, other], args=[at_ms, text, int(off)]))


def set_archived(client: Client, shard: int, *, seen: bytes, mark: bytes, n_bytes: int) -> bool:
    """Return whether the archived mark still was `seen`, and is `mark` now."""
    script = client.register_script(_SET_ARCHIVED)
    return bool(script(keys=[keys.meta(shard)], args=[seen, mark, n_bytes]))


def hold(client: Client, key: str, *, owner: str, ttl_ms: int) -> bool:
    """Return whether `owner` holds `key`: nobody else did, and it does so for `ttl_ms` more."""
    return bool(client.register_script(_HOLD)(keys=[key], args=[owner, ttl_ms]))
