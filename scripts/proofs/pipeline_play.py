"""A client calls while everything is killed, and keeps the books."""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from router.config.compiled import Configuration
from router.demo.stack import DidNotStart, Stack
from scripts.proofs.chaos import Chaos
from scripts.proofs.ledger import CALLS_PER_TASK, LEVELS, LedgerCall
from scripts.proofs.pipeline_world import (
    ENDPOINTS,
    KILL_EVERY_S,
    SETTLE_S,
    START_S,
    ProofSettings,
)
from scripts.proofs.sabotage import SABOTAGES
from telemetry.store import Address


def chaos_of(
    configuration: Configuration, address: Address, processes: Stack, settings: ProofSettings
) -> Chaos:
    """Return who kills the parts, with dice of their own."""
    server = configuration.server
    return Chaos(
        stack=processes,
        address=address,
        store_pid=server.state_directory() / "store" / "server.pid",
        port=server.port,
        n_shards=configuration.store.shards,
        rng=random.Random(settings.seed),  # noqa: S311 - a test's dice
        every_s=KILL_EVERY_S,
    )


def drive(
    chaos: Chaos, processes: Stack, directory: Path, settings: ProofSettings
) -> dict[str, Any]:
    """Let the client work while everything is killed; return the client's books."""
    plan = {
        "url": f"http://127.0.0.1:{chaos.port}",
        "tasks": settings.tasks,
        "calls_per_task": CALLS_PER_TASK,
        "levels": LEVELS,
        "calls_per_s": settings.n_tasks * CALLS_PER_TASK / settings.planned_s,
        "seed": settings.seed,
    }
    (directory / "plan.json").write_text(json.dumps(plan))
    books = directory / "books.json"
    client = processes.start(
        "client", "scripts.proofs.client", str(directory / "plan.json"), str(books)
    )
    chaos.run(
        kills=settings.kills,
        at_least_s=settings.at_least_s,
        deadline_s=60 + 5 * settings.planned_s,
        progress=_progress,
    )
    for sabotage in settings.sabotages:
        SABOTAGES[sabotage](chaos)
    client.terminate()
    until = time.monotonic() + START_S + SETTLE_S
    while client.poll() is None and time.monotonic() < until:
        chaos.look_after()
    if client.poll() != 0:
        raise DidNotStart(f"the client did not finish:\n{processes.log('client')}")
    chaos.finish()
    found: dict[str, Any] = json.loads(books.read_text())
    return found


def called(entry: dict[str, Any]) -> LedgerCall:
    """Return a call that is in the client's books."""
    endpoint = ENDPOINTS.index(entry["model"]) if entry["answered"] else -1
    return LedgerCall(
        entry["number"],
        entry["answered"],
        endpoint,
        entry["attempts"],
        entry["label"],
        entry["derived"],
    )


def _progress(text: str) -> None:
    print(f"\r{text} ", end="", file=sys.stderr, flush=True)
