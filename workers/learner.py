"""The learner: follows the streams of the shards that it holds and folds them into rows."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from telemetry import keys
from telemetry.store import Address, Client, StoreErrors, connect, prepare
from telemetry.writer import Counters, adopt
from workers.held import join
from workers.lease import Lease
from workers.shard import NotOwner, Shard, most_unarchived

log = structlog.get_logger()

READ_ENTRIES = 16
"""Entries a shard and round: up to 4,096 records, so that a commit stays far below the lease."""
BLOCK_MS = 200
"""Below a third of the lease's renewal time."""
GATHER_S = 0.003
"""Entries gather this long, so that a busy stream does not commit once a frame."""
TAKE_EVERY_S = 0.5
HELD_EVERY_S = 0.2
PRUNE_EVERY_S = 5.0
ADOPT_EVERY_S = 5.0
AWAY_S = 0.25


@dataclass(slots=True)
class Learner:
    """One process that folds whatever shards it can get hold of."""

    address: Address
    n_shards: int
    journals: Path  # where processes leave what they could not send
    stop: threading.Event = field(default_factory=threading.Event)
    _held: dict[int, tuple[Shard, Lease]] = field(default_factory=dict)
    _due: dict[str, float] = field(default_factory=dict)

    def run(self) -> None:
        """Fold until `stop` is set; a store that is away is waited for."""
        client = connect(self.address)
        away = False
        while not self.stop.is_set():
            try:
                if away:
                    client.ping()
                self._take_shards(client)
                if self._fold_some(client):
                    self.stop.wait(GATHER_S)
                self._keep_house(client)
                if away:
                    log.info("store is back")
                away = False
            except StoreErrors as error:
                if not away:
                    log.warning("store is away", reason=type(error).__name__)
                away = True
                self._held.clear()
                self.stop.wait(AWAY_S)
        self._release()

    def _take_shards(self, client: Client) -> None:
        """Take every shard that nobody holds; renew those held, give up those lost."""
        for number, (_, lease) in list(self._held.items()):
            if not lease.keep():
                self._lose(number)
        if not self._is_due("take", TAKE_EVERY_S) or len(self._held) == self.n_shards:
            return
        prepare(client, shards=self.n_shards)
        for number in range(self.n_shards):
            lease = Lease(client, number)
            if number not in self._held and lease.take():
                shard = Shard(client, number)
                shard.load()
                self._held[number] = shard, lease
                log.info("folding shard", shard=number, mark=shard.mark.decode())

    def _fold_some(self, client: Client) -> bool:
        """Fold the next entries of every held shard; return whether to let more of them gather."""
        if not self._held:
            self.stop.wait(AWAY_S)
            return False
        marks = {keys.stream(n): shard.mark for n, (shard, _) in self._held.items()}
        replies = client.xread(marks, count=READ_ENTRIES, block=BLOCK_MS)
        by_stream = {name.decode(): entries for name, entries in _pairs(replies)}
        most = max(map(len, by_stream.values()), default=READ_ENTRIES)
        for number, (shard, lease) in list(self._held.items()):
            entries = by_stream.get(keys.stream(number))
            if not entries:
                continue
            try:
                shard.fold(entries, token=lease.token)
            except NotOwner:
                self._lose(number)
        if by_stream:
            # Once all shards are through: a reader that looks at the first would rest before the
            # others. Should the message get lost, the reader looks 40 ms after its last look.
            client.publish(keys.CHANGED, "")
        return most < READ_ENTRIES

    def _keep_house(self, client: Client) -> None:
        now_ms = int(time.time() * 1000)
        if self._is_due("held", HELD_EVERY_S):
            for number in self._held:
                join(client, number, n_shards=self.n_shards, now_ms=now_ms)
        if self._is_due("prune", PRUNE_EVERY_S):
            most_bytes = most_unarchived(client, self.n_shards)
            for number, (shard, lease) in list(self._held.items()):
                try:
                    shard.prune(token=lease.token, most_bytes=most_bytes)
                except NotOwner:
                    self._lose(number)
        if self._is_due("adopt", ADOPT_EVERY_S):
            adopt(self.journals, client, Counters())

    def _lose(self, number: int) -> None:
        del self._held[number]
        log.warning("shard is another's now", shard=number)

    def _release(self) -> None:
        for _, lease in self._held.values():
            try:
                lease.release()
            except StoreErrors:
                return  # the lease ends by itself

    def _is_due(self, what: str, every_s: float) -> bool:
        now = time.monotonic()
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = now + every_s
        return True


def _pairs(replies: object) -> list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]]:
    """Return stream replies as pairs, whichever protocol version the client speaks."""
    if isinstance(replies, dict):
        return [(name, entries[0]) for name, entries in replies.items()]
    return list(replies or [])  # type: ignore[call-overload, no-any-return]
