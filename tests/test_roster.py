"""Shards are shared among workers, and change hands as workers come and go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, SHARDS, folded, learning, outcome_of, until
from hypothesis import given
from hypothesis import strategies as st

from bandit.cells import KEY, from_bytes
from bandit.families import N_COLUMNS, Family, U
from telemetry import keys
from telemetry.reader import Reader
from telemetry.store import Address
from telemetry.writer import Writer
from workers.folding.lease import Lease, keep_all
from workers.folding.roster import Roster, share

pytestmark = pytest.mark.usefixtures("store")  # who is at work is told by the server's own clock


@given(st.integers(1, 64), st.integers(1, 80))
def test_shares_make_up_all_shards_and_differ_by_one_at_most(n_shards: int, n: int) -> None:
    workers = [f"w{i:02}" for i in range(n)]

    shares = [share(n_shards, workers, me) for me in workers]

    assert sum(shares) == n_shards
    assert max(shares) - min(shares) <= 1
    assert max(shares) == -(-n_shards // n)


def test_a_worker_that_is_alone_holds_everything() -> None:
    assert share(4, [], "me") == share(4, ["me"], "me") == 4
    assert share(4, ["other"], "me") == 2


def test_who_leaves_counts_no_more(client: Any) -> None:
    one, two = Roster(client, 4, "one"), Roster(client, 4, "two")

    assert [one.sign_on(), two.sign_on(), one.sign_on()] == [4, 2, 2]
    two.leave()

    assert one.sign_on() == 4
    assert client.pttl(keys.WORKERS) > 0


def test_who_says_nothing_for_long_counts_no_more(client: Any) -> None:
    now_s, _ = client.time()
    client.zadd(keys.WORKERS, {"dead": now_s * 1000 - 1})

    assert Roster(client, 4, "me").sign_on() == 4


@contextmanager
def worker(state_dir: Path, address: Address) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "workers", "--state-dir", str(state_dir)]
    process = subprocess.Popen(
        [*command, "--shards", str(SHARDS), "--store-url-env", "STORE"],
        env={**os.environ, "STORE": address.url},
        cwd=REPOSITORY,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def holders(client: Any) -> list[int]:
    """How many shards each worker holds; empty while one shard is nobody's."""
    leases = [client.get(keys.lease(shard)) for shard in range(SHARDS)]
    if not all(leases):
        return []
    return sorted(Counter(lease.split(b".")[0] for lease in leases).values())


@pytest.mark.slow
def test_shards_change_hands_and_every_call_counts_once(
    state_dir: Path, address: Address, client: Any
) -> None:
    """One worker, a second, one of them killed, a third that ends in good order."""
    writer = Writer(state_dir / "journal", address, SHARDS)
    writer.start()
    over = threading.Event()
    n_put = 0

    def calls() -> None:
        nonlocal n_put
        while not over.wait(0.002):
            assert writer.put(outcome_of(n_put))
            n_put += 1

    traffic = threading.Thread(target=calls)
    traffic.start()
    with learning(state_dir, address):
        until(lambda: holders(client) == [SHARDS])
        with worker(state_dir, address) as second:
            until(lambda: holders(client) == [1, 1])
            second.send_signal(signal.SIGKILL)
            killed_at = time.monotonic()
            until(lambda: holders(client) == [SHARDS])
            assert time.monotonic() - killed_at < 3.5
        with learning(state_dir, address):
            until(lambda: holders(client) == [1, 1])
        ended_at = time.monotonic()
        until(lambda: holders(client) == [SHARDS])
        assert time.monotonic() - ended_at < 1.5
        over.set()
        traffic.join()
        writer.close()
        until(lambda: folded(client) == n_put)

    reader = Reader(client, SHARDS, key_bytes=KEY.itemsize, row_bytes=8 * N_COLUMNS)
    reader.poll()
    rows = from_bytes(*reader.rows())
    assert rows.values[rows.keys["family"] == Family.USAGE, U.CALLS].sum() == n_put > 1000


def test_leases_are_renewed_together_and_each_that_is_lost_is_named(client: Any) -> None:
    """A server that started since knows no script: each is renewed by itself then."""
    now = 0.0
    leases = [Lease(client, number, "me", clock=lambda: now) for number in range(3)]
    assert all(lease.take() for lease in leases)
    client.set(keys.lease(1), "another")
    client.script_flush()

    assert keep_all(leases) == []  # none is due
    now = 60.0
    client.pexpire(keys.lease(0), 10)

    assert keep_all(leases) == [1]
    assert client.pttl(keys.lease(0)) > 1000
    assert client.get(keys.lease(1)) == b"another"
    assert keep_all(leases) == []
