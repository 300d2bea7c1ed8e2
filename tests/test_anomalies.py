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
from pathlib import Path
from typing import Any

import hiredis
import pytest
from conftest import SHARDS
from pipeline import NOW_MS, fold_all, journalled, reset, send_all, state

from bandit import cells
from bandit.families import N_COLUMNS
from bandit.steps import Step
from router.beliefs.kept import Kept, ReleaseNotice, ReviewKey
from router.beliefs.releases import Releases
from router.decision.draws import Draws
from router.decision.shared_draws import StoredDraw
from router.decision.units import Unit
from telemetry import conversations, keys
from telemetry.reader import Reader
from telemetry.store import Address, StoreErrors, connect
from telemetry.writer import Counters, adopt
from workers.folding.measuring import LUA_SIZES

READS = frozenset(
    b"CLIENT DBSIZE GET HELLO HEXISTS HGET HGETALL HKEYS HLEN HMGET HSCAN HVALS INFO LRANGE "
    b"RANDOMKEY XRANGE XREAD XREVRANGE ZRANGE ZRANGEBYSCORE ZREVRANGEBYSCORE".split()
)
MODES = pytest.mark.parametrize("after", [False, True], ids=["before", "after"])


# -- a store that fails once --------------------------------------------------------------------


class Proxy:
    """Passes commands on, but for the n-th since it was armed."""

    def __init__(self, upstream: Path, path: Path) -> None:
        self.address = Address(f"unix://{path}")
        self.n_seen = 0
        self._upstream = str(upstream)
        self._fails_at, self._after, self._changes_only = 0, False, False
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, n: int, *, after: bool, changes_only: bool = False) -> None:
        """Let the n-th command fail, or the n-th of those that may change something."""
        with self._lock:
            self.n_seen, self._fails_at, self._after = 0, n, after
            self._changes_only = changes_only

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
                commands = list(iter(asked.gets, False))
                fails = self._fails_within(commands)
                cut = len(commands) if fails is None else fails
                if passed := commands[:cut]:
                    near.sendall(_replies(far, answered, passed))
                if fails is not None:
                    if self._after:
                        _replies(far, answered, [commands[fails]])
                    return

    def _fails_within(self, commands: list[list[bytes]]) -> int | None:
        """Count these, and return which of them is to fail, if one is.

        Of what was asked for at once and in a row, and only read, the first stands for all.
        """
        with self._lock:
            for at, command in enumerate(commands):
                if is_read(command) and (self._changes_only or (at and is_read(commands[at - 1]))):
                    continue
                self.n_seen += 1
                if self.n_seen == self._fails_at:
                    return at
        return None


def is_read(command: list[bytes]) -> bool:
    return command[0] in READS or command[:2] == [b"EVAL", LUA_SIZES.encode()]


def _received(near: socket.socket) -> bytes:
    try:
        return near.recv(1 << 16)
    except OSError:
        return b""


def _replies(far: socket.socket, reader: hiredis.Reader, commands: list[list[bytes]]) -> bytes:
    """Have commands carried out; return their replies."""
    far.sendall(b"".join(hiredis.pack_command(tuple(command)) for command in commands))
    raw, n_left = b"", len(commands)
    while n_left:
        data = far.recv(1 << 16)
        raw += data
        reader.feed(data)
        while n_left and reader.gets() is not False:
            n_left -= 1
    return raw


@pytest.fixture
def proxy(store: Any, state_dir: Path) -> Iterator[Proxy]:
    found = Proxy(store.socket_path, state_dir / "proxy.sock")
    yield found
    found.close()


def every_n(
    proxy: Proxy, *, after: bool, run: Callable[[], None], changes_only: bool = False
) -> int:
    """Run with the first command failing, the second, and so on until no run has an n-th."""
    n = 0
    while True:
        n += 1
        proxy.arm(n, after=after, changes_only=changes_only)
        run()
        if not proxy.has_failed:
            return n - 1
        assert n < 1000


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


@pytest.mark.slow
@MODES
def test_a_learner_loses_and_doubles_nothing(
    undisturbed: dict[str, Any],
    proxy: Proxy,
    client: Any,
    tmp_path: Path,
    after: bool,
) -> None:
    """To a store, a read whose reply is lost is what one is that never came."""
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

    assert every_n(proxy, after=after, run=run, changes_only=after) > 50


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
        reader = Reader(reading, SHARDS, key_bytes=size, row_bytes=8 * N_COLUMNS)
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
    scope = ReviewKey("app", "learn", "", "")
    change = ReleaseNotice("code", "a", "b", 0.99, 0.1, "win")

    def run() -> None:
        reset(client)
        writing = connect(proxy.address)
        ledger = Releases(writing)

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


@pytest.mark.slow
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
        units = [f"{n}-{i}".encode().rjust(16) for i in range(4)]
        for i, key in enumerate(units):
            pair = [(ours, StoredDraw(1, 0.5, NOW_MS, 1, Step.SAMPLE))]
            pair.append((theirs, StoredDraw(2, 0.5, NOW_MS, 1, Step.SAMPLE)))
            for draws, given in pair if i % 2 else pair[::-1]:
                await draws.claim(key, given, Unit(key, True, 0.0), now=now)
        noted, talk = StoredDraw(3, 0.5, NOW_MS, 1, Step.SAMPLE), f"{n}-talk".encode().rjust(16)
        ours.note_conversation(talk, noted, now=now)
        async with asyncio.timeout(10):
            while ours.shared.n_unwritten or theirs.shared.n_unwritten:
                await asyncio.sleep(0.01)
        for key in units:
            stored = StoredDraw.unpack(client.get(keys.draw(key.hex())))
            assert stored == theirs.get(key, now=now) == ours.get(key, now=now)
        assert client.execute_command(*conversations.look_up(talk)) == noted.pack_conversation()
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
