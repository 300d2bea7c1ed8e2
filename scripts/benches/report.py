"""How long a report of a big house takes: 200 endpoints × 40 tasks, a million calls in a month.

Rows and ledger are as folding a million events leaves them, in a private store; then the verb runs
as a process of its own, start of the interpreter included.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bandit import cells
from bandit.families import N_COLUMNS, Family, L, Q, R, S, U
from router.config.compiled import Configuration, compile_text
from telemetry import keys
from telemetry.embedded import PrivateServer
from telemetry.ledger_blocks import BlockEntry, LedgerBlock, block_field, block_of
from telemetry.ledger_rows import (
    CALLS_KEY,
    DAY_MS,
    HOURS,
    N_LEDGER_COLUMNS,
    LedgerColumn,
    LedgerRows,
    LedgerTable,
)
from telemetry.store import Address, Client, connect

N_ENDPOINTS, N_TASKS, N_CALLS, N_DAYS, N_SHARDS = 200, 40, 1_000_000, 30, 4
N_WINDOWS = 3
"""Windows of decay in which each cell has a row."""
MOST_S = 5.0
VIEWS = {
    "page": (),
    "--all": ("--all",),
    "--task": ("--task", "task-00"),
    "--month": ("--month",),
    "--json": ("--json",),
}
STORE = "POINTSMAN_BENCH_STORE"


def run_bench() -> dict[str, Any]:
    """Return the seconds that each view took, on the clock and on a core.

    It is kept below `MOST_S` on a core: others share the machine.
    """
    with (
        tempfile.TemporaryDirectory(prefix="pm-") as path,
        PrivateServer(Path(path) / "store") as server,
    ):
        address = f"unix://{server.socket_path}"
        file = Path(path) / "pointsman.yaml"
        file.write_text(yaml.safe_dump(_entries(path)))
        configuration = compile_text(file.read_text(), file=str(file), secrets=False)
        client = connect(Address(address))
        _fill_rows(client, configuration)
        _fill_ledger(client, configuration)
        client.close()
        took = {name: _timed(file, address, more) for name, more in VIEWS.items()}
    return {"seconds": took, "kept": {"s": max(core for _, core in took.values()) <= MOST_S}}


def _timed(file: Path, address: str, more: tuple[str, ...]) -> tuple[float, float]:
    """Return how long the verb took, on the clock and on a core; it must go well."""
    began, before = time.perf_counter(), os.times()
    subprocess.run(  # noqa: S603 - our own verb
        [sys.executable, "-m", "router.cli", "report", "--config", str(file), *more],
        env={**os.environ, STORE: address},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    now = os.times()
    on_a_core = now.children_user + now.children_system
    on_a_core -= before.children_user + before.children_system
    return round(time.perf_counter() - began, 2), round(on_a_core, 2)


def _entries(path: str) -> dict[str, Any]:
    return {
        "server": {"state_dir": f"{path}/state"},
        "store": {"url_env": STORE, "shards": N_SHARDS},
        "endpoints": [
            {
                "id": f"provider-{i % 11}/model-{i:03}",
                "model": f"model-{i:03}",
                "base_url": f"http://e{i}.test/v1",
                "prices": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 4},
            }
            for i in range(N_ENDPOINTS)
        ],
        "tasks": {f"task-{i:02}": {} for i in range(N_TASKS)},
        "apps": {"default": {"mode": "route"}},
    }


def _fill_rows(client: Client, of: Configuration) -> None:
    rng = np.random.default_rng(1)
    n = N_ENDPOINTS * N_TASKS
    tasks = [of.task_digests[of.task_index[f"task-{i:02}"]] for i in range(N_TASKS)]
    where = {
        "category": np.repeat(np.array(tasks, dtype=np.uint64), N_ENDPOINTS),
        "endpoint": np.tile(of.catalog.digests, N_TASKS),
    }
    calls = rng.geometric(n / N_CALLS, size=n).astype(float)
    labels = np.floor(calls / 4)
    columns = {family: np.zeros((n, N_COLUMNS)) for family in Family}
    columns[Family.USAGE][:, [U.CALLS, U.PRICED, U.N]] = calls[:, None]
    columns[Family.USAGE][:, U.COST_NANO] = calls * rng.integers(10**5, 10**7, size=n)
    columns[Family.RELIABILITY][:, R.OK] = calls
    columns[Family.QUALITY][:, [Q.LABELS, Q.N]] = labels[:, None]
    columns[Family.QUALITY][:, [Q.R, Q.R2]] = (labels * rng.beta(8, 2, size=n))[:, None]
    columns[Family.LATENCY][:, L.N] = calls
    columns[Family.LATENCY][:, L.LN2] = calls * 0.1
    columns[Family.SIGNALS][:, S.HUMAN] = labels
    used = (Family.USAGE, Family.RELIABILITY, Family.QUALITY, Family.LATENCY, Family.SIGNALS)
    now_ms = int(time.time() * 1000)
    terms = cells.merge(
        [
            cells.terms(
                family,
                columns=columns[family] / N_WINDOWS,
                at_ms=np.full(n, now_ms - 14 * DAY_MS * window),
                **where,
            )
            for family in used
            for window in range(N_WINDOWS)
        ]
    )
    for key, value in zip(terms.keys, terms.values, strict=True):
        client.hset(keys.rows(0), key.tobytes(), value.tobytes())
        client.zadd(keys.touched(0), {key.tobytes(): 1})
    client.hset(keys.meta(0), mapping={"version": 1, "n_outcomes": N_CALLS})


def _fill_ledger(client: Client, of: Configuration) -> None:
    rng, today = np.random.default_rng(2), int(time.time() * 1000) // DAY_MS
    n = N_CALLS // 20 // (N_DAYS * N_SHARDS)
    tasks = [of.task_digests[of.task_index[f"task-{i:02}"]] for i in range(N_TASKS)]
    names = {
        "app": [app.digest for app in of.apps.values()],
        "task": tasks,
        "strategy": [next(iter(of.strategies.values())).digest],
        "endpoint": of.catalog.digests.tolist(),
    }
    for shard in range(N_SHARDS):
        for day in range(today - N_DAYS, today):
            found = np.zeros(n, dtype=CALLS_KEY)
            for name, those in names.items():
                found[name] = rng.choice(np.array(those, dtype=np.uint64), size=n)
            values = np.zeros((n, N_LEDGER_COLUMNS), dtype=np.int64)
            values[:, [LedgerColumn.CALLS, LedgerColumn.ATTEMPTS]] = 20
            values[:, LedgerColumn.COST] = rng.integers(10**6, 10**8, size=n)
            spans = day * HOURS + rng.integers(0, HOURS, size=n)
            data = block_of(LedgerRows(spans, found, values), LedgerTable.CALLS)
            client.set(keys.spent_block(shard, LedgerTable.CALLS, day), data)
            entry = BlockEntry.of(data, LedgerBlock(data, LedgerTable.CALLS)).pack()
            client.hset(keys.spent_blocks(shard), block_field(LedgerTable.CALLS, day), entry)


def print_table(measured: dict[str, Any]) -> None:
    """Print a line for each view."""
    print(f"{N_ENDPOINTS} endpoints × {N_TASKS} tasks, {N_CALLS:,} calls in {N_DAYS} days")
    for name, (seconds, on_a_core) in measured["seconds"].items():
        print(f"  {name}: {seconds} s, {on_a_core} on a core")
    print("all goals kept" if measured["kept"]["s"] else f"missed: {MOST_S} s")
