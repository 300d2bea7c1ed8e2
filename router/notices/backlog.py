"""Which notices wait for a receiver, and how far it is: the streams themselves are the queue.

One router at a time sends to a receiver; the others stand by. How far it came lies in the store
and is moved on after each notice, so whoever takes over goes on where that one was. A receiver that
is new begins with what happens from then on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from router.config.notices import Receiver
from router.notices.notice import Notice, notice_of
from telemetry import keys, scripts
from telemetry.digests import digest8
from telemetry.store import Client

MOST = 100
"""WaitingNotice notices of each stream; of more the oldest are dropped."""
HELD_MS = 30_000
"""How long a sender's word holds: six times as long as a notice may take."""
FORGOTTEN_MS = 30 * 86_400_000
USED = "used"
BEGINNING = "0-0"
MOST_DIGITS = 20
MARK = re.compile(rb"\d{1,19}-\d{1,19}")
"""An entry's id. Of what else lies in its place nobody can say how far a receiver is."""

# KEYS[1] sender. ARGV: who leaves.
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return 1
"""


class WaitingNotice(NamedTuple):
    """An entry of a stream that was not sent yet."""

    stream: str
    entry_id: str
    notice: Notice | None  # None: there is nothing to send

    @property
    def order(self) -> tuple[int, int]:
        """When it was told, by the store's clock."""
        return _parts(self.entry_id)


class Backlog:
    """That of one receiver."""

    def __init__(self, client: Client, receiver: Receiver, owner: str) -> None:
        """Read nothing yet.

        Args:
            owner: name of this router.
        """
        self._client, self._owner = client, owner
        self._receiver = f"{digest8('webhook', receiver.url):016x}"
        self.n_dropped = 0  # for there were too many

    def hold(self) -> bool:
        """Return whether this router is the one that sends, for a while more.

        Raises:
            redis.RedisError, OSError: the store is away.
        """
        sender = keys.notice_sender(self._receiver)
        return scripts.hold(self._client, sender, owner=self._owner, ttl_ms=HELD_MS)

    def leave(self) -> None:
        """Let another router send.

        Raises:
            redis.RedisError, OSError: the store is away.
        """
        script = self._client.register_script(_RELEASE)
        script(keys=[keys.notice_sender(self._receiver)], args=[self._owner])

    def read(self, *, now_ms: int) -> list[WaitingNotice]:
        """Return what waits, the oldest first.

        Raises:
            redis.RedisError, OSError: the store is away.
        """
        found: list[WaitingNotice] = []
        known: dict[bytes, bytes] = self._client.hgetall(keys.NOTICES)
        for stream in _streams():
            mark = known.get(self._field(stream).encode())
            if mark is None or not MARK.fullmatch(mark):
                self._begin(stream)
            else:
                found += self._read(stream, mark.decode())
        self._note_use(known, now_ms)
        return sorted(found, key=lambda one: one.order)

    def done(self, waiting: WaitingNotice) -> None:
        """Note that a notice was sent, or is not to be.

        Raises:
            redis.RedisError, OSError: the store is away; it may be sent again.
        """
        self._client.hset(keys.NOTICES, self._field(waiting.stream), waiting.entry_id)

    def _begin(self, stream: str) -> None:
        last = self._client.xrevrange(stream, "+", "-", count=1)
        mark = last[0][0] if last else BEGINNING
        self._client.hset(keys.NOTICES, self._field(stream), mark)

    def _read(self, stream: str, mark: str) -> Iterator[WaitingNotice]:
        entries = self._client.xrange(stream, f"({mark}", "+", count=MOST + 1)
        if len(entries) > MOST:
            newest = self._client.xrevrange(stream, "+", f"({mark}", count=MOST)
            self.n_dropped += len(entries) - MOST
            entries = newest[::-1]
        for raw_id, fields in entries:
            entry_id = raw_id.decode()
            yield WaitingNotice(stream, entry_id, notice_of(stream, entry_id, fields))

    def _field(self, stream: str) -> str:
        return f"{self._receiver}:{_streams()[stream]}"

    def _note_use(self, known: dict[bytes, bytes], now_ms: int) -> None:
        """Note that the receiver is in use, and forget those that were not for a month."""
        own = f"{self._receiver}:{USED}"
        used = {_text(name): int(at) for name, at in known.items() if _is_use(name, at)}
        if abs(now_ms - used.get(own, 0)) > HELD_MS:
            self._client.hset(keys.NOTICES, own, now_ms)
        gone = {
            name.partition(":")[0]
            for name, at in used.items()
            if name != own and now_ms - at > FORGOTTEN_MS
        }
        fields = [name for name in known if _text(name).partition(":")[0] in gone]
        if fields:
            self._client.hdel(keys.NOTICES, *fields)


def _streams() -> dict[str, str]:
    """Return where events are told, and what each stream is called here."""
    return {keys.RELEASES: "releases", keys.ALARMS: "alarms", keys.CHANGES: "changes"}


def _is_use(name: bytes, at: bytes) -> bool:
    return name.endswith(f":{USED}".encode()) and at.isdigit() and len(at) < MOST_DIGITS


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _parts(entry_id: str) -> tuple[int, int]:
    at_ms, _, number = entry_id.partition("-")
    return int(at_ms), int(number or 0)
