"""The proof of pacing: a budget that binds lasts until its period ends, and buys what it can.

`scripts/prove pacing`. The sidecar's own decisions, prices and watch serve an hour's calls of a
table on which every endpoint answered every prompt. The hour's budget lies somewhere between what
the cheapest endpoint of each task costs and what the best one does. Nothing refuses a call, so what
is spent is what pacing makes of it. The same calls are replayed under the same budget, by a loop
that knows how many will come, as the sidecar does not.

spent_share: of the budget, on average, and in the least and most of the runs. Fails where a run
lies outside .97 to 1.01, or the mean quality is more than .01 below the replay's.

Recorded tables are not part of the project: `--data DIR` names where they lie. Without it the
built-in table of invented outcomes is played. `--http N` plays N runs of `pointsman demo` as well.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from router.demo.client import DemoSettings, sessions
from router.demo.run import run_demo, with_flat_tasks
from scripts.proofs.pacing_world import HOUR_S, booked_usd, play, replayed
from scripts.proofs.profile_truth import TABLES, recorded_tables, tell
from telemetry.embedded import PrivateServer
from telemetry.recorded import Recorded, Selection, synthetic
from telemetry.store import Address
from telemetry.tables import BadTable

FULL_RUNS, QUICK_RUNS = 12, 2
CALLS = 1200
STEPS = (0.2, 0.4, 0.6, 0.8)
"""Parts of that way, in equal ratios."""
LEAST_SPENT, MOST_SPENT = 0.97, 1.01
MOST_WORSE, CHANCE = 0.01, 0.02
"""How far the mean quality may lie below the replay's, and the sd of one run's difference."""
N_INVENTED = 2000
HTTP_CONCURRENCY = 8


@dataclass(frozen=True, slots=True)
class PacingRun:
    """What came of one hour, and of the same calls replayed."""

    spent_share: float
    quality: float
    replay_spent_share: float
    replay_quality: float


def budget_of(table: Recorded, step: float) -> float:
    """Return USD a call, a part of the way from the cheapest to the best endpoint of each task.

    The best ones of all tasks together are what money buys at most: any less of it binds.
    """
    usd, n = booked_usd(table), len(table.categories)
    of = [table.category == c for c in range(n)]
    share = np.array([rows.mean() for rows in of])
    cost = np.array([usd[rows].mean(axis=0) for rows in of])
    best = np.array([table.quality[rows].mean(axis=0).argmax() for rows in of])
    least, most = float(share @ cost.min(axis=1)), float(share @ cost[np.arange(n), best])
    return float(least * (most / least) ** step)


def one_run(table: Recorded, seed: int, n_calls: int) -> PacingRun:
    """Return what came of an hour of calls that arrive at random; its warnings are not said."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    try:
        return _one_run(table, seed, n_calls)
    finally:
        structlog.configure(**before)


def _one_run(table: Recorded, seed: int, n_calls: int) -> PacingRun:
    rng = np.random.default_rng([seed, 11])
    prompts = rng.integers(len(table.prompts), size=n_calls)
    at_s = np.sort(rng.random(n_calls)) * HOUR_S
    budget_usd = n_calls * budget_of(table, STEPS[seed % len(STEPS)])
    with tempfile.TemporaryDirectory(prefix="pointsman-", dir="/tmp") as temporary:
        directory = Path(temporary)
        with PrivateServer(directory / "store") as store:
            address = Address(f"unix://{store.socket_path}")
            found = asyncio.run(
                play(
                    table,
                    address,
                    directory / "state",
                    prompts=prompts,
                    at_s=at_s,
                    budget_usd=budget_usd,
                )
            )
    quality, spent = replayed(table, booked_usd(table), prompts, budget_usd)
    return PacingRun(found.spent_share, float(found.reward.mean()), spent, quality)


def over_http(seed: int, n_calls: int, calls_per_s: float) -> PacingRun:
    """Return what came of the demo's calls under a budget, over HTTP with store and worker.

    Raises:
        RuntimeError: calls failed.
    """
    table = synthetic()
    usd = budget_of(table, STEPS[seed % len(STEPS)])
    settings = DemoSettings(
        outcomes=None,
        selection=Selection(),
        requests=n_calls,
        seed=seed,
        concurrency=HTTP_CONCURRENCY,
        time_scale=0.0,
        feedback_delay_s=0.0,
        budget_usd_per_1k=1000 * usd,
        calls_per_s=calls_per_s,
    )
    figures = run_demo(settings).figures
    if figures["failed_calls"]:
        raise RuntimeError(f"{figures['failed_calls']} calls of the demo failed")
    prompts = np.zeros(n_calls, dtype=np.intp)
    for session in sessions(table, requests=n_calls, seed=seed):
        prompts[session.first_call :][: len(session.prompts)] = session.prompts
    quality, spent = replayed(table, booked_usd(table), prompts, n_calls * usd)
    return PacingRun(figures["budget_spent_share"], figures["quality_in_budget"], spent, quality)


def figures_of(runs: Sequence[PacingRun]) -> dict[str, Any]:
    """Return the figures of many runs on one table."""
    spent = np.array([run.spent_share for run in runs])
    return {
        "runs": len(runs),
        "spent_share": round(float(spent.mean()), 4),
        "spent_least": round(float(spent.min()), 4),
        "spent_most": round(float(spent.max()), 4),
        "quality": round(float(np.mean([run.quality for run in runs])), 4),
        "replay_quality": round(float(np.mean([run.replay_quality for run in runs])), 4),
        "replay_spent_share": round(float(np.mean([run.replay_spent_share for run in runs])), 4),
    }


def is_sound(figures: dict[str, Any]) -> bool:
    """Return whether budgets lasted, and bought what they could."""
    # The mean of few runs lies off by chance, the more the fewer calls they have.
    most_worse = MOST_WORSE + (2 * CHANCE / figures["runs"] ** 0.5 if figures["runs"] < 10 else 0.0)
    lasted = figures["spent_least"] >= LEAST_SPENT and figures["spent_most"] <= MOST_SPENT
    return bool(lasted and figures["quality"] >= figures["replay_quality"] - most_worse)


def many_runs(table: Recorded, seeds: range, n_calls: int) -> list[PacingRun]:
    """Return runs of these seeds, from all cores."""
    n, size = min(os.cpu_count() or 1, len(seeds)), len(seeds)
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # the pool is what fills the cores
    with ProcessPoolExecutor(n, get_context("spawn")) as pool:
        return list(pool.map(one_run, [table] * size, seeds, [n_calls] * size))


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/prove pacing", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_RUNS} runs a table")
    parser.add_argument("--data", type=Path, help="where the recorded tables lie")
    parser.add_argument("--table", action="append", choices=[*TABLES], help="of them; repeatable")
    parser.add_argument("--runs", type=int, help="so many a table")
    parser.add_argument("--calls", type=int, default=CALLS, help="of each run")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--http", type=int, default=0, help="runs of the demo, over HTTP")
    parser.add_argument("--calls-per-s", type=float, default=20.0, help="of these")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Return the exit code: 0 if budgets lasted on every table."""
    options = _options(argv)
    n = QUICK_RUNS if options.quick else FULL_RUNS
    n = n if options.runs is None else options.runs
    try:
        tables = [synthetic(n_prompts=N_INVENTED)]
        if options.data is not None:
            tables = recorded_tables(options.data, options.table or ())
    except BadTable as error:
        print(f"scripts/prove pacing: {error}", file=sys.stderr)
        return 2
    sound = True
    for table in tables if n else ():
        began = time.monotonic()
        seeds = range(options.first, options.first + n)
        runs = many_runs(with_flat_tasks(table), seeds, options.calls)
        figures = {"table": table.name, **figures_of(runs), "s": round(time.monotonic() - began, 1)}
        sound &= is_sound(figures)
        tell(figures, as_json=options.json)
    if options.http:
        demos = range(options.first, options.first + options.http)
        played = [over_http(seed, options.calls, options.calls_per_s) for seed in demos]
        figures = {"table": "the demo, over HTTP", **figures_of(played)}
        sound &= is_sound(figures)
        tell(figures, as_json=options.json)
    return 0 if sound else 1
