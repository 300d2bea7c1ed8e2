"""The learner: follows the streams of the shards that it holds and folds them into rows."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from telemetry.store import Address, Client, StoreErrors, connect, prepare
from telemetry.streams import read_streams
from telemetry.writer import Counters, adopt
from workers.held import join
from workers.lease import Lease
from workers.roster import Roster
from workers.shard import NotOwner, Shard

log = structlog.get_logger()

READ_ENTRIES = 16
"""Entries a shard and round: up to 4,096 records, so that a commit stays far below the lease."""
BLOCK_MS = 200
"""Below a third of the lease's renewal time."""
GATHER_S = 0.005
"""Entries gather this long, so that a busy stream does not commit once a frame."""
TAKE_EVERY_S = 0.5
HELD_EVERY_S = 0.2
PRUNE_EVERY_S = 5.0
ADOPT_EVERY_S = 5.0
AWAY_S = 0.25


@dataclass(slots=True)
class Learner:
    """One process that folds its share of the shards, and all of them where it is alone."""

    address: Address
    n_shards: int
    journals: Path  # where processes leave what they could not send
    stop: threading.Event = field(default_factory=threading.Event)
    _held: dict[int, tuple[Shard, Lease]] = field(default_factory=dict)
    _due: dict[str, float] = field(default_factory=dict)

    def run(self) -> None:
        """Fold until `stop` is set; a store that is away is waited for."""
        client = connect(self.address)
        roster = Roster(client, self.n_shards)
        away = False
        while not self.stop.is_set():
            try:
                self._take_shards(client, roster)
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
                self._due.clear()  # it is back once everything that is due succeeds
                self.stop.wait(AWAY_S)
        self._release(roster)

    def _take_shards(self, client: Client, roster: Roster) -> None:
        """Take free shards up to this worker's share, give back what is beyond it.

        Nothing is being folded meanwhile: what a shard's next owner loads is whole.
        """
        for number, (_, lease) in list(self._held.items()):
            if not lease.keep():
                self._lose(number)
        if not self._is_due("take", TAKE_EVERY_S):
            return
        share = roster.sign_on()
        for number in sorted(self._held)[share:]:
            self._held.pop(number)[1].release()
            log.info("shard given back", shard=number)
        if len(self._held) == share:
            return
        prepare(client, shards=self.n_shards)
        for number in range(self.n_shards):
            lease = Lease(client, number, roster.tenure())
            if number not in self._held and len(self._held) < share and lease.take():
                shard = Shard(client, number)
                shard.load()
                self._held[number] = shard, lease
                log.info("folding shard", shard=number, mark=shard.mark.decode())

    def _fold_some(self, client: Client) -> int:
        """Fold the next entries of every held shard; return how many records took effect."""
        if not self._held:
            self.stop.wait(AWAY_S)
            return 0
        marks = {number: shard.mark for number, (shard, _) in self._held.items()}
        found = read_streams(client, marks, count=READ_ENTRIES, block_ms=BLOCK_MS)
        total = 0
        for number, entries in found.items():
            shard, lease = self._held[number]
            try:
                total += shard.fold(entries, token=lease.token)
            except NotOwner:
                self._lose(number)
        return total

    def _keep_house(self, client: Client) -> None:
        now_ms = int(time.time() * 1000)
        if self._is_due("held", HELD_EVERY_S):
            for number in self._held:
                join(client, number, n_shards=self.n_shards, now_ms=now_ms)
        if self._is_due("prune", PRUNE_EVERY_S):
            for number, (shard, lease) in list(self._held.items()):
                try:
                    shard.prune(now_ms=now_ms, token=lease.token)
                except NotOwner:
                    self._lose(number)
        if self._is_due("adopt", ADOPT_EVERY_S):
            adopt(self.journals, client, Counters())

    def _lose(self, number: int) -> None:
        del self._held[number]
        log.warning("shard is another's now", shard=number)

    def _release(self, roster: Roster) -> None:
        try:
            for _, lease in self._held.values():
                lease.release()
            roster.leave()
        except StoreErrors:
            return  # lease and entry end by themselves

    def _is_due(self, what: str, every_s: float) -> bool:
        now = time.monotonic()
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = now + every_s
        return True
