"""Whose journal is at its end: its process is gone, and all that it recorded is in the streams.

Whoever sent the last of it says so, together with the numbers at which it ends. Once these are
folded, nothing of that process is on its way any more. Of a journal that was not sent as a whole
nothing is said: of that process nobody knows what it did.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from telemetry import keys
from telemetry.journal import Segment
from telemetry.store import Client

FORGOTTEN_MS = 40 * 86_400_000
"""Longer than learners know producers: what is not folded by then never will be."""

# KEYS[1] ends. ARGV: fields and values, which go where they still are as told.
_FORGET = """
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
"""


@dataclass(frozen=True, slots=True)
class JournalEnd:
    """Where a journal ended."""

    told_ms: int  # by the clock of whoever sent the last of it
    following: tuple[int, ...]  # number of the next record of each shard, and of the audit trail

    def pack(self) -> bytes:
        """Return the value to store."""
        return b"%d:%s" % (self.told_ms, ",".join(map(str, self.following)).encode())

    @classmethod
    def parse(cls, value: bytes) -> JournalEnd:
        """Return the end in a stored value.

        Raises:
            ValueError: it is none.
        """
        told_ms, _, following = value.partition(b":")
        return cls(int(told_ms), tuple(map(int, following.split(b","))))

    def is_forgotten(self, now_ms: int) -> bool:
        """Return whether nobody waits for it any more."""
        return now_ms - self.told_ms > FORGOTTEN_MS


def tell_end(client: Client, last: Segment | None) -> None:
    """Say that a journal was sent up to the end of its last segment; None: it had none to read.

    Raises:
        redis.RedisError, OSError: it may not have been said.
    """
    if last is not None:
        end = JournalEnd(int(time.time() * 1000), tuple(last.bases))
        client.hset(keys.ENDED, last.producer, end.pack())


def read_ends(client: Client) -> dict[bytes, JournalEnd]:
    """Return of whom it was said, those first who were first.

    Raises:
        redis.RedisError: the store is away.
    """
    found = {name: JournalEnd.parse(value) for name, value in client.hgetall(keys.ENDED).items()}
    return dict(sorted(found.items(), key=lambda item: (item[1].told_ms, item[0])))


def forget_ends(client: Client, ends: Mapping[bytes, JournalEnd]) -> None:
    """Forget what was said, where nobody has said anything else since."""
    if ends:
        pairs = [part for name, end in ends.items() for part in (name, end.pack())]
        client.register_script(_FORGET)(keys=[keys.ENDED], args=pairs)
