"""What the proof of the pipeline showed: sums, bills and the audit, held against the books."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from router.config.compiled import Configuration
from router.demo.stack import Stack
from router.report import gather
from scripts.proofs.bills import BillsVerdict, judge_bills, read_bills, read_booked
from scripts.proofs.chaos import SECOND, Chaos
from scripts.proofs.ledger import LedgerCall, LedgerVerdict, judge, read_sums, weight
from scripts.proofs.pipeline_world import APP, SETTLE_S, ProofSettings
from telemetry import keys
from telemetry.digests import digest8
from telemetry.store import Address, StoreErrors, connect

QUIET_S = 6.0
"""Longer than a lease and than the pause between two adoptions of orphan journals."""


@dataclass(slots=True)
class ProofResult:
    """The figures of a run, and what else was seen."""

    figures: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether nothing was lost, doubled, or folded that was poison."""
        f = self.figures
        exact = not f["lost"] and not f["doubled"] and f["dead_lettered"] == f["poisoned"]
        paid = f["billed_nano_usd"] - f["booked_nano_usd"] == f["cut_nano_usd"]
        exact = exact and paid and not f["ledger_wrong"]
        return exact and f["audit_equal"] is not False


def settle(
    configuration: Configuration,
    address: Address,
    calls: list[LedgerCall],
    processes: Stack,
    settings: ProofSettings,
) -> LedgerVerdict:
    """Return the verdict once the sums have come to rest."""
    tasks = [digest8("task", name) for name in settings.tasks]
    endpoints = [e.digest for e in configuration.catalog.endpoints]
    began = still_since = time.monotonic()
    last = b""
    verdict = LedgerVerdict(lost=len(calls))
    while True:
        processes.revive(SECOND)
        now = time.monotonic()
        try:
            _, rows, *_ = gather.read_beliefs(configuration, address)
        except StoreErrors:
            still_since = now
        else:
            if rows.values.tobytes() != last:
                last, still_since = rows.values.tobytes(), now
            now_ms = int(time.time() * 1000)
            verdict = judge(read_sums(rows, tasks, endpoints, weight=weight(now_ms)), calls)
        is_clean = not verdict.lost and not verdict.doubled
        if now - still_since > QUIET_S and (is_clean or now - began > settings.settle_s):
            return verdict
        if now - began > 2 * SETTLE_S:
            return verdict
        time.sleep(0.3)


def billed(
    address: Address, configuration: Configuration, calls: list[LedgerCall], simulator: int
) -> BillsVerdict:
    """Return what the ledger has of each call, held against what the endpoints bill."""
    bills = read_bills(simulator)
    numbers = {call.number for call in calls} | {number for number, _ in bills}
    with closing(connect(address)) as client:
        booked, total = read_booked(client, configuration.store.shards, numbers, app=APP)
    return judge_bills(bills, calls, booked, total=total)


def result_of(
    config: Path,
    address: Address,
    configuration: Configuration,
    chaos: Chaos,
    books: dict[str, Any],
    verdict: LedgerVerdict,
    bills: BillsVerdict,
) -> ProofResult:
    """Return all figures, with what the audit says."""
    client = connect(address)
    shards = range(configuration.store.shards)
    equal, note = _audit(config)
    n_leases = sum(int(client.hget(keys.meta(n), "fence") or 0) for n in shards)
    counts = chaos.counts
    answered = sum(entry["answered"] for entry in books["calls"])
    figures = {
        "events": answered + books["n_feedback"],
        "kills": counts.kills,
        "duplicated": counts.duplicated,
        "poisoned": counts.poisoned,
        "lost": verdict.lost,
        "doubled": verdict.doubled,
        "unresolved": books["n_cut"],
        "dead_lettered": sum(client.xlen(keys.dead(n)) for n in shards),
        "audit_equal": equal,
        **bills.as_json(),
    }
    killed = ", ".join(f"{kind} {n}" for kind, n in sorted(counts.killed.items()))
    notes = [
        f"calls answered {answered}, feedback taken {books['n_feedback']}, frames {counts.frames}",
        f"killed: {killed}; workers frozen {counts.freezes}; leases taken {n_leases}",
    ]
    archived = configuration.server.state_directory() / "archive"
    notes.append(f"files of the archive {len(list(archived.rglob('*.parquet')))}")
    return ProofResult(figures, [*notes, *bills.told(), *([note] if note else [])])


def _audit(config: Path) -> tuple[bool | None, str]:
    """Return whether the audit finds the state equal to its records, and what to say of it."""
    command = [sys.executable, "-m", "router.cli", "audit", "state"]
    done = subprocess.run(  # noqa: S603 - our own module
        [*command, "--config", str(config), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        equal = json.loads(done.stdout)["equal"] is True
    except (ValueError, KeyError, TypeError):
        equal = False
    return equal, "" if equal else f"the audit: {(done.stdout + done.stderr)[-500:]}"
