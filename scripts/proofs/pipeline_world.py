"""The parts and the endpoints of the proof of the pipeline, and how much is done to them."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from router.config.compiled import load
from router.demo.simulator import save
from router.demo.stack import DidNotStart, Stack
from scripts.proofs.bills import TAG
from scripts.proofs.chaos import SECOND, UP, listens
from scripts.proofs.ledger import CALLS_PER_TASK, tokens
from scripts.proofs.sabotage import Sabotage
from telemetry.recorded import Recorded

ENDPOINTS = ("east", "north", "south")
APP = "default"
PRICES = np.array([[1, 2], [3, 5], [7, 11]])
"""Nano-USD a token in and out: whoever books a call by another's price is found out."""
NANO_PER_TOKEN = 1000
"""Of a USD a million tokens."""
KILL_EVERY_S = 1.2
CALLS_PER_KILL = 40
MOST_TASKS = 250
"""Of 32 calls each. More tasks make the router slow to believe, and prove nothing else."""
LONGEST_PAUSE_S = 0.5
"""`up` waits up to ten seconds before it starts a part again: most of the run would be waiting."""
START_S = 60.0
ARCHIVE_EVERY_S = 2.0
"""Instead of an hour: so that archiving, and trimming behind it, go on throughout."""
SETTLE_S = 60.0
AT_LEAST_S = 15.0
SABOTAGED_S = 4.0
"""One event is enough, and nothing is killed by the way."""
SABOTAGED_SETTLE_S = 8.0
"""What was taken away does not come, however long one waits."""


@dataclass(frozen=True, slots=True)
class ProofSettings:
    """What to run."""

    kills: int
    seed: int
    calls_per_kill: int = CALLS_PER_KILL
    sabotages: tuple[Sabotage, ...] = ()

    @property
    def n_tasks(self) -> int:
        """How many tasks the calls are spread over."""
        calls = max(self.kills, 10) * self.calls_per_kill
        return min(-(-calls // CALLS_PER_TASK), MOST_TASKS)

    @property
    def tasks(self) -> list[str]:
        """Their names."""
        return [f"task-{i:04d}" for i in range(self.n_tasks)]

    @property
    def at_least_s(self) -> float:
        """How long calls go on at least."""
        return SABOTAGED_S if self.sabotages else AT_LEAST_S

    @property
    def settle_s(self) -> float:
        """How long what is missing may still come."""
        return SABOTAGED_SETTLE_S if self.sabotages else SETTLE_S

    @property
    def planned_s(self) -> float:
        """About how long processes are killed."""
        return max(self.kills * KILL_EVERY_S, self.at_least_s)


def configure(directory: Path, processes: Stack, settings: ProofSettings) -> tuple[Path, int]:
    """Start the simulated endpoints; return the sidecar's configuration, and their port."""
    save(_table(settings), directory / "table.npz", PRICES)
    simulator = processes.simulator(directory / "table.npz", time_scale=1.0)
    value = {
        "server": {"port": _free_port(), "state_dir": str(directory / "state"), "drain_s": 2},
        "endpoints": [
            {
                "id": name,
                "model": name,
                "base_url": f"http://127.0.0.1:{simulator}/e/{i}/v1",
                "prices": {"input_usd_per_mtok": n_in, "output_usd_per_mtok": n_out},
            }
            for i, (name, (n_in, n_out)) in enumerate(
                zip(ENDPOINTS, (PRICES / NANO_PER_TOKEN).tolist(), strict=True)
            )
        ],
        "archive": {"every_s": ARCHIVE_EVERY_S},
        "tasks": dict.fromkeys(settings.tasks),
        "strategies": {"quality": {"objective": "quality", "incumbent": "none"}},
        "apps": {APP: {"mode": "route", "strategy": "quality", "spend_tag": TAG}},
    }
    config = directory / "pointsman.yaml"
    config.write_text(yaml.safe_dump(value, sort_keys=False))
    return config, simulator


def _table(settings: ProofSettings) -> Recorded:
    """Return what the endpoints answer: each call with tokens that tell it from all others."""
    rng = np.random.default_rng(settings.seed)
    n = settings.n_tasks * CALLS_PER_TASK
    shape = (n, len(ENDPOINTS))
    by_call = np.array([tokens(number) for number in range(n)], dtype=np.int64)
    return Recorded(
        name="prove",
        synthetic=True,
        prompts=[str(number) for number in range(n)],
        categories=settings.tasks,
        endpoints=list(ENDPOINTS),
        category=np.arange(n) // CALLS_PER_TASK,
        quality=np.zeros(shape),
        cost_usd=np.zeros(shape),
        latency_s=rng.uniform(0.005, 0.1, shape),
        tokens_in=np.repeat(by_call[:, :1], len(ENDPOINTS), axis=1),
        tokens_out=np.repeat(by_call[:, 1:], len(ENDPOINTS), axis=1),
        dropped={},
    )


def start(processes: Stack, config: Path) -> None:
    """Run `pointsman up`, and a second worker beside it, so that somebody takes over."""
    port = load(config).server.port
    options = ("--config", str(config), "--longest-pause", str(LONGEST_PAUSE_S))
    up = processes.start(UP, "router.cli", "up", *options)
    deadline = time.monotonic() + START_S
    while not listens(port):
        if up.poll() is not None or time.monotonic() > deadline:
            raise DidNotStart(f"up did not start:\n{processes.log(UP)}")
        time.sleep(0.05)
    processes.start(SECOND, "router.cli", "work", *options)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
