"""The same proof through the real stack: sidecar, worker and store, and `pointsman spend`."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from router.demo.client import DemoSettings, drive
from router.demo.run import SHARDS, configuration_text, list_prices, with_flat_tasks
from router.demo.simulator import save
from router.demo.stack import stack
from scripts.proofs.savings import SavingRun, judge_savings, portfolio
from scripts.proofs.savings_play import PlayedCalls
from telemetry import keys
from telemetry.layouts import RECORD
from telemetry.recorded import Recorded, Selection
from telemetry.saving_state import STATE_FIELD
from telemetry.store import Address, connect, open_store
from workers.archive.retention import Keep
from workers.jobs import jobs
from workers.jobs.place import Place

SETTLE_S = 90.0
VERB_S = 120.0
CONCURRENCY = 8
MTOK = 1e6
APP = "default"


def over_http(table: Recorded, seed: int, n_calls: int) -> SavingRun:
    """Return what `pointsman spend` says of calls that were made over HTTP, and what is true.

    Raises:
        RuntimeError: calls failed, or what was booked never came to be summed up.
    """
    few, incumbent = portfolio(with_flat_tasks(table), seed)
    settings = DemoSettings(
        outcomes=None,
        selection=Selection(),
        requests=n_calls,
        seed=seed,
        concurrency=CONCURRENCY,
        time_scale=0.0,
        feedback_delay_s=0.0,
    )
    with tempfile.TemporaryDirectory(prefix="pointsman-") as temporary:
        directory = Path(temporary)
        save(few, directory / "table.npz")
        state_dir, config = directory / "state", directory / "pointsman.yaml"
        with open_store(state_dir, url=None) as address, stack(directory) as processes:
            simulator = processes.simulator(directory / "table.npz", time_scale=0.0)
            text = configuration_text(few, simulator, state_dir, few.endpoints[incumbent])
            config.write_text(text)
            processes.worker(state_dir, shards=SHARDS)
            ports = (processes.router(config), simulator)
            ledger, _ = asyncio.run(drive(settings, few, ports, processes))
            if ledger.failures:
                raise RuntimeError(f"{len(ledger.failures)} calls failed: {ledger.failures[0]}")
            said = _said(config, address, state_dir, n_calls, ledger.feedback)
    played = PlayedCalls(
        few,
        incumbent,
        np.asarray(ledger.prompts)[:, None],
        ledger.served,
        np.empty(0, dtype=RECORD),
        range(0),
        list_usd=_usd(few),
    )
    return judge_savings(said, played)


def _usd(table: Recorded) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return (n_prompts, n_endpoints) what calls cost at the prices that are configured."""
    usd_in, usd_out = np.array(
        [list_prices(table, e) for e in range(len(table.endpoints))], dtype=float
    ).T
    return np.asarray((table.tokens_in * usd_in + table.tokens_out * usd_out) / MTOK)


def _said(
    config: Path, address: Address, state_dir: Path, n_calls: int, n_labels: int
) -> dict[str, Any]:
    """Return what is said of the app once all calls and labels are summed up."""
    jobs.work_at(Place(address, state_dir / "archive", SHARDS, Keep(30, 1 << 30)))
    deadline = time.monotonic() + SETTLE_S
    while True:
        with closing(connect(address)) as client:
            client.hdel(keys.SAVINGS, STATE_FIELD)  # else it waits for its share of a core
        jobs.tally()
        section = _spend(config, address)["savings"]
        rows = [row for row in section["apps"] if row["app"] == APP and row["reason"] is None]
        if rows and rows[0]["calls"] == n_calls and rows[0]["quality"]["labels"] == n_labels:
            found: dict[str, Any] = rows[0]
            return found
        if time.monotonic() > deadline:
            raise RuntimeError(f"{n_calls} calls, {n_labels} labels; summed up: {section}")
        time.sleep(0.5)


def _spend(config: Path, address: Address) -> dict[str, Any]:
    command = [
        *(sys.executable, "-m", "router.cli", "spend"),
        *("--config", str(config), "--by", "app,task", "--json"),
    ]
    done = subprocess.run(  # noqa: S603 - our own module
        command,
        capture_output=True,
        timeout=VERB_S,
        env={**os.environ, "POINTSMAN_STORE_URL": address.url},
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace")[-2000:])
    found: dict[str, Any] = json.loads(done.stdout)
    return found
