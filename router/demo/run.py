"""The demo: the real stack, simulated endpoints that replay recorded outcomes, a real client.

Strategy `quality`: without an incumbent in learning mode, where every call counts from the first;
with one under the guarded law, reviewed every few seconds instead of every week.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
import yaml
from numpy.typing import NDArray
from scipy.optimize import nnls

from bandit.families import Q, S, U
from router.config.compiled import Configuration, load
from router.config.levels import BETWEEN
from router.demo.budgeted import (
    DEFAULT_CALLS_PER_S,
    DemoBudget,
    budget_figures,
    keep_zones_in,
    plan_budget,
)
from router.demo.client import ClientLedger, DemoSettings, drive, say
from router.demo.figures import DemoResult, LoopCounts, result_of
from router.demo.place import DemoPlace, temporary_place
from router.demo.simulator import save
from router.demo.spent import read_spend
from router.demo.stack import Stack, stack
from router.report import gather, views
from telemetry.recorded import Recorded, synthetic, wire_names
from telemetry.recorded import load as load_table
from telemetry.store import Address, open_store
from telemetry.tables import BadTable

SETTLE_S = 60.0
"""How long the last events may take to be folded before they count as lost."""
SHARDS = 4
REVIEW_EVERY_S = 2.0
"""A week of the demo's traffic."""


def run_demo(
    settings: DemoSettings,
    *,
    place: AbstractContextManager[DemoPlace] | None = None,
    then: Callable[[DemoResult, DemoPlace], None] | None = None,
) -> DemoResult:
    """Run the whole loop once; return what it showed.

    Args:
        place: where its files lie; unset, where nobody looks, for as long as it runs.
        then: told of the result while everything still runs.

    Raises:
        BadTable: the table of outcomes cannot be used.
        PlaceTaken: others' files lie there.
    """
    table = _table_of(settings)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)  # everything that was started is stopped on the way out
    with place or temporary_place() as here:
        mode = "learning mode: strategy quality, no incumbent"
        if settings.incumbent is not None:
            mode = f"strategy quality, incumbent {settings.incumbent}"
        say(f"{mode}, {_describe(table)}")
        save(table, here.scratch / "table.npz", nano_per_token(table))
        # The store is opened here, so that it outlives router and worker until it was read.
        with open_store(here.state_dir, url=None) as address, stack(here.scratch) as processes:
            result = _played(settings, table, here, processes, address)
            if place is not None:  # it goes on: what a report shows beside beliefs is worked out
                processes.jobs(here.state_dir, shards=SHARDS)
            if then is not None:
                then(result, here)
    return result


def _played(
    settings: DemoSettings, table: Recorded, here: DemoPlace, processes: Stack, address: Address
) -> DemoResult:
    """Start everything, make all calls, and return what came of them."""
    scratch, state_dir = here.scratch, here.state_dir
    simulator = processes.simulator(scratch / "table.npz", time_scale=settings.time_scale)
    text = partial(
        configuration_text, table, simulator, state_dir, settings.incumbent, own_port=here.port
    )
    here.config.write_text(text())
    zones = keep_zones_in(scratch / "zones")
    processes.worker(state_dir, shards=SHARDS)
    router = processes.router(here.config)
    settings, budget = _budgeted(settings, zones)
    if budget is not None:  # the sidecar takes it over while it runs
        here.config.write_text(text(budget))
    ledger, books = asyncio.run(drive(settings, table, (router, simulator), processes))
    answers = books.answers
    configuration = load(here.config)
    derived = int(answers.sum()) if settings.tool_calls else 0
    folded = partial(_folded, configuration, address, table.categories)
    counts = _settle(folded, processes, answers, ledger, derived)
    beliefs, *_ = gather.read_beliefs(configuration, address)
    spend = read_spend(address, configuration, books, table.endpoints)
    kept = budget_figures(address, configuration, budget, table, ledger)
    rows = views.report_rows(beliefs, "quality")
    result = result_of(table, ledger, answers, counts, rows, spend, settings)
    return replace(result, figures={**result.figures, **kept})


def _table_of(settings: DemoSettings) -> Recorded:
    table = synthetic()
    if settings.outcomes is not None:
        table = with_flat_tasks(load_table(settings.outcomes, settings.selection))
    if settings.incumbent is not None and settings.incumbent not in table.endpoints:
        known = ", ".join(table.endpoints[:12])
        raise BadTable(f"--incumbent {settings.incumbent}: not among the endpoints, {known}")
    return table


def _budgeted(settings: DemoSettings, zones: Path) -> tuple[DemoSettings, DemoBudget | None]:
    """Return when calls come under a budget, and that; unchanged where there is none."""
    if settings.budget_usd_per_1k is None:
        return settings, None
    calls_per_s = settings.calls_per_s or DEFAULT_CALLS_PER_S
    usd = settings.budget_usd_per_1k * settings.requests / 1000
    try:
        budget = plan_budget(
            usd, requests=settings.requests, calls_per_s=calls_per_s, directory=zones
        )
    except ValueError as error:
        raise BadTable(f"--budget-usd-per-1k: {error}; make fewer, or more a second") from None
    return replace(settings, calls_per_s=calls_per_s, begins_s=budget.begins_s), budget


def with_flat_tasks(table: Recorded) -> Recorded:
    """Return a table whose categories are all tasks at the top, so that each is compared alone."""
    names = [name.replace(BETWEEN, "-") for name in table.categories]
    return replace(table, categories=wire_names(names, "category"))


def configuration_text(
    table: Recorded,
    port: int,
    state_dir: Path,
    incumbent: str | None = None,
    budget: DemoBudget | None = None,
    *,
    own_port: int = 0,
) -> str:
    """Return the configuration of the demo's sidecar; port 0 is any free one."""
    prices = [list_prices(table, e) for e in range(len(table.endpoints))]
    value = {
        "server": {"port": own_port, "state_dir": str(state_dir)},
        "store": {"shards": SHARDS},
        "endpoints": [
            {
                "id": name,
                "model": name,
                "base_url": f"http://127.0.0.1:{port}/e/{i}/v1",
                "prices": {"input_usd_per_mtok": usd_in, "output_usd_per_mtok": usd_out},
            }
            for i, (name, (usd_in, usd_out)) in enumerate(zip(table.endpoints, prices, strict=True))
        ],
        "tasks": {name: None for name in table.categories},
        "strategies": {
            "quality": {
                "objective": "quality",
                "incumbent": incumbent or "none",
                "release_every_s": REVIEW_EVERY_S,
            }
        },
        "apps": {"default": {"mode": "route", "strategy": "quality"}},
        **({"budgets": budget.entry()} if budget is not None else {}),
    }
    return yaml.safe_dump(value, sort_keys=False)


def list_prices(table: Recorded, endpoint: int) -> tuple[float, float]:
    """Return USD a million tokens in and out that explain the recorded costs best.

    Whole nano-dollars a token: so what a call costs has no fraction for two books to round.
    """
    tokens = np.column_stack([table.tokens_in[:, endpoint], table.tokens_out[:, endpoint]])
    per_token, _ = nnls(tokens.astype(float), table.cost_usd[:, endpoint])
    return round(float(per_token[0]) * 1e6, 3), round(float(per_token[1]) * 1e6, 3)


def nano_per_token(table: Recorded) -> NDArray[np.int64]:
    """Return (n_endpoints, 2) list prices, in nano-USD a token in and out."""
    prices = [list_prices(table, e) for e in range(len(table.endpoints))]
    return np.asarray(np.rint(1000 * np.array(prices)), dtype=np.int64)


def _settle(
    folded: Callable[[], LoopCounts],
    processes: Stack,
    answers: NDArray[np.int64],
    ledger: ClientLedger,
    derived: int,
) -> LoopCounts:
    """Wait until everything is folded, `derived` labels among it; return what was."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        processes.revive("worker")
        counts = folded()
        done = counts.outcomes.sum() >= answers.sum() and counts.labels.sum() >= ledger.feedback
        done = done and counts.derived.sum() >= derived
        if done or time.monotonic() > deadline:
            return counts
        time.sleep(0.1)


def _folded(configuration: Configuration, address: Address, categories: list[str]) -> LoopCounts:
    beliefs, *_ = gather.read_beliefs(configuration, address)
    index = [configuration.task_index[name] for name in categories]
    return LoopCounts(
        np.rint(beliefs.evidence.usage[index][..., U.CALLS]).astype(np.int64),
        np.rint(beliefs.evidence.quality[index][..., Q.LABELS]).astype(np.int64),
        beliefs.signals[index][..., S.TOOLS].astype(np.int64),
    )


def _describe(table: Recorded) -> str:
    what = (
        f"{table.name}: {len(table.endpoints)} endpoints × {len(table.prompts)} prompts, "
        f"{len(table.categories)} categories"
    )
    if table.synthetic:
        return what + " (synthetic)"
    gone = ", ".join(f"{n} {k.replace('_', ' ')}" for k, n in table.dropped.items() if n)
    return what + (f"; dropped: {gone}" if gone else "")


def _end(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)
