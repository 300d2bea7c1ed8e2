"""The learner: follows the streams of the shards that it holds and folds them into rows."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from telemetry import keys
from telemetry.clock import StoreClock
from telemetry.kept_secrets import SecretsFile
from telemetry.pacer import Pacer
from telemetry.passed import forget_silent
from telemetry.secret import StoreSecret
from telemetry.store import Address, Client, StoreErrors, connect, prepare
from telemetry.topology import spans_slots
from telemetry.trouble import trouble_of
from telemetry.writer import Counters, adopt
from workers.folding.held import References, take_up
from workers.folding.history import EVERYTHING_HOURS
from workers.folding.lanes import fold_abreast, fold_round
from workers.folding.lease import Lease, keep_all
from workers.folding.memory import StoreMemory
from workers.folding.roster import Roster
from workers.folding.shard import NotOwner, Shard
from workers.folding.spending import MOST_NAMES
from workers.folding.trimming import most_unarchived

log = structlog.get_logger()

BLOCK_MS = 500
"""The lease's renewal time, and that of a look at who else is at work."""
FRESH_S, BUSY = 0.18, 5.4
"""How long entries gather at most, below a thousand events a second, and how much shorter at ten
thousand: with what writers and readers rest 250 and 150 ms are kept."""
ROUND_SHARE = 0.005
"""Of a core, for the fixed cost of rounds: to the store and to each reader one costs as much again.
"""
TAKE_EVERY_S = 0.5
HELD_EVERY_S = 0.5
HELD_IDLE_S = 1.0
"""Where nothing was folded here since, another worker may have folded what is waited for."""
NONE_HELD_S = 5.0
"""Where nothing is known to wait."""
PRUNE_EVERY_S = 5.0
MEASURE_EVERY_S = 10.0
"""What takes the store's memory: 5 ms of it and of us."""
IDLE_AFTER_S, IDLE_TIMES = 60.0, 4.0
"""Where nothing was folded for so long, both are so much rarer: only what others do changes then.
"""
ADOPT_EVERY_S = 5.0
AWAY_S = 0.25
ASK_TIME_EVERY_S = 5.0


@dataclass(slots=True)
class Joins:
    """When to look whether it is settled what held feedback means."""

    n_waiting: int = 0  # at the last look
    is_unsettled: bool = False  # then some waits only for others to get on
    _news: bool = True  # something was folded since
    _looked_at: float = float("-inf")

    def are_due(self, n_folded: int, now: float) -> bool:
        """Return whether it is time; after that it counts as done."""
        self._news |= n_folded > 0
        is_close = self._news or self.is_unsettled
        every_s = HELD_EVERY_S if is_close else HELD_IDLE_S if self.n_waiting else NONE_HELD_S
        if now - self._looked_at < every_s:
            return False
        self._news, self._looked_at = False, now
        return True


@dataclass(slots=True)
class Learner:
    """One process that folds its share of the shards, and all of them where it is alone."""

    address: Address
    n_shards: int
    journals: Path  # where processes leave what they could not send
    stop: threading.Event = field(default_factory=threading.Event)
    clock: Callable[[], float] = time.monotonic
    owner: str = field(default_factory=lambda: secrets.token_hex(8))
    counters: Counters = field(default_factory=Counters)  # of the journals that it adopted
    young_hours: int = EVERYTHING_HOURS  # for how long decisions are young, where there is room
    max_mb: int = 0  # of memory that the store may use; 0: as its servers say
    _held: dict[int, tuple[Shard, Lease]] = field(default_factory=dict)
    _lost: dict[int, dict[bytes, int]] = field(default_factory=dict)  # shard -> its producers
    _due: dict[str, float] = field(default_factory=dict)
    _folded_at: float = field(init=False)  # when anything was last
    _incarnation: str = ""
    _up: bool = True
    _is_behind: bool = False  # rounds are full
    _pacer: Pacer = field(default_factory=lambda: Pacer(FRESH_S, ROUND_SHARE, BUSY))
    _looks: Pacer = field(default_factory=lambda: Pacer(FRESH_S))  # where no command waits
    _joins: Joins = field(default_factory=Joins)
    _store_clock: StoreClock = field(default_factory=StoreClock)
    _references: References = field(init=False)
    _secret: StoreSecret = field(init=False)
    _memory: StoreMemory = field(init=False)

    def __post_init__(self) -> None:
        self._folded_at = self.clock()
        file = SecretsFile(self.journals.parent)
        self._secret = StoreSecret(file, file.read())
        self._references = References(self.n_shards, self.clock)
        self._memory = StoreMemory(self.n_shards, self.young_hours, self.max_mb)

    def run(self) -> None:
        """Fold until `stop` is set; a store that is away is waited for."""
        with closing(connect(self.address)) as client:
            while not self.stop.is_set():
                self.step(client)
            if self._up:  # else lease and entry end by themselves, and nobody waits for the store
                self._release(Roster(client, self.n_shards, self.owner))

    def step(self, client: Client) -> None:
        """Take, fold and tidy up once; after a failure start from what the store says."""
        self._pacer.begin()
        self._looks.begin()
        try:
            self._take_shards(client, Roster(client, self.n_shards, self.owner))
            n_folded, is_full = self._fold_some(client)
            self._keep_house(client, n_folded)
        except StoreErrors as error:
            self._note(up=False, error=error)
            # Whether the last command took effect is not known: the store is asked anew.
            for number in list(self._held):
                self._lose(number)
            self._due.pop("take", None)
            self.stop.wait(AWAY_S)
            return
        self._note(up=True)
        if n_folded:
            self.stop.wait(self._pacer.rest_s(n_folded, is_full=is_full))
        elif spans_slots(client):
            self.stop.wait(self._looks.rest_s(0))

    def _take_shards(self, client: Client, roster: Roster) -> None:
        """Take free shards up to this worker's share, give back what is beyond it.

        Nothing is being folded meanwhile: what a shard's next owner loads is whole.
        """
        for number in keep_all(lease for _, lease in self._held.values()):
            self._lose(number)
        if not self._is_due("take", TAKE_EVERY_S):
            return
        share = roster.sign_on()
        for number in sorted(self._held)[share:]:
            self._held.pop(number)[1].release()
            log.info("shard given back", shard=number)
        if len(self._held) == share:
            return
        incarnation = prepare(client, shards=self.n_shards)
        self._secret.agree(client, client.get(keys.SECRET))
        is_another = self._incarnation not in ("", incarnation)
        if is_another:
            for number in list(self._held):
                self._lose(number)
        taken = []
        for number in range(self.n_shards):
            lease = Lease(client, number, self.owner, clock=self.clock)
            if number not in self._held and len(self._held) < share and lease.take():
                hours, most_names = self._memory.young_hours(client), MOST_NAMES // self.n_shards
                shard = Shard(client, number, young_hours=hours, most_names=most_names)
                shard.load(expected=self._lost.get(number))
                take_up(client, number)
                self._held[number] = shard, lease
                taken.append(number)
        if is_another:
            log.error("the store is another one: what it had is lost", folding=taken)
        elif taken and self._up:
            log.info("folding shards", shards=taken)
        if gone := sorted(self._lost.keys() - self._held.keys()):
            log.warning("shards are another's now", shards=gone)
        self._lost.clear()
        self._incarnation = incarnation

    def _note(self, *, up: bool, error: BaseException | None = None) -> None:
        """Log a change of the store's state, once."""
        if up is self._up:
            return
        self._up = up
        if up:
            log.info("store is back: folding goes on", shards=list(self._held))
        elif error is not None:
            trouble = trouble_of(error)
            event = "store is away: events wait in journals and streams"
            if trouble.answers:
                event = "store takes nothing: events wait in streams"
            log.warning(event, **trouble.told())

    def _fold_some(self, client: Client) -> tuple[int, bool]:
        """Fold the next entries of every held shard; return how many records, and if more wait.

        Where there are none it waits for them, unless the shards' streams lie on several servers.
        """
        if not self._held:
            self.stop.wait(AWAY_S)
            return 0, False
        if self._is_behind:
            found = fold_abreast(client, self._held)
        else:
            block_ms = 0 if self.stop.is_set() else BLOCK_MS
            found = fold_round(client, self._held, block_ms=block_ms)
        for number in found.lost:
            self._lose(number)
        self._is_behind = found.is_full
        return found.n_records, found.is_full

    def _keep_house(self, client: Client, n_folded: int) -> None:
        if n_folded:
            self._folded_at = self.clock()
        is_idle = self.clock() - self._folded_at > IDLE_AFTER_S
        times = IDLE_TIMES if is_idle else 1.0
        if self._is_due("time", ASK_TIME_EVERY_S):
            self._store_clock.ask(client)
        if self._joins.are_due(n_folded, self.clock()):
            self._join(client)
        if 0 in self._held and self._is_due("memory", times * MEASURE_EVERY_S):
            self._memory.measure(client, now_ms=self._store_clock.now_ms())
        if self._is_due("prune", times * PRUNE_EVERY_S):
            if 0 in self._held:
                forget_silent(client, self._store_clock.now_ms())
            most_bytes = most_unarchived(client, self.n_shards)
            hours, clock_ms = self._memory.young_hours(client), self._store_clock.now_ms()
            for number, (shard, lease) in list(self._held.items()):
                shard.young_hours = hours
                try:
                    shard.prune(
                        token=lease.token,
                        most_bytes=most_bytes,
                        clock_ms=clock_ms,
                        keep=self._keep_leases,
                    )
                except NotOwner:
                    self._lose(number)
        if self._is_due("adopt", ADOPT_EVERY_S):
            adopt(self.journals, client, self.counters)

    def _keep_leases(self) -> None:
        """Renew what is due; what was lost meanwhile shows at the next commit."""
        keep_all(lease for _, lease in self._held.values())

    def _join(self, client: Client) -> None:
        """Send feedback by reference to its decisions, where it is settled which these are."""
        owned = [(shard, lease.token) for shard, lease in self._held.values()]
        for number in self._references.look(client, owned, self._store_clock.now_ms()):
            self._lose(number)
        self._joins.n_waiting = self._references.n_waiting
        self._joins.is_unsettled = self._references.is_unsettled

    def _lose(self, number: int) -> None:
        """Give a shard up: another process holds it, or the store has forgotten who does."""
        self._references.begin_anew()
        shard, _ = self._held.pop(number)
        self._lost[number] = shard.following
        self._due.pop("take", None)

    def _release(self, roster: Roster) -> None:
        try:
            for _, lease in self._held.values():
                lease.release()
            roster.leave()
        except StoreErrors:
            return  # lease and entry end by themselves

    def _is_due(self, what: str, every_s: float) -> bool:
        now = self.clock()
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = now + every_s
        return True
