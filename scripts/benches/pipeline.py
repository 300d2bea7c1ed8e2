"""`bench pipeline`: from a call's outcome to the posterior of a router, on the default store.

Everything is the real thing, each in a process of its own: a private store with its append-only
file, the worker, producers with writer and journal, a reader that does what a router's does.
Half of the records are outcomes, half feedback, one in twenty of that a correction. Records are
built before the clock starts; what building them costs a call is `writer_us`. Judge by the
figures beside each other: all of a run share one machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from scripts.benches.references import group_hincrby, rq_per_event
from scripts.benches.replay import replay
from telemetry import keys
from telemetry.embedded import PrivateServer
from telemetry.ledger_blocks import parse_field
from telemetry.ledger_rows import LedgerColumn, LedgerTable, unpacked
from telemetry.processes import child_environment
from telemetry.store import Address, Client, connect, prepare

N_SHARDS = 4
SMALL, LARGE = (10, 10), (200, 40)
N_PRODUCERS = 2
TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    n_events: int = 600_000  # of the throughput at 10 × 10
    n_events_large: int = 300_000
    n_replayed: int = 400_000
    rates: tuple[int, ...] = (1_000, 10_000, 100_000)
    fresh_s: float = 5.0
    n_timed: int = 20_000
    n_jobs: int = 1_000
    n_grouped: int = 100_000
    n_apps: int = 1
    n_users: int = 0  # each calls in every app


FULL = Sizes()
QUICK = Sizes(
    n_events=200_000,
    n_events_large=100_000,
    n_replayed=150_000,
    fresh_s=2.0,
    n_timed=5_000,
    n_jobs=300,
    n_grouped=30_000,
)


def run_ledger(sizes: Sizes) -> dict[str, Any]:
    """Return how fast calls of many apps and users are folded, and what their ledger takes."""
    cpu: dict[str, dict[str, float]] = {}
    whose = {"n_apps": sizes.n_apps, "n_users": sizes.n_users}
    taken: dict[str, float] = {}
    _say("throughput")
    per_s = _throughput(SMALL, sizes.n_events, cpu, "full", taken=taken, **whose)
    return {**whose, "events_per_s": per_s, "ledger": taken, "cpu": cpu}


def run_bench(sizes: Sizes) -> dict[str, Any]:
    """Return the figures; each is measured on a store of its own."""
    cpu: dict[str, dict[str, float]] = {}
    fresh: dict[str, dict[str, float]] = {}
    _say("throughput")
    events_per_s = _throughput(SMALL, sizes.n_events, cpu, "full")
    events_per_s_large = _throughput(LARGE, sizes.n_events_large, cpu, "full_200x40")
    for rate in sizes.rates:
        _say(f"freshness at {rate} events/s")
        fresh[str(rate)] = _freshness(rate, sizes.fresh_s, cpu)
    _say("replay, the writer's cost, references")
    with _store() as lab:
        lab.run("produce", n=sizes.n_replayed)
        replay(lab.client, n_shards=N_SHARDS)  # the first one also warms the process up
        replay_per_s = replay(lab.client, n_shards=N_SHARDS)
    with _store() as lab:
        writer_us: float = lab.run("time_calls", n=sizes.n_timed, burst=5)["writer_us"]
    with _store() as lab:
        references = {
            "rq_per_event": rq_per_event(lab.client, sizes.n_jobs),
            "group_hincrby": group_hincrby(lab.client, sizes.n_grouped),
        }
    return {
        "events_per_s": events_per_s,
        "events_per_s_200x40": events_per_s_large,
        "replay_per_s": replay_per_s,
        "freshness_ms": fresh,
        "writer_us": writer_us,
        "cpu": cpu,
        "references": references,
    }


@dataclass(slots=True)
class Lab:
    """A store of its own, and how to run the parts of the pipeline against it."""

    directory: Path
    address: Address
    client: Client
    cells: tuple[int, int]

    def start(self, role: str, number: int = 0, **more: Any) -> Child:
        """Start a process of `scripts.benches.load`; it waits for the word."""
        options = {
            "journals": str(self.directory / "journal"),
            "url": self.address.url,
            "n_shards": N_SHARDS,
            "n_categories": self.cells[0],
            "n_endpoints": self.cells[1],
            "seed": number,
            "out": str(self.directory / f"{role}-{number}.npz"),
            **more,
        }
        return Child.start("scripts.benches.load", role, json.dumps(options))

    def run(self, role: str, **more: Any) -> dict[str, Any]:
        """Run one such process to its end."""
        child = self.start(role, **more)
        child.go()
        return child.result()

    def figures(self, role: str, number: int = 0) -> dict[str, Any]:
        """Return the arrays that a process left."""
        with np.load(self.directory / f"{role}-{number}.npz") as found:
            return dict(found)

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run the real worker, and wait until it folds."""
        arguments = ["--state-dir", str(self.directory), "--shards", str(N_SHARDS)]
        process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "workers", *arguments],
            env=child_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _until(lambda: all(self.client.exists(keys.lease(n)) for n in range(N_SHARDS)))
            yield process
        finally:
            process.terminate()
            process.wait(30)

    def n_folded(self) -> int:
        """Return how many records took effect."""
        pipeline = self.client.pipeline(transaction=False)
        for shard in range(N_SHARDS):
            pipeline.hmget(keys.meta(shard), "n_outcomes", "n_feedback", "n_feedback_outdated")
        return sum(int(x or 0) for found in pipeline.execute() for x in found)

    def store_cpu_s(self) -> float:
        """Return the CPU time that the store's process has used."""
        found = self.client.info("cpu")
        return float(found["used_cpu_sys"]) + float(found["used_cpu_user"])


@dataclass(slots=True)
class Child:
    """A process that says `ready`, waits for a line, and ends with one JSON object."""

    process: subprocess.Popen[str]

    @classmethod
    def start(cls, module: str, *arguments: str) -> Child:
        """Start it; return once it is ready."""
        process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", module, *arguments],
            env=child_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{module} {arguments[0]} did not start")
        return cls(process)

    def go(self) -> None:
        """Let it begin."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def result(self) -> dict[str, Any]:
        """End its input and return what it found."""
        out, _ = self.process.communicate(timeout=TIMEOUT_S)
        if self.process.returncode:
            raise RuntimeError(f"a process of the bench failed: {self.process.args!r}")
        found: dict[str, Any] = json.loads(out)
        return found


@contextmanager
def _store(size: tuple[int, int] = SMALL) -> Iterator[Lab]:
    with tempfile.TemporaryDirectory(prefix="pm-bench-") as temporary:
        directory = Path(temporary)
        with PrivateServer(directory / "store") as server:
            address = Address(f"unix://{server.socket_path}", server)
            client = connect(address, timeout_s=TIMEOUT_S)
            prepare(client, shards=N_SHARDS)
            yield Lab(directory, address, client, size)
            client.close()


def _throughput(
    size: tuple[int, int],
    n: int,
    cpu: dict[str, dict[str, float]],
    name: str,
    *,
    taken: dict[str, float] | None = None,
    **whose: int,
) -> float:
    """Return records/s from the first put to the last commit, writers going as fast as they can.

    Args:
        taken: of the ledger, to be filled.
        whose: how many apps and users call.
    """
    with _store(size) as lab, lab.worker() as worker:
        each = n // N_PRODUCERS
        producers = [lab.start("produce", number, n=each, **whose) for number in range(N_PRODUCERS)]
        store_cpu, worker_cpu = lab.store_cpu_s(), _cpu_s(worker.pid)
        for producer in producers:
            producer.go()
        _until(lambda: lab.n_folded() >= each * N_PRODUCERS)
        ended = time.monotonic()
        store_cpu = lab.store_cpu_s() - store_cpu
        worker_cpu = _cpu_s(worker.pid) - worker_cpu
        found = [producer.result() for producer in producers]
        if taken is not None:
            taken.update(_ledger_of(lab))
    took = ended - min(x["began"] for x in found)
    used = {"producers": sum(x["cpu_s"] for x in found), "store": store_cpu, "worker": worker_cpu}
    cpu[name] = {what: s / took for what, s in used.items()}
    return float(each * N_PRODUCERS / took)


def _ledger_of(lab: Lab) -> dict[str, float]:
    """Return how many loose rows of the ledger a store has, their bytes, and what they sum to."""
    out = {"rows": 0.0, "bytes": 0.0, "attempts": 0.0, "cost_nano": 0.0}
    for shard in range(N_SHARDS):
        for place in map(parse_field, lab.client.hkeys(keys.spent_spans(shard))):
            rows = lab.client.hvals(keys.spent(shard, *place))
            out["rows"] += len(rows)
            out["bytes"] += lab.client.memory_usage(keys.spent(shard, *place))
            if place[0] is LedgerTable.CALLS:
                sums = unpacked(rows)
                out["attempts"] += int(sums[:, LedgerColumn.ATTEMPTS].sum())
                out["cost_nano"] += int(sums[:, LedgerColumn.COST].sum())
    return out


def _freshness(rate: int, seconds: float, cpu: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return quantiles of the time from each outcome's put until a posterior held it."""
    with _store() as lab, lab.worker() as worker:
        reader = lab.start("follow")
        producer = lab.start("produce", n=int(rate * seconds), per_s=rate)
        store_cpu, worker_cpu = lab.store_cpu_s(), _cpu_s(worker.pid)
        reader.go()
        producer.go()
        produced = producer.result()
        _until(lambda: lab.n_folded() >= int(rate * seconds))
        store_cpu = lab.store_cpu_s() - store_cpu
        worker_cpu = _cpu_s(worker.pid) - worker_cpu
        time.sleep(0.2)  # the reader has yet to see the last of it
        read = reader.result()
        put, seen = lab.figures("produce"), lab.figures("follow")
    took = produced["put_s"]
    used = {"producer": produced["cpu_s"], "store": store_cpu, "worker": worker_cpu}
    used["reader"] = read["cpu_s"]
    cpu[str(rate)] = {what: s / took for what, s in used.items()}
    late = np.concatenate([_lateness_s(put, seen, shard) for shard in range(N_SHARDS)])
    p50, p99 = np.percentile(late, [50, 99]) * 1000
    return {"p50": float(p50), "p99": float(p99)}


def _lateness_s(put: dict[str, Any], seen: dict[str, Any], shard: int) -> Any:
    """Return for each outcome of a shard how long after its put the first look saw it."""
    put_at = put["put_at"][put["shard"] == shard]
    counts = seen["counts"][:, shard]
    first = np.searchsorted(counts, np.arange(1, len(put_at) + 1))
    if len(put_at) and counts[-1] < len(put_at):
        raise RuntimeError(f"the reader saw {counts[-1]} of {len(put_at)} outcomes")
    return seen["seen_at"][first] - put_at


def print_table(found: dict[str, Any]) -> None:
    """Print the figures for people."""
    table = Table("figure", "value", title="the pipeline, on a private store")
    table.add_row("durable events/s, 10 × 10 cells", f"{found['events_per_s']:,.0f}")
    table.add_row("durable events/s, 200 × 40 cells", f"{found['events_per_s_200x40']:,.0f}")
    table.add_row("replay, records/s", f"{found['replay_per_s']:,.0f}")
    for rate, ms in found["freshness_ms"].items():
        row = f"p50 {ms['p50']:.1f} ms, p99 {ms['p99']:.1f} ms"
        table.add_row(f"outcome → posterior at {int(rate):,}/s", row)
    table.add_row("build and put one outcome", f"{found['writer_us']:.1f} µs")
    for load, shares in found["cpu"].items():
        row = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
        table.add_row(f"share of a core, {load.replace('_', ' ')}", row)
    table.add_row("reference: one rq job an event", f"{found['references']['rq_per_event']:,.0f}/s")
    table.add_row(
        "reference: group, HINCRBY, XACK", f"{found['references']['group_hincrby']:,.0f}/s"
    )
    Console().print(table)


def print_ledger(found: dict[str, Any]) -> None:
    """Print the figures of the ledger for people."""
    title = f"{found['n_apps']} apps, {found['n_users']} users in each"
    table = Table("figure", "value", title=title)
    table.add_row("durable events/s, 10 × 10 cells", f"{found['events_per_s']:,.0f}")
    rows, size = found["ledger"]["rows"], found["ledger"]["bytes"]
    table.add_row("loose rows of the ledger", f"{rows:,.0f}, {size / max(rows, 1):.0f} bytes each")
    for name, share in found["cpu"]["full"].items():
        table.add_row(f"share of a core, {name}", f"{share:.0%}")
    Console().print(table)


def _cpu_s(pid: int) -> float:
    """Return the CPU time of a process, from /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _until(condition: Any) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("the pipeline did not get through in time")
        time.sleep(0.01)


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
