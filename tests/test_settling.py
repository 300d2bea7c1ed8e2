"""Whatever the order of answers, feedback, two routers and two workers: labels are in their place.

Time is the test's own. Everything else is real: journals, senders, a store, shards and leases.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import SHARDS
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline import said_in_store

from telemetry import decoding, digests, events, frames, keys, references
from telemetry.clock import StoreClock
from telemetry.embedded import PrivateServer
from telemetry.events import FeedbackKind, Flag, Match, Result
from telemetry.journal import Journal
from telemetry.passed import COUNTS_MS, ProgressTeller
from telemetry.store import Address, connect
from telemetry.tokens import Token, nonce_of
from telemetry.writer import Counters, Sender
from workers.folding.held import MOST_S, References, take_up
from workers.folding.lease import Lease
from workers.folding.resolution import REMEMBERED_MS
from workers.folding.shard import Shard

DAY_MS = 86_400_000
BEGAN_MS = int(time.time() * 1000) - 2 * DAY_MS
REFS = ("one", "two")
DIGESTS = {ref: digests.digest16("app", "ref", ref) for ref in (*REFS, "another")}


@dataclass(eq=False)
class Made:
    """A decision as the test knows it."""

    number: int
    ref: str
    router: int
    at_ms: int
    recorded_ms: int | None = None

    @property
    def nonce(self) -> bytes:
        return bytes([self.number % SHARDS]) + bytes(13) + self.number.to_bytes(2, "big")

    @property
    def executed(self) -> int:
        return 3 + self.number % 3

    def record(self) -> bytes:
        shard = self.nonce[0] % SHARDS
        executed = self.executed
        body = Token(1, shard, 0, self.nonce, self.at_ms, 1, 2, executed, 4, 5, 6, 7, 0.5, 0.5, 0.1)
        return events.outcome(
            body.pack(),
            result=Result.OK,
            attempt=1,
            status=200,
            flags=int(Flag.FINAL),
            reference=DIGESTS[self.ref],
        )


@dataclass(eq=False)
class Saying:
    """A feedback as the test knows it."""

    ref: str
    match: Match
    received_ms: int
    looked_at_ms: int | None = None  # first, by who holds its shard now
    known: set[int] | None = None  # decisions made by then, when it was resolved


class Router:
    """A journal and what sends it, on the test's time."""

    def __init__(self, root: Path, client: Any, clock: Callable[[], float]) -> None:
        self.journal = Journal(root, SHARDS, segment_bytes=1 << 16)
        self.journal.open()
        self.client = client
        self.teller = ProgressTeller(self.journal.producer, StoreClock(clock))
        self.sender = Sender(self.journal.directory, client, Counters(), self.teller)
        self.wrote: list[int] = []

    def send(self, now_ms: int) -> None:
        if self.sender.send_some(keep=self.journal.current, at_ms=now_ms):
            self.wrote.append(now_ms)
        else:
            self.teller.give(self.client, now_ms, is_look=True, is_last=False)


@dataclass
class Worker:
    """Who holds one shard, at times."""

    number: int
    shard: Shard | None = None
    token: int = 0
    references: References | None = None


@dataclass
class World:
    """Two routers, two workers, and what the test knows of all that happened."""

    client: Any
    root: Path
    now_ms: int = BEGAN_MS
    made: list[Made] = field(default_factory=list)
    sayings: dict[bytes, Saying] = field(default_factory=dict)
    sent_to: dict[bytes, set[int]] = field(default_factory=dict)  # event -> decisions
    taken_back: set[int] = field(default_factory=set)  # decisions that lost a word to another one
    n_dead: int = 0
    n_late: int = 0
    _tails: dict[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        clock = lambda: self.now_ms / 1000  # noqa: E731
        self.routers = [Router(self.root, self.client, clock) for _ in range(2)]
        self.workers = [Worker(n) for n in range(SHARDS)]
        for n in range(SHARDS):
            self.come(n)

    # -- what may happen --

    def decide(self, router: int, ref: str) -> None:
        self.made.append(Made(len(self.made) + 1, ref, router, self.now_ms))

    def answer(self, router: int, ref: str) -> None:
        self.decide(router, ref)
        self.record(-1)

    def answer_twice(self, first: int, ref: str) -> None:
        """An answer of one router, which sends it later, then one of the other."""
        self.answer(first, ref)
        self.tick(60)
        self.answer(1 - first, ref)
        self.send(1 - first)
        self.tick(60)

    def judge(self, router: int, ref: str, match: Match) -> None:
        """Feedback that its router sends at once."""
        self.say(router, ref, match)
        self.send(router)

    def work(self, number: int) -> None:
        """What a worker does in a third of a second."""
        self.fold(number, count=1000)
        self.look(number)
        self.tick(300)

    def record(self, which: int) -> None:
        if waiting := [each for each in self.made if each.recorded_ms is None]:
            one = waiting[which % len(waiting)]
            one.recorded_ms = self.now_ms
            assert self.routers[one.router].journal.append(one.record())

    def say(self, router: int, ref: str, match: Match) -> None:
        event = self.now_ms.to_bytes(6, "big") + len(self.sayings).to_bytes(4, "big") + bytes(6)
        self.sayings[event] = Saying(ref, match, self.now_ms)
        digest = DIGESTS[ref]
        said = events.feedback(
            None,
            kind=FeedbackKind.HUMAN,
            value=1.0,
            revision=0,
            event=event,
            reference=digest,
            app=5,
            shard=digest[0] % SHARDS,
            match=match,
            received_at_ms=self.now_ms,
        )
        assert self.routers[router].journal.append(said)

    def send(self, router: int) -> None:
        self.routers[router].send(self.now_ms)

    def fold(self, number: int, count: int = 2) -> None:
        worker = self.workers[number]
        if worker.shard is not None:
            after = f"({worker.shard.mark.decode()}"
            found = self.client.xrange(keys.stream(number), min=after, count=count)
            if found:
                worker.shard.fold(found, token=worker.token)

    def leave(self, number: int) -> None:
        self.workers[number] = Worker(number)
        self.client.delete(keys.lease(number))

    def come(self, number: int) -> None:
        self.leave(number)
        lease, shard = Lease(self.client, number), Shard(self.client, number)
        assert lease.take()
        shard.load()
        take_up(self.client, number)
        found = References(SHARDS, lambda: self.now_ms / 1000)
        self.workers[number] = Worker(number, shard, lease.token, found)
        for saying in self.sayings.values():
            if DIGESTS[saying.ref][0] % SHARDS == number:
                saying.looked_at_ms = None

    def tick(self, ms: int) -> None:
        self.now_ms += ms

    def look(self, number: int) -> None:
        worker = self.workers[number]
        if worker.shard is None or worker.references is None:
            return
        for event in self.client.hkeys(keys.held(number)):
            if self.sayings[event].looked_at_ms is None:
                self.sayings[event].looked_at_ms = self.now_ms
        remembered = set(self.client.hkeys(keys.chosen(number)))
        owned = [(worker.shard, worker.token)]
        assert worker.references.look(self.client, owned, self.now_ms) == []
        self.check_sent()
        self.check_dead()
        for event in remembered - set(self.client.hkeys(keys.chosen(number))):
            saying = self.sayings[event]
            assert saying.known is not None
            self.n_late += len(self.known_before(saying) - saying.known)

    # -- what must hold --

    def folded(self, ref: str) -> list[Made]:
        (found,) = references.look_up(
            self.client, [DIGESTS[ref]], n_shards=SHARDS, now_ms=self.now_ms
        )
        numbers = {int.from_bytes(nonce_of(token)[-2:], "big") for token in found}
        return [each for each in self.made if each.number in numbers]

    def known_before(self, saying: Saying) -> set[int]:
        return {m.number for m in self.folded(saying.ref) if m.at_ms <= saying.received_ms}

    def check_sent(self) -> None:
        """What was sent now is what is meant by all that is folded, and was never sent before."""
        found: dict[bytes, set[int]] = {}
        taken_back: dict[bytes, set[int]] = {}
        for shard in range(SHARDS):
            after = self._tails.get(shard, b"0-0").decode()
            for entry, fields in self.client.xrange(keys.stream(shard), min=f"({after}"):
                self._tails[shard] = entry
                frame = frames.unpack(fields[b"f"])
                records, _ = decoding.decode(frame.body)
                for record in records if frame.producer == frames.UNNUMBERED else []:
                    number = int.from_bytes(record["token"]["nonce"].tobytes()[-2:], "big")
                    into = found if record["value_micro"] >= 0 else taken_back
                    into.setdefault(record["event"].tobytes(), set()).add(number)
        for event, numbers in found.items():
            assert event not in self.sent_to, "sent twice"
            self.sent_to[event] = numbers
            saying = self.sayings[event]
            self.check_meant(saying, numbers)
            others = (saying.known or set()) - numbers if saying.match is Match.EPISODE else set()
            assert taken_back.get(event, set()) == others, "an episode has a word once a part"
            self.taken_back |= others

    def check_meant(self, saying: Saying, numbers: set[int]) -> None:
        known = self.folded(saying.ref)
        before = [m for m in known if m.at_ms <= saying.received_ms]
        saying.known = {m.number for m in before}
        until_ms = saying.received_ms
        if before:
            latest = max(before, key=lambda m: (m.at_ms, m.number))
            meant = before if saying.match is Match.ALL else [latest]
            if saying.match is Match.EPISODE:
                by_age = sorted(before, key=lambda m: (m.at_ms, m.number), reverse=True)
                meant = list({m.executed: m for m in by_age}.values())
            assert saying.match is not Match.ONE or len(before) == 1
        else:
            meant = [min(known, key=lambda m: (m.at_ms, m.number))]
            until_ms = meant[0].at_ms
            assert saying.received_ms < until_ms <= saying.received_ms + DAY_MS
        assert numbers == {m.number for m in meant}
        self.check_settled(saying, until_ms, {m.number for m in known})

    def check_settled(self, saying: Saying, until_ms: int, known: set[int]) -> None:
        """Unless it was waited for long enough, all is known of producers that lately wrote."""
        assert saying.looked_at_ms is not None
        if self.now_ms - saying.looked_at_ms >= MOST_S * 1000:
            return
        for one in self.made:
            if one.ref != saying.ref or one.recorded_ms is None or one.recorded_ms >= until_ms:
                continue  # what is recorded in the same millisecond may be before or after it
            wrote = self.routers[one.router].wrote
            if any(self.now_ms - COUNTS_MS <= at_ms <= until_ms for at_ms in wrote):
                assert one.number in known

    def check_dead(self) -> None:
        letters = [f for s in range(SHARDS) for _, f in self.client.xrange(keys.dead(s))]
        for letter in letters if len(letters) > self.n_dead else []:
            records, _ = decoding.decode(letter[b"raw"])
            event = records[0]["event"].tobytes()
            saying = self.sayings[event]
            assert event not in self.sent_to
            if letter[b"reason"] == b"ambiguous":
                assert saying.match is Match.ONE
                assert len(self.known_before(saying)) > 1
            else:
                assert letter[b"reason"] == b"unmatched"
                assert self.now_ms > saying.received_ms + DAY_MS
        self.n_dead = len(letters)

    def count(self, name: str) -> int:
        return sum(int(self.client.hget(keys.meta(s), f"n_{name}") or 0) for s in range(SHARDS))

    def n_waiting(self) -> int:
        return sum(self.client.hlen(keys.held(s)) for s in range(SHARDS))

    def check_ledger(self) -> None:
        done = [self.count(name) for name in ("resolved", "ambiguous", "unmatched")]
        assert self.count("held") == sum(done) + self.n_waiting()
        assert self.count("resolved") == len(self.sent_to)
        assert self.count("late") == self.n_late

    def run_out(self) -> None:
        """Let everything come to its end."""
        for number in range(SHARDS):
            self.come(number)
        while any(each.recorded_ms is None for each in self.made):
            self.record(0)
        for _ in range(4):
            for number in (0, 1):
                self.send(number)
                self.fold(number, count=1000)
                self.look(number)
            self.tick(int(MOST_S * 1000))


MATCHES = st.sampled_from(list(Match))
ROUTERS, WORKERS = st.sampled_from([0, 1]), st.sampled_from([0, 1])
REFERENCES = st.sampled_from(REFS)
STEPS = st.one_of(
    st.tuples(st.just("answer"), ROUTERS, REFERENCES),
    st.tuples(st.just("decide"), ROUTERS, REFERENCES),
    st.tuples(st.just("record"), st.integers(0, 3)),
    st.tuples(st.just("say"), ROUTERS, REFERENCES, MATCHES),
    st.tuples(st.just("answer_twice"), ROUTERS, REFERENCES),
    st.tuples(st.just("judge"), ROUTERS, REFERENCES, MATCHES),
    st.tuples(st.just("send"), ROUTERS),
    st.tuples(st.just("work"), WORKERS),
    st.tuples(st.just("work"), WORKERS),
    st.tuples(st.just("fold"), WORKERS),
    st.tuples(st.just("look"), WORKERS),
    st.tuples(st.just("tick"), st.sampled_from([1, 60, 300, 300, 1000, 5000])),
    st.tuples(st.just("tick"), st.sampled_from([1, 60, 300, 11_000, 31_000, REMEMBERED_MS])),
    st.tuples(st.sampled_from(["leave", "come"]), WORKERS),
)


@pytest.fixture(scope="module")
def own_store() -> Iterator[Any]:
    with (
        tempfile.TemporaryDirectory(prefix="pm-", dir="/tmp") as path,
        PrivateServer(Path(path)) as server,
    ):
        client = connect(Address(f"unix://{server.socket_path}"))
        yield client
        client.close()


@settings(max_examples=150)
@given(steps=st.lists(STEPS, min_size=20, max_size=80))
def test_every_label_is_on_what_the_rule_says(own_store: Any, steps: list[tuple[Any, ...]]) -> None:
    own_store.flushall()
    with tempfile.TemporaryDirectory(prefix="pm-", dir="/tmp") as root:
        world = World(own_store, Path(root))
        for router in (0, 1):  # both have lately written
            world.answer(router, "another")
            world.send(router)
        world.tick(60)
        for name, *what in steps:
            getattr(world, name)(*what)
            world.check_ledger() if name == "look" else None
        world.run_out()

        world.check_ledger()
        assert world.count("held") == len(world.sayings)
        for event, saying in world.sayings.items():
            may_mean = [m for m in world.folded(saying.ref) if m.at_ms <= world.now_ms]
            is_done = event in world.sent_to or saying.match is Match.ONE
            assert is_done or not may_mean
        world.tick(REMEMBERED_MS)
        for number in range(SHARDS):
            world.look(number)
            world.fold(number, count=1000)
        world.check_ledger()
        assert sum(own_store.hlen(keys.chosen(s)) for s in range(SHARDS)) == 0
        labelled = {
            int.from_bytes(nonce[-2:], "big")
            for s in range(SHARDS)
            for nonce in said_in_store(own_store, s)
        }
        assert labelled == set().union(*world.sent_to.values(), world.taken_back)
        for router in world.routers:
            router.journal.close()
