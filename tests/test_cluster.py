"""The same code on a cluster: three nodes, each with a third of the slots."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import (
    LEARN,
    ROUTED,
    SHARDS,
    Provider,
    Server,
    Sidecar,
    endpoint,
    folded,
    free_port,
    learning,
    outcome_of,
    servers,
    serving,
    until,
)
from redis.crc import key_slot

from bandit.cells import KEY
from bandit.families import N_COLUMNS
from bandit.steps import Step
from router.beliefs.kept_switch import read_store, tell_store
from router.beliefs.switch import SwitchWord
from router.decision.draws import Draws
from router.decision.shared_draws import StoredDraw
from router.demo.stack import stack
from telemetry import conversations, keys
from telemetry.budget_accounts import BudgetAccounts, BudgetPeriod, TakeAsked
from telemetry.budget_rows import (
    FoldedSpend,
    account_field,
    day_of,
    holder_field,
    pack_account,
    read_folded,
)
from telemetry.embedded import PrivateServer
from telemetry.ended import JournalEnd
from telemetry.forgetting import drop_conversations, drop_draws, note_forgotten
from telemetry.journal import Journal
from telemetry.reader import Reader
from telemetry.store import Address, AwayErrors, connect, connect_async, parse_address, prepare
from telemetry.writer import Counters, Sender, Writer
from workers.archive.archive import Archive
from workers.archive.audit import audit_state
from workers.archive.restore import restore
from workers.folding.trimming import MOST_UNARCHIVED_BYTES, most_unarchived
from workers.jobs.burials import bury_dead

pytestmark = pytest.mark.slow
SLOTS = keys.SLOTS
NOW_MS = int(time.time() * 1000)


@contextmanager
def cluster(root: Path, *, replicas: int = 0) -> Iterator[list[Server]]:
    """Three nodes, each with a third of the slots, and replicas of the first."""
    settings = {"cluster_node_timeout": "1000", "repl_diskless_sync_delay": "0"}
    with servers(root) as start:
        found = [
            start(cluster_enabled="yes", **settings, cluster_port=bus)
            for bus in [str(free_port()) for _ in range(3 + replicas)]
        ]
        for i, node in enumerate(found[:3]):
            first, last = SLOTS * i // 3, SLOTS * (i + 1) // 3 - 1
            node.client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
            node.client.execute_command("CLUSTER SET-CONFIG-EPOCH", i + 1)
        for node in found[1:]:
            bus = node.client.config_get("cluster-port")["cluster-port"]
            found[0].client.execute_command("CLUSTER MEET", "127.0.0.1", node.port, bus)
        for node in found:
            known = f"cluster_known_nodes:{len(found)}"
            node.wait_for("cluster_state:ok", known, "cluster_slots_ok:16384")
        name = found[0].client.execute_command("CLUSTER MYID")
        for node in found[3:]:
            node.client.execute_command("CLUSTER REPLICATE", name)
            node.wait_for("master_link_status:up")
        yield found


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Server]]:
    with (
        tempfile.TemporaryDirectory(prefix="pm-", dir="/tmp") as root,
        cluster(Path(root)) as found,
    ):
        yield found


def address_of(nodes: list[Server]) -> Address:
    return parse_address("redis+cluster://" + ",".join(f"127.0.0.1:{n.port}" for n in nodes))


@pytest.fixture
def address(nodes: list[Server]) -> Address:
    for node in nodes:
        node.client.flushall()
    return address_of(nodes[:2])


@pytest.fixture
def sidecars(provider: Provider, state_dir: Path, address: Address) -> Iterator[list[Sidecar]]:
    """Two sidecars with nothing in common but the store."""
    value = {
        "endpoints": [endpoint(provider, "a"), endpoint(provider, "b")],
        "tasks": {"code": None},
        "strategies": {**LEARN, "guarded": {"objective": "quality", "release_every_s": 0.1}},
        "apps": {**ROUTED, "other": {"mode": "route", "strategy": "guarded", "unit": "call"}},
    }
    with (
        serving(value, state_dir / "one", address) as one,
        serving(value, state_dir / "two", address) as two,
    ):
        yield [one, two]


def spread(nodes: list[Server]) -> list[int]:
    return [len(node.client.keys("*")) for node in nodes]


def test_the_whole_loop_runs_on_a_cluster(
    sidecars: list[Sidecar], state_dir: Path, address: Address, client: Any, nodes: list[Server]
) -> None:
    """Calls, feedback by answer id and by reference, folds, snapshots, choices, the off switch."""
    one, two = sidecars
    with learning(state_dir / "one", address):
        answered = [
            sidecar.chat("auto:guarded/code", headers={"x-router-ref": f"ticket-{i}"})
            for i in range(10)
            for sidecar in sidecars
        ]
        two.until(lambda: one.calls_known() == two.calls_known() == 20)
        said = [two.feedback(response_id=answered[0].json()["id"], score=1)]
        said += [one.feedback(ref="ticket-3", match="all", passed=True)]
        said += [one.feedback(ref="ticket-early", passed=False)]
        assert [got.json()["results"][0]["status"] for got in said] == [
            "accepted",
            "accepted",
            "held",
        ]
        one.chat("auto:guarded/code", headers={"x-router-ref": "ticket-early"})
        two.until(lambda: one.labels_known() == two.labels_known() == 4)
        one.until(
            lambda: all(s.http.get("/v1/router/posteriors").json()["choices"] for s in sidecars)
        )
        assert client.hlen(keys.STANDINGS) > 0
    assert client.hlen(keys.held(0)) + client.hlen(keys.held(1)) == 0
    assert all(spread(nodes))

    client.set(keys.OFF, "1")
    one.until(lambda: one.app.keeper.off and two.app.keeper.off, within_s=2)
    assert tell_store(client, SwitchWord(1_764_000_000_000, False, None))
    one.until(lambda: not (one.app.keeper.off or two.app.keeper.off), within_s=2)
    assert read_store(client) == SwitchWord(1_764_000_000_000, False, 1_764_000_000_000)


def test_two_sidecars_give_a_session_one_draw(sidecars: list[Sidecar]) -> None:
    def served(session: int) -> list[str]:
        headers = {"x-router-session-id": f"session-{session}"}
        return [s.chat("auto/code", headers=headers).headers["x-router-endpoint"] for s in sidecars]

    for session in range(40):
        served(session)  # one that waited for the store in vain is corrected afterwards
    given = [served(session) for session in range(40)]

    assert all(first == second for first, second in given)
    assert len({first for first, _ in given}) == 2


def test_another_sidecar_explains_a_decision(sidecars: list[Sidecar]) -> None:
    one, two = sidecars
    answer = one.chat("auto")
    path = f"/v1/router/decisions/{answer.headers['x-router-decision-id']}"

    here, there = (sidecar.http.get(path).json() for sidecar in (one, two))

    assert here == there
    assert there["drawn"] == answer.headers["x-router-endpoint"]


def test_conversations_lie_on_all_nodes_and_another_process_finds_them(
    address: Address, nodes: list[Server]
) -> None:
    given = {os.urandom(16): StoredDraw(i, 1 / (i + 1), NOW_MS, 7, Step.SAMPLE) for i in range(200)}
    earlier = {os.urandom(16): given_ for given_ in list(given.values())[:9]}

    async def run() -> None:
        first, second, now = Draws(address), Draws(address), time.time()
        first.start()
        second.start()
        for key, held in given.items():
            first.note_conversation(key, held, now=now)
        async with asyncio.timeout(10):
            while first.shared.n_unwritten:
                await asyncio.sleep(0.01)
            for key, held in (given | earlier).items():
                while await second.find_conversation(key, now=now) != held:
                    await asyncio.sleep(0.01)  # the store may be slow
        await first.stop()
        await second.stop()

    client = connect(address)
    for key, held in earlier.items():
        client.set(keys.draw(key.hex()), held.pack(), px=60_000)
    client.close()
    asyncio.run(run())
    assert all(n > 5 for n in spread(nodes))


def test_what_is_drawn_for_a_user_goes_on_all_nodes(address: Address, nodes: list[Server]) -> None:
    user, held = os.urandom(8), StoredDraw(3, 0.5, NOW_MS, 7, Step.SAMPLE)
    client = connect(address)
    for _ in range(60):
        client.set(keys.draw((user + os.urandom(8)).hex()), held.pack(), px=60_000)
        client.set(keys.draw(os.urandom(16).hex()), held.pack(), px=60_000)
        for key in (os.urandom(12) + user[:4], os.urandom(16)):
            command = conversations.note(key, held.pack_conversation(), ttl_ms=86_400_000)
            client.execute_command(*command)
    assert all(n > 5 for n in spread(nodes))

    note_forgotten(client, [user], now_ms=NOW_MS)

    assert (drop_draws(client, user), drop_conversations(client, user)) == (60, 60)
    assert (drop_draws(client, user), drop_conversations(client, user)) == (0, 0)
    assert sum(len(node.client.keys(keys.draw("*"))) for node in nodes) == 60
    assert drop_conversations(client, b"") == 60, "the others'"
    client.close()


@contextmanager
def frozen(nodes: list[Server], key: str) -> Iterator[None]:
    """Stop the node that holds a key from answering."""
    node = nodes[key_slot(key.encode()) * 3 // SLOTS]
    node.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        node.process.send_signal(signal.SIGCONT)
        for each in nodes:
            each.wait_for("cluster_state:ok", "cluster_slots_ok:16384")


def test_a_write_that_timed_out_is_not_sent_again(
    nodes: list[Server], address: Address, client: Any
) -> None:
    """A client that repeats it by itself doubles it: the frozen node executes what it was sent."""
    plain, scripted, transacted, pipelined = names = [f"{{pm:0}}:{i}" for i in range(4)]
    clients = [connect(address, timeout_s=0.2) for _ in range(3)]
    script = clients[1].register_script("return redis.call('INCR', KEYS[1])")
    script(keys=[scripted])
    for each in [client, *clients]:  # each with a connection to the node that will be frozen
        each.delete(*names)

    async def pipeline() -> list[Any]:
        other = connect_async(address, timeout_s=0.2)
        await other.exists(pipelined)
        with frozen(nodes, pipelined):
            found = await other.pipeline().incr(pipelined).execute(raise_on_error=False)
        await other.aclose()
        return list(found)

    with frozen(nodes, plain):
        for write in (
            lambda: clients[0].incr(plain),
            lambda: script(keys=[scripted]),
            lambda: clients[2].pipeline(transaction=True).incr(transacted).execute(),
        ):
            with pytest.raises(AwayErrors):
                write()
    assert isinstance(asyncio.run(pipeline())[0], AwayErrors)

    assert [int(client.get(name) or 0) for name in names] == [1, 1, 1, 1]


def test_a_node_that_is_away_keeps_no_other_waiting_and_nothing_is_doubled(
    nodes: list[Server], address: Address, client: Any, state_dir: Path
) -> None:
    log = Journal(state_dir / "journal", SHARDS)
    log.open()
    for number in range(100):
        log.append(outcome_of(number))
    sender = Sender(log.directory, connect(address, timeout_s=0.2), Counters())
    for each in (client, sender.client):  # each with a connection to the node that will be frozen
        assert each.xlen(keys.stream(0)) == 0

    with frozen(nodes, keys.stream(0)):
        for _ in range(3):
            with pytest.raises(AwayErrors):
                sender.send_some(keep=log.current)
        assert client.xlen(keys.stream(1)) == 1
    assert sender.send_some(keep=log.current) == 100
    assert sender.send_some(keep=log.current) == 0

    assert client.xlen(keys.stream(0)) == 2  # the first try arrived in the end
    with learning(state_dir, address):
        until(lambda: folded(client) == 100 and folded(client, "repeated") == 50)


def test_the_loop_goes_on_when_a_replica_takes_over(state_dir: Path) -> None:
    with cluster(state_dir / "nodes", replicas=1) as nodes:
        address = address_of(nodes)
        client = connect(address)
        writer = Writer(state_dir / "journal", address, SHARDS)
        writer.start()
        reader = Reader(client, SHARDS, key_bytes=KEY.itemsize, row_bytes=8 * N_COLUMNS)
        with learning(state_dir, address):
            for number in range(100):
                writer.put(outcome_of(number))
            until(lambda: folded(client) == 100)
            nodes[0].client.wait(1, 1000)
            nodes[0].kill()
            for number in range(100, 200):
                writer.put(outcome_of(number))
            until(lambda: folded(client) == 200 and reader.poll())
            writer.close()
        client.close()


def test_the_tightest_node_says_how_much_may_wait_for_the_archive(
    nodes: list[Server], address: Address, client: Any
) -> None:
    assert most_unarchived(client, 8) == MOST_UNARCHIVED_BYTES
    n_held = [0, 0, 0]
    for shard in range(8):
        n_held[key_slot(keys.meta(shard).encode()) * 3 // SLOTS] += 1
    try:
        for i, node in enumerate(nodes):
            node.client.config_set("maxmemory", str((64 + 64 * i) << 20))
        shares = [(64 + 64 * i << 20) // n // 4 for i, n in enumerate(n_held)]
        assert most_unarchived(client, 8) == min(shares)
        nodes[0].client.config_set("maxmemory", "0")
        assert most_unarchived(client, 8) == min(shares[1:])
    finally:
        for node in nodes:
            node.client.config_set("maxmemory", "0")


def test_what_the_dead_held_of_budgets_returns_on_all_nodes(
    nodes: list[Server], address: Address, client: Any
) -> None:
    prepare(client, shards=SHARDS)
    now_s, dead = int(time.time()), b"d" * 16
    accounts = [BudgetPeriod(digest, now_s - 60, 3600) for digest in range(30)]
    for account in accounts:
        asked = TakeAsked(seq=1, mine=5, want=0, least=0, limit=9, lease_ms=0)
        BudgetAccounts(client).take(account, dead.hex(), asked)
        name, row = keys.budget_rows(1, day_of(account)), pack_account(FoldedSpend(2, 1), 3600)
        client.hset(name, mapping={account_field(account): row, holder_field(account, dead): 2})
    client.hset(keys.ENDED, dead, JournalEnd(now_s * 1000, (0,) * (SHARDS + 1)).pack())
    assert min(len(node.client.keys("*:budget:*")) for node in nodes) > 0

    buried = bury_dead(client, SHARDS, now_ms=now_s * 1000)

    assert (buried.n_buried, buried.returned) == (30, 90)
    assert {BudgetAccounts(client).read(account).debited for account in accounts} == {2}
    assert read_folded(client, SHARDS, accounts) == [FoldedSpend(2, 1)] * 30
    assert not client.exists(keys.ENDED)


def rows_of(client: Any) -> list[dict[bytes, bytes]]:
    return [client.hgetall(keys.rows(shard)) for shard in range(SHARDS)]


def test_a_lost_cluster_is_restored_from_what_the_jobs_archived(
    nodes: list[Server],
    address: Address,
    client: Any,
    store: PrivateServer,
    state_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The jobs' own queue is on one server, which is no part of the cluster."""
    monkeypatch.setenv("POINTSMAN_STORE_URL", address.url)
    monkeypatch.setenv("RQ_REDIS_URL", f"unix://{store.socket_path}")
    options = ["--shards", str(SHARDS), "--store-url-env", "POINTSMAN_STORE_URL"]
    options += ["--jobs", "--archive-every-s", "0.1"]
    archive = Archive(client, state_dir / "archive", SHARDS)
    writer = Writer(state_dir / "journal", address, SHARDS)
    writer.start()
    with learning(state_dir, address), stack(state_dir) as processes:
        processes.start("jobs", "workers", "--state-dir", str(state_dir), *options)
        for number in range(100):
            writer.put(outcome_of(number))
        until(lambda: folded(client) == 100)
        meta = [keys.meta(shard) for shard in range(SHARDS)]
        until(lambda: all(len(set(client.hmget(m, "mark", "archived"))) == 1 for m in meta), 30)
        until(lambda: client.exists(keys.AUDIT), 30)
    writer.close()
    rows = rows_of(client)
    assert all(rows)
    assert json.loads(client.get(keys.AUDIT))["equal"]
    assert audit_state(archive).equal
    for node in nodes:
        node.client.flushall()

    found = restore(archive)

    assert (found.shards, found.damaged) == (SHARDS, 0)
    assert rows_of(client) == rows
    assert audit_state(archive).equal
    with learning(state_dir, address):
        late = Journal(state_dir / "journal", SHARDS)
        late.open()
        for number in range(100, 120):
            late.append(outcome_of(number))
        late.close()
        until(lambda: folded(client) == 120)
    assert audit_state(archive).equal
