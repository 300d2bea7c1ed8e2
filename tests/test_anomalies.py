"""The n-th store command fails, for every n: nothing is lost, nothing doubled.

A proxy stands before a real server and, once, either closes the connection before the n-th
command gets through, or carries the command out and loses its reply. What comes of a fixed set of
records must then be byte for byte what comes of it undisturbed. Each part of the pipeline is
stepped by hand: no thread of ours runs, and nothing sleeps.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hiredis
import pytest
from conftest import SHARDS

from bandit import cells
from bandit.draws import Step
from router.choices import Change, Kept, Scope
from router.releases import Ledger
from router.sessions import Draws, Given, Unit
from telemetry import events, keys
from telemetry.events import FeedbackKind, Flag, Match, Result, Token
from telemetry.journal import Journal
from telemetry.reader import Reader
from telemetry.store import Address, StoreErrors, connect
from telemetry.writer import Counters, Sender, adopt
from workers.learner import Learner

NOW_MS = int(time.time() * 1000)
DAY_MS = 86_400_000
PRODUCER = b"p" * 16
MODES = pytest.mark.parametrize("after", [False, True], ids=["before", "after"])


# -- a store that fails once --------------------------------------------------------------------


class Proxy:
    """Passes commands on, but for the n-th since it was armed."""

    def __init__(self, upstream: Path, path: Path) -> None:
        self.address = Address(f"unix://{path}")
        self.n_seen = 0
        self._upstream = str(upstream)
        self._fails_at, self._after = 0, False
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, n: int, *, after: bool) -> None:
        with self._lock:
            self.n_seen, self._fails_at, self._after = 0, n, after

    @property
    def has_failed(self) -> bool:
        return self.n_seen >= self._fails_at

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near, socket.socket(socket.AF_UNIX) as far:
            far.connect(self._upstream)
            asked, answered = hiredis.Reader(), hiredis.Reader()
            while data := _received(near):
                asked.feed(data)
                while (command := asked.gets()) is not False:
                    with self._lock:
                        self.n_seen += 1
                        fails = self.n_seen == self._fails_at
                    if fails and not self._after:
                        return
                    far.sendall(hiredis.pack_command(tuple(command)))
                    reply = _reply(far, answered)
                    if fails:
                        return
                    near.sendall(reply)


def _received(near: socket.socket) -> bytes:
    try:
        return near.recv(1 << 16)
    except OSError:
        return b""


def _reply(far: socket.socket, reader: hiredis.Reader) -> bytes:
    raw = b""
    while True:
        data = far.recv(1 << 16)
        raw += data
        reader.feed(data)
        if reader.gets() is not False:
            return raw


@pytest.fixture
def proxy(store: Any, state_dir: Path) -> Iterator[Proxy]:
    found = Proxy(store.socket_path, state_dir / "proxy.sock")
    yield found
    found.close()


def every_n(proxy: Proxy, *, after: bool, run: Callable[[], None]) -> int:
    """Run with the first command failing, the second, and so on until no run has an n-th."""
    n = 0
    while True:
        n += 1
        proxy.arm(n, after=after)
        run()
        if not proxy.has_failed:
            return n - 1
        assert n < 1000


# -- what is sent -------------------------------------------------------------------------------


def token(nonce: int, *, at_ms: int = NOW_MS) -> bytes:
    raw = nonce.to_bytes(16, "big")
    shard, category, endpoint = nonce % SHARDS, 1 + nonce % 2, 3 + nonce % 3
    flags = int(Flag.ROUTED)
    body = Token(1, shard, flags, raw, at_ms, category, 2, endpoint, 4, 5, 6, 7, 0.5, 0.5, 0.1)
    return body.pack()


def outcome(nonce: int, *, at_ms: int = NOW_MS) -> bytes:
    return events.outcome(
        token(nonce, at_ms=at_ms),
        result=Result.SERVER if nonce % 7 == 0 else Result.OK,
        attempt=1,
        status=200,
        flags=int(Flag.USAGE_KNOWN | Flag.FINAL | Flag.PRICED),
        tokens_out=10 + nonce,
        latency_s=0.5 + nonce / 100,
        cost_nano=nonce,
        response=events.digest16("app", "response", str(nonce)),
        reference=events.digest16("app", "ref", str(nonce // 10)),
    )


def said(number: int, nonce: int | None, value: float | None, **more: Any) -> bytes:
    more.setdefault("kind", FeedbackKind.HUMAN)
    more.setdefault("revision", 0)
    event = NOW_MS.to_bytes(6, "big") + number.to_bytes(10, "big")
    body = None if nonce is None else token(nonce)
    return events.feedback(body, value=value, event=event, **more)


def referring(number: int, of: str, name: str, **more: Any) -> bytes:
    digest = events.digest16("app", of, name)
    return said(number, None, 0.25, reference=digest, app=5, shard=digest[0] % SHARDS, **more)


def records() -> list[bytes]:
    """Forty outcomes and twenty feedbacks, some before their outcome, and one bad record."""
    early = [said(1, 30, 1.0), referring(2, "response", "31"), referring(3, "response", "32")]
    outcomes = [outcome(i) for i in range(37)]
    stale = [outcome(i, at_ms=NOW_MS - 20 * DAY_MS) for i in range(37, 40)]
    rest = [
        *(said(i, i, i / 20) for i in range(4, 10)),
        said(10, 4, 0.9, revision=1),  # corrected
        said(11, 5, None, revision=1),  # retracted
        said(12, 6, 0.1, kind=FeedbackKind.TEST),
        said(13, 7, 0.2, kind=FeedbackKind.JUDGE),
        referring(14, "response", "33"),
        referring(15, "response", "34", kind=FeedbackKind.TEST),
        referring(16, "ref", "1", match=Match.ALL),
        said(17, 8, 0.3, revision=2),
        said(17, 8, 0.3, revision=2),  # said twice
        said(18, 20, 0.4),
    ]
    old = NOW_MS - 2 * DAY_MS
    digest = events.digest16("app", "ref", "nobody")
    unmatched = events.feedback(
        None,
        kind=FeedbackKind.HUMAN,
        value=1.0,
        revision=0,
        event=old.to_bytes(6, "big") + bytes(10),
        reference=digest,
        app=5,
        shard=digest[0] % SHARDS,
    )
    poison = outcome(40)[:-8] + bytes(8)
    return [*early, *outcomes, *stale, *rest, unmatched, poison]


RECORDS = records()
COUNTED = {"outcomes", "feedback", "held", "dead", "unmatched", "missing"}


@contextmanager
def journalled(root: Path) -> Iterator[Journal]:
    """A journal of several segments with everything in it."""
    journal = Journal(root, SHARDS, segment_bytes=4096, producer=PRODUCER)
    journal.open()
    for record in RECORDS:
        assert journal.append(record)
    yield journal


def send_all(journal: Journal, client: Any) -> None:
    sender = Sender(journal.directory, client, Counters())
    while True:
        try:
            if not sender.send_some(keep=journal.current):
                return
        except StoreErrors:
            continue


class Leap:
    """A clock that makes everything due at every look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 10.0
        return self.now


def fold_all(address: Address, admin: Any, journals: Path) -> None:
    """Step a learner until all is folded and joined, and twice more."""
    asked_to_stop = threading.Event()
    asked_to_stop.set()  # so that no step waits for anything
    learner = Learner(address, SHARDS, journals, asked_to_stop, Leap())
    client = connect(address)
    left = 2
    for _ in range(30):
        learner.step(client)
        left -= is_folded(admin)
        if not left:
            client.close()
            return
    raise AssertionError("it was not all folded")


def is_folded(admin: Any) -> bool:
    for shard in range(SHARDS):
        last = admin.xrevrange(keys.stream(shard), count=1)
        if last and admin.hget(keys.meta(shard), "mark") != last[0][0]:
            return False
        if admin.hlen(keys.held(shard)):
            return False
    return True


def state(admin: Any) -> dict[str, Any]:
    """Return everything that the records brought about."""
    out: dict[str, Any] = {}
    for shard in range(SHARDS):
        out[keys.rows(shard)] = admin.hgetall(keys.rows(shard))
        out[keys.touched(shard)] = set(admin.zrange(keys.touched(shard), 0, -1))
        out[keys.held(shard)] = admin.hgetall(keys.held(shard))
        dead = [(f[b"reason"], f[b"raw"]) for _, f in admin.xrange(keys.dead(shard))]
        out[keys.dead(shard)] = Counter(dead)
        meta = admin.hgetall(keys.meta(shard))
        out[keys.meta(shard)] = {name: meta.get(f"n_{name}".encode()) for name in COUNTED}
    for name in admin.scan_iter("*:labels:*", count=1000):
        out[name.decode()] = admin.hgetall(name)
    for name in admin.scan_iter("*:ref:*", count=1000):
        out[name.decode()] = admin.lrange(name, 0, -1)
    return out


def reset(admin: Any) -> None:
    admin.flushall()
    admin.script_flush()


@pytest.fixture
def undisturbed(client: Any, address: Address, tmp_path: Path) -> dict[str, Any]:
    with journalled(tmp_path / "undisturbed") as journal:
        send_all(journal, client)
    fold_all(address, client, tmp_path / "none")
    found = state(client)
    counts = Counter()
    for shard in range(SHARDS):
        counts.update({n: int(v) for n, v in found[keys.meta(shard)].items() if v})
    assert counts == {"outcomes": 40, "feedback": 27, "held": 6, "dead": 1, "unmatched": 1}
    return found


# -- every n, in every part ---------------------------------------------------------------------


@MODES
def test_a_sender_loses_and_doubles_nothing(
    undisturbed: dict[str, Any],
    proxy: Proxy,
    client: Any,
    address: Address,
    tmp_path: Path,
    after: bool,
) -> None:
    runs = iter(range(10_000))

    def run() -> None:
        reset(client)
        sending = connect(proxy.address)
        with journalled(tmp_path / f"run{next(runs)}") as journal:
            send_all(journal, sending)
            sending.close()
            fold_all(address, client, tmp_path / "none")
            journal.close()
        assert state(client) == undisturbed

    assert every_n(proxy, after=after, run=run) > 15


@MODES
def test_adopting_a_journal_loses_and_doubles_nothing(
    undisturbed: dict[str, Any],
    proxy: Proxy,
    client: Any,
    address: Address,
    tmp_path: Path,
    after: bool,
) -> None:
    def run() -> None:
        reset(client)
        root = tmp_path / "run"
        with journalled(root) as journal:
            journal.close()
        adopting = connect(proxy.address)
        while any(root.iterdir()):
            try:
                adopt(root, adopting, Counters())
            except StoreErrors:
                continue
        adopting.close()
        fold_all(address, client, tmp_path / "none")
        assert state(client) == undisturbed

    assert every_n(proxy, after=after, run=run) > 15


@MODES
def test_a_learner_loses_and_doubles_nothing(
    undisturbed: dict[str, Any],
    proxy: Proxy,
    client: Any,
    tmp_path: Path,
    after: bool,
) -> None:
    with journalled(tmp_path / "sent") as journal:
        reset(client)
        send_all(journal, client)
    sent = {name: client.dump(name) for name in map(keys.stream, range(SHARDS))}

    def run() -> None:
        reset(client)
        for name, dumped in sent.items():
            client.restore(name, 0, dumped)
        fold_all(proxy.address, client, tmp_path / "none")
        assert state(client) == undisturbed

    assert every_n(proxy, after=after, run=run) > 50


@MODES
def test_a_reader_ends_with_every_row_of_the_store(
    undisturbed: dict[str, Any], proxy: Proxy, client: Any, after: bool
) -> None:
    wanted = Counter(
        pair for shard in range(SHARDS) for pair in undisturbed[keys.rows(shard)].items()
    )

    def run() -> None:
        reading = connect(proxy.address)
        size = cells.KEY.itemsize
        reader = Reader(reading, SHARDS, key_bytes=size, row_bytes=8 * cells.N_COLUMNS)
        until_it_works(reader.poll)
        assert not until_it_works(reader.poll)
        reading.close()
        names, rows = reader.rows()
        n = reader.n_rows
        step = len(rows) // n
        found = [(names[i * size :][:size], rows[i * step :][:step]) for i in range(n)]
        assert Counter(found) == wanted

    assert every_n(proxy, after=after, run=run) > 4


@MODES
def test_a_release_is_written_once(proxy: Proxy, client: Any, after: bool) -> None:
    scope = Scope("app", "learn", "", "")
    change = Change("code", "a", "b", 0.99, 0.1, "win")

    def run() -> None:
        reset(client)
        writing = connect(proxy.address)
        ledger = Ledger(writing)

        def review() -> None:
            ledger.read()
            seen = ledger.kept[scope].version if scope in ledger.kept else 0
            if seen < 3:
                kept = Kept(scope, seen + 1, NOW_MS, {"code": f"e{seen}"})
                assert ledger.change(kept, [change], now_ms=NOW_MS)

        for _ in range(6):
            until_it_works(review)
        writing.close()
        assert client.xlen(keys.RELEASES) == 3
        assert ledger.kept[scope].version == 3

    assert every_n(proxy, after=after, run=run) > 8


@MODES
def test_processes_end_with_the_draw_of_whoever_was_first(
    store: Any, state_dir: Path, client: Any, address: Address, after: bool
) -> None:
    """Each n has a proxy and units of its own, so that all of them wait at the same time."""
    n_longest = 16

    async def run(n: int) -> bool:
        proxy = Proxy(store.socket_path, state_dir / f"p{n}.sock")
        proxy.arm(n, after=after)
        ours, theirs = Draws(proxy.address), Draws(address)
        ours.start()
        theirs.start()
        now = time.time()
        units = [f"{n}-{i}".encode() for i in range(4)]
        for i, key in enumerate(units):
            pair = [(ours, Given(1, 0.5, NOW_MS, 1, Step.SAMPLE))]
            pair.append((theirs, Given(2, 0.5, NOW_MS, 1, Step.SAMPLE)))
            for draws, given in pair if i % 2 else pair[::-1]:
                await draws.claim(key, given, Unit(key, True, 0.0), now=now)
        async with asyncio.timeout(10):
            while ours.shared.n_unwritten or theirs.shared.n_unwritten:
                await asyncio.sleep(0.01)
        for key in units:
            stored = Given.unpack(client.get(keys.draw(key.hex())))
            assert stored == theirs.get(key, now=now) == ours.get(key, now=now)
        await ours.stop()
        await theirs.stop()
        proxy.close()
        return proxy.has_failed

    async def run_all() -> list[bool]:
        return await asyncio.gather(*(run(n) for n in range(1, n_longest + 1)))

    failed = asyncio.run(run_all())

    assert failed[:6] == [True] * 6
    assert failed[-1] is False


def until_it_works(step: Callable[[], Any]) -> Any:
    while True:
        try:
            return step()
        except StoreErrors:
            continue
