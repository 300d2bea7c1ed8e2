"""How long a month of the ledger takes to read, and what it takes in the store.

Fifty apps whose calls of thirty days are packed into blocks, as learners pack them: 600,000 rows
over all shards, in a private store. Each query is asked several times; the least counts, for others
share the machine, and this process's time on a core stands beside it.
"""

from __future__ import annotations

import tempfile
import time
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from telemetry import keys
from telemetry.embedded import PrivateServer
from telemetry.ledger_blocks import BlockEntry, LedgerBlock, block_field, block_of
from telemetry.ledger_questions import Dimension, LedgerQuestion
from telemetry.ledger_reading import read_ledger
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

N_ROWS, N_DAYS, N_SHARDS = 600_000, 30, 4
FIRST_DAY = 20_700
N_NAMES = {"app": 50, "role": 3, "task": 8, "strategy": 4, "endpoint": 12, "model": 12}
BERLIN = ZoneInfo("Europe/Berlin")
QUERIES: dict[str, tuple[tuple[Dimension, ...], tzinfo]] = {
    "app, task": ((Dimension.APP, Dimension.TASK), UTC),
    "app": ((Dimension.APP,), UTC),
    "endpoint, day": ((Dimension.ENDPOINT, Dimension.DAY), UTC),
    "app, day of Berlin": ((Dimension.APP, Dimension.DAY), BERLIN),
}
REPEATS = 7
MOST_MS, MOST_MB = 300.0, 60.0
EXACT = (LedgerColumn.CALLS, LedgerColumn.COST)

Measured = dict[str, Any]


def run_bench(*, quick: bool = False) -> Measured:
    """Return milliseconds of each query and megabytes in the store, and whether that is kept.

    Args:
        quick: a tenth of the rows.
    """
    n_rows = N_ROWS // 10 if quick else N_ROWS
    with (
        tempfile.TemporaryDirectory(prefix="pm-") as path,
        PrivateServer(Path(path) / "store") as server,
    ):
        client = connect(Address(f"unix://{server.socket_path}"))
        before = _used(client)
        sums = fill(client, n_rows)
        mb = (_used(client) - before) / 1e6
        times, cpu, is_whole = dict[str, float](), dict[str, float](), True
        for name, (by, zone) in QUERIES.items():
            times[name], cpu[name], found = _ask(client, by, zone)
            is_whole &= found == sums
        client.close()
    kept = {"ms": max(times.values()) <= MOST_MS, "mb": mb <= MOST_MB, "sums": is_whole}
    return {"rows": n_rows, "ms": times, "cpu_ms": cpu, "mb": round(mb, 1), "kept": kept}


def fill(client: Client, n_rows: int) -> list[int]:
    """Write a month of blocks; return what calls and cost add up to."""
    rng, sums = np.random.default_rng(1), np.zeros(N_LEDGER_COLUMNS, dtype=np.int64)
    names = {name: rng.integers(1, 2**64, size=n, dtype=np.uint64) for name, n in N_NAMES.items()}
    n = n_rows // (N_DAYS * N_SHARDS)
    for shard in range(N_SHARDS):
        for day in range(FIRST_DAY, FIRST_DAY + N_DAYS):
            data = block_of(_rows(rng, names, day, n), LedgerTable.CALLS)
            block = LedgerBlock(data, LedgerTable.CALLS)
            sums += block.sums()
            client.set(keys.spent_block(shard, LedgerTable.CALLS, day), data)
            entry = BlockEntry.of(data, block).pack()
            client.hset(keys.spent_blocks(shard), block_field(LedgerTable.CALLS, day), entry)
    return [int(sums[column]) for column in EXACT]


def _rows(rng: np.random.Generator, names: dict[str, Any], day: int, n: int) -> LedgerRows:
    """Return rows of one shard's day; the calls of each row are few, or some hundred."""
    found = np.zeros(n, dtype=CALLS_KEY)
    for name, those in names.items():
        found[name] = those[(rng.random(n) ** 2 * len(those)).astype(np.intp)]
    calls = rng.geometric(0.05, size=n)
    values = np.zeros((n, N_LEDGER_COLUMNS), dtype=np.int64)
    c = LedgerColumn
    values[:, c.CALLS], values[:, c.ATTEMPTS] = calls, calls + rng.poisson(0.02 * calls)
    values[:, c.FAILED] = values[:, c.ATTEMPTS] - calls
    values[:, c.ESTIMATED] = rng.poisson(0.01 * calls)
    values[:, c.TOKENS_IN] = calls * rng.integers(200, 4000, size=n)
    values[:, c.TOKENS_CACHED] = values[:, c.TOKENS_IN] * rng.random(n) // 2
    values[:, c.TOKENS_OUT] = calls * rng.integers(50, 900, size=n)
    values[:, c.TOKENS_REASONING] = values[:, c.TOKENS_OUT] // 3
    values[:, c.COST] = values[:, c.TOKENS_IN] * 250 + values[:, c.TOKENS_OUT] * 2000
    values[:, c.COST_ESTIMATED] = values[:, c.COST] // 100
    values[:, c.COST_BY_KNOWN_PRICES] = values[:, c.COST] * (rng.random(n) < 0.3)
    values[:, c.LATENCY_US] = calls * rng.integers(300_000, 4_000_000, size=n)
    return LedgerRows(day * HOURS + rng.integers(0, HOURS, size=n), found, values)


def _ask(client: Client, by: tuple[Dimension, ...], zone: tzinfo) -> tuple[float, float, list[int]]:
    asked = LedgerQuestion(FIRST_DAY * DAY_MS, (FIRST_DAY + N_DAYS) * DAY_MS, by, zone)
    took, on_a_core = [], []
    for _ in range(REPEATS):
        began, began_here = time.perf_counter(), time.process_time()
        found = read_ledger(client, N_SHARDS, asked)
        took.append((time.perf_counter() - began) * 1e3)
        on_a_core.append((time.process_time() - began_here) * 1e3)
    whole = [int(found.rows.values[:, column].sum()) for column in EXACT]
    return round(min(took), 1), round(min(on_a_core), 1), whole


def _used(client: Client) -> int:
    return int(client.info("memory")["used_memory"])


def print_table(measured: Measured) -> None:
    """Print a line for each query, and what the rows take."""
    print(f"{measured['rows']:,} rows in blocks: {measured['mb']} MB in the store")
    for by, ms in measured["ms"].items():
        print(f"  by {by}: {ms} ms (on a core {measured['cpu_ms'][by]})")
    missed = [name for name, is_kept in measured["kept"].items() if not is_kept]
    print(f"missed: {', '.join(missed)}" if missed else "all goals kept")
