"""What a dead process held of a budget returns once its journal is folded, and not before."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from test_budget_fold import spend

from telemetry import frames, keys
from telemetry.allowances import BudgetAllowance
from telemetry.budget_accounts import BudgetAccounts, BudgetPeriod, TakeAsked
from telemetry.budget_rows import read_folded
from telemetry.budget_spends import BudgetSpend, spend_record
from telemetry.clock import steady
from telemetry.ended import FORGOTTEN_MS, JournalEnd, forget_ends, read_ends
from telemetry.events import RECORD_SIZE
from telemetry.frames import Frame
from telemetry.journal import Journal
from telemetry.store import Address, connect, prepare
from telemetry.tokens import Token
from telemetry.writer import Counters, Sender, Writer, adopt
from workers.folding.lease import Lease
from workers.folding.shard import Shard
from workers.jobs.burials import Burials, bury_dead

SHARDS = 2
NOW_S = int(time.time())
NOW_MS = NOW_S * 1000
DAY = BudgetPeriod(8, NOW_S // 86_400 * 86_400, 86_400)
CALLS = BudgetPeriod(9, DAY.start_s, 86_400)
LIMIT = 10**9
DEAD, ALIVE = b"d" * 16, b"a" * 16


def token(nonce: int) -> bytes:
    return Token(
        *(1, nonce % SHARDS, 0, nonce.to_bytes(16, "big"), NOW_MS, 3, 2, 10, 4, 1, 6, 7),
        *(0.5, 0.5, 0.1, 0.4),
    ).pack()


class Router:
    """A process that reserves, calls and settles, as far as budgets see it."""

    def __init__(self, address: Address, root: Path, *, lease_s: float = 0.3) -> None:
        self.writer = Writer(root, address, SHARDS)
        self.writer.start()
        self.accounts = BudgetAccounts(connect(address))
        holder = self.writer.producer.hex()
        self.allowance = BudgetAllowance(holder, limit=LIMIT, lease=LIMIT // 4, lease_s=lease_s)
        self.n = 0

    def call(self, reserved: int, actual: int | None) -> None:
        """Reserve, and settle unless it is still under way when the process ends."""
        reservation = self.allowance.reserve(reserved, steady())
        if reservation is None:
            asked = self.allowance.ask(steady(), reserved)
            assert asked is not None
            answer = self.accounts.take(DAY, self.allowance.holder, asked)
            reservation = self.allowance.hear(asked, answer, steady())
        assert reservation is not None
        if actual is None:
            return
        self.allowance.settle(reservation, actual)
        self.n += 1
        spends = [BudgetSpend(DAY, actual), BudgetSpend(CALLS, 1, True)]
        assert self.writer.put(spend_record(token(self.n), self.writer.producer, spends))

    def leave(self) -> None:
        asked = self.allowance.leave(steady())
        assert asked is not None
        self.accounts.take(DAY, self.allowance.holder, asked)


class World:
    """A store with its learner."""

    def __init__(self, client: Any) -> None:
        prepare(client, shards=SHARDS)
        self.client, self.accounts = client, BudgetAccounts(client)
        self.leases = [Lease(client, n) for n in range(SHARDS)]
        self.shards = [Shard(client, n) for n in range(SHARDS)]
        for lease, shard in zip(self.leases, self.shards, strict=True):
            assert lease.take()
            shard.load()

    def fold(self, *numbers: int) -> None:
        for n in numbers or range(SHARDS):
            shard = self.shards[n]
            found = self.client.xrange(keys.stream(n), min=f"({shard.mark.decode()}")
            if found:
                shard.fold(found, token=self.leases[n].token)

    def bury(self) -> Burials:
        return bury_dead(self.client, SHARDS, now_ms=NOW_MS)

    def take(self, holder: bytes, *, mine: int, lease_ms: int = 0, of: BudgetPeriod = DAY) -> None:
        seq = time.monotonic_ns()
        asked = TakeAsked(seq=seq, mine=mine, want=0, least=0, limit=LIMIT, lease_ms=lease_ms)
        self.accounts.take(of, holder.hex(), asked)

    def send(self, holder: bytes, *amounts: int, first: int = 0) -> None:
        records = [spend(n, BudgetSpend(DAY, a), holder=holder) for n, a in enumerate(amounts)]
        frame = frames.pack(Frame(holder, 0, first, b"".join(records)))
        self.client.xadd(keys.stream(0), {"f": frame})

    def end(self, holder: bytes, *following: int) -> None:
        self.client.hset(keys.ENDED, holder, JournalEnd(NOW_MS, following).pack())

    def taken(self, of: BudgetPeriod = DAY) -> dict[bytes, int]:
        takes = self.accounts.read(of).takes
        return {bytes.fromhex(name): take for name, take in takes.items() if take}


@pytest.fixture
def world(client: Any) -> World:
    return World(client)


@pytest.mark.slow
def test_what_a_killed_router_held_returns_and_what_it_spent_stays(
    store: Any, address: Address, client: Any, tmp_path: Path
) -> None:
    world, root, book = World(client), tmp_path / "journal", tmp_path / "book"
    tests = Path(__file__).parent
    code = f"""
import random, sys, time
from pathlib import Path
sys.path[:0] = [{str(tests.parent)!r}, {str(tests)!r}]
from telemetry.journal import Journal
from telemetry.store import Address
from test_burials import Router
router = Router(Address({address.url!r}), Path({str(root)!r}))
dice = random.Random(1)
with open({str(book)!r}, "a", buffering=1) as book:
    while True:
        reserved = dice.randint(1, 10**6)
        router.call(reserved, actual := dice.randint(0, reserved))
        book.write(f"{{actual}}\\n")
        if router.n == 200:
            router.call(10**6, None)
            print("on its way", flush=True)
        time.sleep(.001)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"on its way\n"
        time.sleep(0.1)
        os.kill(process.pid, signal.SIGKILL)
    holder = next(path.name for path in root.iterdir() if not path.name.startswith("."))
    held = world.taken()[bytes.fromhex(holder)]
    world.fold()
    assert world.bury() == Burials()  # its journal is not at its end

    successor = Writer(root, address, SHARDS)
    successor.start()
    deadline = time.monotonic() + 10
    while not read_ends(client):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert world.bury() == Burials()  # it is not folded
    world.fold()
    time.sleep(0.3)  # its lease ends
    buried = world.bury()
    successor.close()

    (folded, calls) = read_folded(client, SHARDS, [DAY, CALLS])
    amounts = [int(line) for line in book.read_text().split()]
    assert calls.n_calls >= 200
    # Killed between the record and the line of the book: the record counts.
    assert calls.n_calls - len(amounts) in (0, 1)
    assert folded.amount - sum(amounts) == 0 or calls.n_calls > len(amounts)
    assert buried == Burials(n_buried=1, returned=held - folded.amount)
    read = world.accounts.read(DAY)
    assert (read.debited, read.takes) == (folded.amount, {holder: folded.amount})
    least = LIMIT - folded.amount
    rest = world.accounts.take(DAY, "another", TakeAsked(1, 0, least, least, LIMIT, 1000))
    assert rest.granted == least  # nothing is stranded


def test_an_orderly_end_is_told_and_what_was_on_its_way_returns(
    store: Any, address: Address, client: Any, tmp_path: Path
) -> None:
    world, router = World(client), Router(address, tmp_path / "journal")
    router.call(1000, 300)
    router.call(500, None)
    router.leave()
    producer = router.writer.producer
    assert world.taken() == {producer: 800}
    router.writer.close()

    assert list((tmp_path / "journal").iterdir()) == []
    assert read_ends(client)[producer].following == (0, 1, 0)
    assert world.bury() == Burials()
    world.fold()
    assert world.bury() == Burials(n_buried=1, returned=500)
    assert world.taken() == {producer: 300}
    assert read_ends(client) == {}


def test_nobody_is_buried_before_every_shard_has_folded_it(world: World) -> None:
    world.take(DEAD, mine=100)
    world.send(DEAD, 10, 20)
    world.end(DEAD, 2, 0, 0)

    assert world.bury() == Burials()
    world.fold()
    assert world.bury() == Burials(n_buried=1, returned=70)
    assert world.taken() == {DEAD: 30}
    assert world.bury() == Burials()


def test_a_holder_whose_lease_runs_is_buried_after_it(world: World) -> None:
    world.take(DEAD, mine=100, lease_ms=200)
    world.end(DEAD, 0, 0, 0)

    assert world.bury() == Burials()
    assert DEAD in read_ends(world.client)
    time.sleep(0.25)
    assert world.bury() == Burials(n_buried=1, returned=100)
    assert read_ends(world.client) == {}


def test_what_calls_under_way_may_come_to_stays_with_whoever_was_killed(world: World) -> None:
    world.take(DEAD, mine=5000)
    world.send(DEAD, 900, 900, 7 - 900)  # of two that were begun one has ended
    world.fold()
    world.end(DEAD, 3, *[0] * (SHARDS - 1))

    assert world.bury() == Burials(n_buried=1, returned=5000 - 907)
    assert world.taken() == {DEAD: 907}


def test_who_lives_is_left_alone_and_so_are_periods_that_ended(world: World) -> None:
    past = BudgetPeriod(8, DAY.start_s - 86_400, 86_400)
    world.take(ALIVE, mine=50)
    world.take(DEAD, mine=100)
    world.take(DEAD, mine=100, of=past)
    world.end(DEAD, 0, 0, 0)

    assert world.bury().returned == 100
    assert world.taken() == {ALIVE: 50}
    assert world.taken(past) == {DEAD: 100}


def test_what_an_account_forgot_of_a_dead_holder_is_put_on_record(world: World) -> None:
    world.take(DEAD, mine=5)
    world.send(DEAD, 10, 20)
    world.end(DEAD, 2, 0, 0)
    world.fold()

    assert world.bury() == Burials(n_buried=1, restored=25)
    assert world.taken() == {DEAD: 30}


def test_many_accounts_and_many_dead_are_all_found(world: World) -> None:
    dead = [secrets.token_bytes(16) for _ in range(100)]
    accounts = [BudgetPeriod(n, DAY.start_s, 86_400) for n in range(600)]
    for n, account in enumerate(accounts):
        world.take(dead[n % 100], mine=1, of=account)
    for holder in dead:
        world.end(holder, 0, 0, 0)

    assert world.bury().n_buried + world.bury().n_buried == 600
    assert all(world.taken(account) == {} for account in accounts)
    assert read_ends(world.client) == {}


def test_a_journal_that_was_not_sent_as_a_whole_has_no_end(
    address: Address, client: Any, tmp_path: Path
) -> None:
    prepare(client, shards=SHARDS)
    for whole in (True, False):
        left = Writer(tmp_path / "journal", Address("redis://127.0.0.1:1"), SHARDS)
        left.start()
        left.put(spend(1, BudgetSpend(DAY, 1)))
        left.close(timeout_s=0.1)
        (directory,) = (tmp_path / "journal").iterdir()
        if not whole:
            (directory / "00000002.seg").write_bytes(
                b"no header, but a record".ljust(RECORD_SIZE, b".")
            )

        assert adopt(tmp_path / "journal", client, Counters()) == 1
        assert (bytes.fromhex(directory.name) in read_ends(client)) is whole


def test_a_journal_stays_until_its_end_is_told(client: Any, tmp_path: Path) -> None:
    """Where the store goes away in between, somebody else sends and tells it again."""
    journal = Journal(tmp_path / "journal", SHARDS)
    journal.open()
    sender = Sender(journal.directory, client, Counters())
    assert sender.send_some(keep=journal.current) == 0
    assert sender.is_done(journal.current)  # nothing was ever put
    journal.append(spend(1, BudgetSpend(DAY, 1)))
    assert sender.send_some(keep=journal.current) == 1
    assert not sender.is_done(journal.current)

    sender.tell_end()

    assert sender.is_done(journal.current)
    assert read_ends(client)[journal.producer].following == (1, 0, 0)
    journal.close()


def test_an_end_that_was_told_again_is_not_forgotten_with_what_was_told_before(client: Any) -> None:
    client.hset(keys.ENDED, DEAD, JournalEnd(1, (1, 0)).pack())
    client.hset(keys.ENDED, ALIVE, JournalEnd(0, (1, 0)).pack())
    before = read_ends(client)
    assert list(before) == [ALIVE, DEAD]
    client.hset(keys.ENDED, DEAD, JournalEnd(2, (2, 0)).pack())

    forget_ends(client, before)

    assert read_ends(client) == {DEAD: JournalEnd(2, (2, 0))}


def test_who_is_never_folded_is_forgotten_in_the_end(world: World) -> None:
    world.client.hset(keys.ENDED, DEAD, JournalEnd(NOW_MS - FORGOTTEN_MS - 1, (1, 0, 0)).pack())
    world.end(ALIVE, 1, 0, 0)

    world.bury()

    assert list(read_ends(world.client)) == [ALIVE]


def test_keys_of_accounts_are_told_from_others() -> None:
    account, live = (name.encode() for name in DAY.keys)

    assert keys.account_of(account) == (DAY.digest, DAY.start_s)
    assert keys.account_of(live) is None
    assert keys.account_of(b"pm:budget:warned") is None
    assert keys.account_of(keys.budget_rows(0, 1).encode()) is None
