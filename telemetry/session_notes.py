"""What the calls of a declared session said, as the store keeps it: one small string a session.

It says since when the session runs, which task it has, and which classes of data its calls named.
A task is the first that anybody wrote, and a class stays: so the order of routers does not matter.
Where words of a first call may give the task, that call opens the session: of several, one does.
A class is told to all routers, as one that knew the session before would not ask for it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from telemetry import keys
from telemetry.packed import Command

BETWEEN = "\x1f"
OPENED = "\x1e"
"""In the place of a task: a call of the session came, and gave it none."""
OURS = b"1"
"""What the reply begins with to who opened a session."""
TOLD_MS = 10_000
"""For so long others may learn of a class by asking what was raised of late."""

# KEYS[1] what a session said. ARGV: since when it runs, in ms; a task and a class, or nothing each;
# ms to live; a task that is taken back, if it has that by who opened it at that time, or nothing.
# Replies what holds now.
LUA_NOTE = r"""
local began, task, classes = ARGV[1], ARGV[2], ARGV[3]
local held = redis.call('GET', KEYS[1])
if held then
  local b, t, c = string.match(held, '^(%d+)\31([^\31]*)\31?(.*)$')
  if b then
    if b == began and t == ARGV[5] then
      t = ''
    end
    began = b
    if t ~= '' and (t ~= '\30' or task == '') then
      task = t
    end
    if classes == '' or string.find('\31' .. c .. '\31', '\31' .. classes .. '\31', 1, true) then
      classes = c
    elseif c ~= '' then
      classes = c .. '\31' .. classes
    end
  end
end
local said = began .. '\31' .. task
if classes ~= '' then
  said = said .. '\31' .. classes
end
redis.call('SET', KEYS[1], said, 'PX', ARGV[4])
return said
"""

# KEYS[1] what a session said. ARGV: now, in ms; a task, or that it has none; ms to live. Replies 1
# if no call had opened it, else 0, and what holds now.
LUA_OPEN = r"""
local classes = ''
local held = redis.call('GET', KEYS[1])
if held then
  local b, t, c = string.match(held, '^(%d+)\31([^\31]*)(.*)$')
  if b and t ~= '' then
    return '0' .. held
  end
  classes = c or ''
end
local said = ARGV[1] .. '\31' .. ARGV[2] .. classes
redis.call('SET', KEYS[1], said, 'PX', ARGV[3])
return '1' .. said
"""

# KEYS[1] whose class was raised of late. ARGV: a session's key, ms that it is kept. The time is the
# store's: routers' own would differ.
LUA_TELL = r"""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return ARGV[1]
"""


class SessionNote(Struct, frozen=True):
    """What a session's calls said."""

    began_ms: int  # epoch milliseconds of the store's clock
    task: str = ""
    classes: tuple[str, ...] = ()  # of data, by name

    def pack(self) -> bytes:
        """Return the note as it is stored."""
        return BETWEEN.join((str(self.began_ms), self.task, *self.classes)).encode()

    @classmethod
    def unpack(cls, raw: bytes) -> SessionNote | None:
        """Return a stored note, or None where it cannot be read."""
        try:
            began, task, *classes = raw.decode().split(BETWEEN)
            return cls(int(began), task, tuple(classes))
        except ValueError:
            return None

    def and_also(self, other: SessionNote) -> SessionNote:
        """Return this note with what another says; of two tasks this one's."""
        classes = tuple(dict.fromkeys((*self.classes, *other.classes)))
        task = self.task if self.has_task else other.task or self.task
        return SessionNote(min(self.began_ms, other.began_ms), task, classes)

    @property
    def has_task(self) -> bool:
        """Whether some call gave it one."""
        return self.task not in ("", OPENED)


def look_up(key: bytes) -> Command:
    """Return the command that replies what a session said, if that is kept."""
    return ("GET", keys.session(key.hex()))


def note(
    key: bytes, *, began_ms: int, task: str, data_class: str, ttl_ms: int, instead_of: str = ""
) -> Command:
    """Return the command that notes what a session said; it replies all that holds.

    Args:
        instead_of: a task that it has only if it was opened with it at `began_ms`, by a call that
            did not hear so.
    """
    place = keys.session(key.hex())
    return ("EVAL", LUA_NOTE, 1, place, began_ms, task, data_class, ttl_ms, instead_of)


def open_first(key: bytes, *, at_ms: int, task: str, ttl_ms: int) -> Command:
    """Return the command that opens a session unless a call did.

    It replies `OURS` or another byte, then all that holds.

    Args:
        task: that the session has from then on, or `OPENED`.
    """
    return ("EVAL", LUA_OPEN, 1, keys.session(key.hex()), at_ms, task, ttl_ms)


def tell(key: bytes) -> Command:
    """Return the command that has all routers ask again what a session said, or a unit was given.

    Args:
        key: the session's or the unit's.
    """
    return ("EVAL", LUA_TELL, 1, keys.RAISED, key, TOLD_MS)


def told() -> Command:
    """Return the command that replies the keys of sessions to ask for again, and when each rose."""
    return ("ZRANGE", keys.RAISED, 0, -1, "WITHSCORES")


def prolong(key: bytes, ttl_ms: int) -> Command:
    """Return the command that pushes out when a note ends."""
    return ("PEXPIRE", keys.session(key.hex()), ttl_ms)


def pairs_in(reply: Sequence[object]) -> Iterator[tuple[bytes, float]]:
    """Yield members and scores; a client of a later protocol has them in pairs already."""
    flat = [x for one in reply for x in (one if isinstance(one, list | tuple) else (one,))]
    for key, score in zip(flat[::2], flat[1::2], strict=True):
        if isinstance(key, bytes) and isinstance(score, bytes | float | int):
            yield key, float(score)
