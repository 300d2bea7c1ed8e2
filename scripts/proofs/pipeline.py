"""The proof of the pipeline: what was told is folded once, whatever dies. `scripts/prove
pipeline`.

The real `pointsman up` runs with a second worker beside it and simulated endpoints before it. A
client of its own (`client`) calls, gives feedback and keeps the books; `chaos` kills
and freezes processes, `up` itself and the second worker's supervisor among them, and injects
frames. In the end
everything may come to rest, and the sums are held against the books, call by call and label by
label (`ledger` says how); and what was spent, against what the endpoints bill (`bills`).

lost: an answer received in full, or feedback that got 2xx, without its effect. doubled: an effect
too many. unresolved: attempts whose connection was cut or that were refused; a call among them
may have taken effect or not, feedback was sent again until it was taken. It never says more than
it saw: where the audit is not there, `audit_equal` is null.

ledger_wrong: calls of which the ledger has something else than what their provider bills, though
their client had the whole answer, or more than that. cut_calls: the others of which the two
differ, which are the whole difference between billed and booked.

Does it see anything? `--sabotage lose` takes one event out of the stream before it is folded,
`--sabotage double` sends one again under a new name, both behind the parts' back. Then the run
must end with `lost`, or `doubled`, and `ledger_wrong` above 0 and an exit code that is not 0.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import yaml

from router.config.compiled import Configuration, load
from router.demo.simulator import save
from router.demo.stack import DidNotStart, Stack, stack
from router.report import gather
from scripts.proofs.bills import TAG, BillsVerdict, judge_bills, read_bills, read_booked
from scripts.proofs.chaos import SECOND, UP, Chaos, listens
from scripts.proofs.ledger import (
    CALLS_PER_TASK,
    LEVELS,
    Inconclusive,
    LedgerCall,
    LedgerVerdict,
    judge,
    read_sums,
    tokens,
    weight,
)
from scripts.proofs.sabotage import SABOTAGES, NothingToSabotage, Sabotage
from telemetry import keys
from telemetry.digests import digest8
from telemetry.recorded import Recorded
from telemetry.store import Address, StoreErrors, connect, open_store

ENDPOINTS = ("east", "north", "south")
APP = "default"
PRICES = np.array([[1, 2], [3, 5], [7, 11]])
"""Nano-USD a token in and out: whoever books a call by another's price is found out."""
NANO_PER_TOKEN = 1000
"""Of a USD a million tokens."""
QUICK_KILLS = 20
FULL_KILLS = 1000
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
QUIET_S = 6.0
"""Longer than a lease and than the pause between two adoptions of orphan journals."""


@dataclass(frozen=True, slots=True)
class ProofSettings:
    """What to run."""

    kills: int
    seed: int
    calls_per_kill: int = CALLS_PER_KILL
    sabotage: Sabotage | None = None

    @property
    def n_tasks(self) -> int:
        """How many tasks the calls are spread over."""
        calls = max(self.kills, 10) * self.calls_per_kill
        return min(-(-calls // CALLS_PER_TASK), MOST_TASKS)

    @property
    def at_least_s(self) -> float:
        """How long calls go on at least."""
        return AT_LEAST_S if self.sabotage is None else SABOTAGED_S

    @property
    def settle_s(self) -> float:
        """How long what is missing may still come."""
        return SETTLE_S if self.sabotage is None else SABOTAGED_SETTLE_S

    @property
    def planned_s(self) -> float:
        """About how long processes are killed."""
        return max(self.kills * KILL_EVERY_S, self.at_least_s)


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


def prove_pipeline(settings: ProofSettings) -> ProofResult:
    """Run the whole proof once; return what it showed.

    Raises:
        DidNotStart: a part never came up.
        Inconclusive: the sums cannot be read call by call.
    """
    began_weight = _wait_for_steady_weight(settings)
    with tempfile.TemporaryDirectory(prefix="pm-prove-") as temporary:
        directory = Path(temporary)
        with stack(directory) as processes:
            config, simulator = _configure(directory, processes, settings)
            _start(processes, config)
            configuration = load(config)
            with open_store(configuration.server.state_directory()) as address:
                chaos = _chaos(configuration, address, processes, settings)
                books = _drive(chaos, processes, directory, settings)
                calls = [_call(entry) for entry in books["calls"]]
                # Steady by choice of the hour, unless the run took far longer than planned.
                if weight(int(time.time() * 1000)) != began_weight:
                    raise Inconclusive("the weight of new evidence changed; run it again")
                verdict = _settle(configuration, address, calls, processes, settings)
                bills = _bills(address, configuration, calls, simulator)
                return _result(config, address, configuration, chaos, books, verdict, bills)


def _wait_for_steady_weight(settings: ProofSettings) -> int:
    """Return the weight that new evidence has for the whole run, once there is one.

    It changes every 21 hours; a run that would cross the change waits for it.
    """
    while True:
        now_ms = int(time.time() * 1000)
        first = weight(now_ms)
        if first == weight(now_ms + int(2000 * (settings.planned_s + SETTLE_S))):
            return first
        time.sleep(1)


def _configure(directory: Path, processes: Stack, settings: ProofSettings) -> tuple[Path, int]:
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
        "tasks": {name: None for name in _tasks(settings)},
        "strategies": {"quality": {"objective": "quality", "incumbent": "none"}},
        "apps": {APP: {"mode": "route", "strategy": "quality", "spend_tag": TAG}},
    }
    config = directory / "pointsman.yaml"
    config.write_text(yaml.safe_dump(value, sort_keys=False))
    return config, simulator


def _tasks(settings: ProofSettings) -> list[str]:
    return [f"task-{i:04d}" for i in range(settings.n_tasks)]


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
        categories=_tasks(settings),
        endpoints=list(ENDPOINTS),
        category=np.arange(n) // CALLS_PER_TASK,
        quality=np.zeros(shape),
        cost_usd=np.zeros(shape),
        latency_s=rng.uniform(0.005, 0.1, shape),
        tokens_in=np.repeat(by_call[:, :1], len(ENDPOINTS), axis=1),
        tokens_out=np.repeat(by_call[:, 1:], len(ENDPOINTS), axis=1),
        dropped={},
    )


def _start(processes: Stack, config: Path) -> None:
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


def _chaos(
    configuration: Configuration, address: Address, processes: Stack, settings: ProofSettings
) -> Chaos:
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


def _drive(
    chaos: Chaos, processes: Stack, directory: Path, settings: ProofSettings
) -> dict[str, Any]:
    """Let the client work while everything is killed; return the client's books."""
    plan = {
        "url": f"http://127.0.0.1:{chaos.port}",
        "tasks": _tasks(settings),
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
    if settings.sabotage is not None:
        SABOTAGES[settings.sabotage](chaos)
    client.terminate()
    until = time.monotonic() + START_S + SETTLE_S
    while client.poll() is None and time.monotonic() < until:
        chaos.look_after()
    if client.poll() != 0:
        raise DidNotStart(f"the client did not finish:\n{processes.log('client')}")
    chaos.finish()
    found: dict[str, Any] = json.loads(books.read_text())
    return found


def _call(entry: dict[str, Any]) -> LedgerCall:
    endpoint = ENDPOINTS.index(entry["model"]) if entry["answered"] else -1
    return LedgerCall(
        entry["number"],
        entry["answered"],
        endpoint,
        entry["attempts"],
        entry["label"],
        entry["derived"],
    )


def _settle(
    configuration: Configuration,
    address: Address,
    calls: list[LedgerCall],
    processes: Stack,
    settings: ProofSettings,
) -> LedgerVerdict:
    """Return the verdict once the sums have come to rest."""
    tasks = [digest8("task", name) for name in _tasks(settings)]
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


def _bills(
    address: Address, configuration: Configuration, calls: list[LedgerCall], simulator: int
) -> BillsVerdict:
    """Return what the ledger has of each call, held against what the endpoints bill."""
    bills = read_bills(simulator)
    numbers = {call.number for call in calls} | {number for number, _ in bills}
    with closing(connect(address)) as client:
        booked, total = read_booked(client, configuration.store.shards, numbers, app=APP)
    return judge_bills(bills, calls, booked, total=total)


def _result(
    config: Path,
    address: Address,
    configuration: Configuration,
    chaos: Chaos,
    books: dict[str, Any],
    verdict: LedgerVerdict,
    bills: BillsVerdict,
) -> ProofResult:
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


def _progress(text: str) -> None:
    print(f"\r{text} ", end="", file=sys.stderr, flush=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)


def main(argv: Sequence[str]) -> int:
    """Prove that the pipeline loses and doubles nothing; return the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/prove pipeline", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_KILLS} kills only")
    parser.add_argument("--kills", type=int, help=f"how many; else {FULL_KILLS}")
    parser.add_argument("--seed", type=int, default=0, help="of all that is left to chance")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--sabotage", type=Sabotage, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    kills = options.kills if options.kills is not None else FULL_KILLS
    if options.quick and options.kills is None:
        kills = QUICK_KILLS
    if kills < 0 or options.seed < 0:
        parser.error("--kills and --seed are whole numbers from 0")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)  # everything that was started is stopped on the way out
    try:
        result = prove_pipeline(ProofSettings(kills, options.seed, sabotage=options.sabotage))
    except (DidNotStart, Inconclusive, NothingToSabotage) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    print("\n" + "\n".join(result.notes), file=sys.stderr)
    if options.json:
        print(json.dumps(result.figures))
    else:
        plain = {n: v for n, v in result.figures.items() if not isinstance(v, list)}
        print(", ".join(f"{name} {value}" for name, value in plain.items()))
    return 0 if result.is_sound else 1
