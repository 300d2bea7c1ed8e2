"""A primary, a replica and a sentinel: the loop goes on with what the replica has."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import (
    LEARN,
    ROUTED,
    SHARDS,
    Provider,
    Server,
    endpoint,
    folded,
    learning,
    outcome_of,
    servers,
    serving,
    until,
)

from bandit.cells import KEY, from_bytes
from bandit.families import N_COLUMNS, Family, U
from telemetry.reader import Reader
from telemetry.store import Address, connect, parse_address
from telemetry.writer import Writer

pytestmark = pytest.mark.slow
SERVICE = "pointsman"


@dataclass
class Watched:
    """A store that a sentinel watches."""

    primary: Server
    replica: Server
    address: Address


@pytest.fixture
def watched(state_dir: Path) -> Iterator[Watched]:
    with servers(state_dir / "servers") as start:
        settings = {"requirepass": "se cret", "masterauth": "se cret"}
        primary = start(repl_diskless_sync_delay="0", **settings)
        replica = start(replicaof=f"127.0.0.1 {primary.port}", **settings)
        file = state_dir / "sentinel.conf"
        file.write_text(
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} 1\n"
            f'sentinel auth-pass {SERVICE} "se cret"\n'
            f"sentinel down-after-milliseconds {SERVICE} 500\n"
            f"sentinel failover-timeout {SERVICE} 1000\n"
        )
        sentinel = start(str(file), "--sentinel")
        replica.wait_for("master_link_status:up")
        until(lambda: sentinel.client.sentinel_slaves(SERVICE))
        hosts = f"127.0.0.1:1,127.0.0.1:{sentinel.port}"  # one that is away harms nothing
        address = parse_address(f"redis+sentinel://:se%20cret@{hosts}/{SERVICE}/0")
        yield Watched(primary, replica, address)


def calls(reader: Reader) -> int:
    """How many calls the rows count."""
    rows = from_bytes(*reader.rows())
    return int(rows.values[rows.keys["family"] == Family.USAGE, U.CALLS].sum())


def test_the_loop_goes_on_with_the_replica(
    watched: Watched, provider: Provider, state_dir: Path
) -> None:
    value = {
        "endpoints": [endpoint(provider, "a"), endpoint(provider, "b")],
        "tasks": {"code": None},
        "strategies": LEARN,
        "apps": ROUTED,
    }
    client = connect(watched.address)
    with (
        serving(value, state_dir, watched.address) as sidecar,
        learning(state_dir, watched.address),
    ):
        headers = [{"x-router-session-id": f"session-{i}"} for i in range(10)]
        given = [sidecar.chat(headers=each).headers["x-router-endpoint"] for each in headers]
        sidecar.until(lambda: sidecar.calls_known() == 10)
        watched.primary.client.wait(1, 1000)

        watched.primary.kill()
        again = [sidecar.chat(headers=each) for each in headers]
        assert [got.headers["x-router-endpoint"] for got in again] == given
        until(lambda: folded(client) == 20)
        sidecar.until(lambda: sidecar.calls_known() == 20)

        new = sidecar.chat(headers={"x-router-session-id": "session-new"})
        assert new.status_code == 200
        until(lambda: len(list(client.scan_iter("pm:draw:*"))) == 11)
    assert watched.replica.client.role()[0] == b"master"
    client.close()


def test_what_was_not_replicated_is_lost_whole_and_nothing_is_doubled(
    watched: Watched, state_dir: Path
) -> None:
    """Records, state and mark come from one server: it is as if the last moments had not been."""
    client = connect(watched.address)
    reader = Reader(client, SHARDS, key_bytes=KEY.itemsize, row_bytes=8 * N_COLUMNS)
    writer = Writer(state_dir / "journal", watched.address, SHARDS)
    writer.start()
    with learning(state_dir, watched.address):
        for number in range(100):
            writer.put(outcome_of(number))
        until(lambda: folded(client) == 100 and reader.poll())
        watched.primary.client.wait(1, 1000)
        watched.replica.process.send_signal(signal.SIGSTOP)
        watched.primary.client.execute_command("CLIENT KILL", "TYPE", "replica")
        for number in range(100, 150):
            writer.put(outcome_of(number))
        until(lambda: folded(client) == 150 and reader.poll())
        assert calls(reader) == 150

        watched.primary.kill()
        watched.replica.process.send_signal(signal.SIGCONT)
        for number in range(150, 250):
            writer.put(outcome_of(number))
        until(lambda: folded(client) == 200)
        until(lambda: reader.poll() or calls(reader) == 200)
        writer.close()

    assert calls(reader) == 200
    assert folded(client, "repeated") == 0
    client.close()
