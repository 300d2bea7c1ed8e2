"""The proof of what routing saved: the figure is right, and its interval holds what it says.

`scripts/prove savings`. Of a table on which every endpoint answered every prompt, calls are drawn
and served under the guarded law, some of them in sessions that share a draw, and booked as records;
these are summed up as the job does, stored and read as `pointsman spend` does. What is said of the
incumbent is compared with what it would have cost, and earned, on the very same prompts. In a
second world, `grows`, all prompts are of one task, the incumbent is the worst of its portfolio, and
once another is the choice each call is six prompts long: of these the incumbent served none.

covered: share of the runs whose interval of money holds the truth; error: of the mean estimate, as
a share of the true cost; spread: of single ones. Fails where fewer than 90 of 100 intervals of
money or quality hold, or the mean is off by more than 2 %. dr: the doubly robust estimate by
propensities of the incumbent's quality, where it is not refused.

Recorded tables are not part of the project: `--data DIR` names where they lie. Without it the
built-in table of invented outcomes is played. `--http 1` plays one run through the real stack.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from scripts.proofs.profile_truth import TABLES, recorded_tables, tell
from scripts.proofs.savings_play import PlayedCalls, of_one_task, play
from telemetry.recorded import Recorded, synthetic
from telemetry.tables import BadTable

FULL_RUNS, QUICK_RUNS = 100, 5
FULL_CALLS, QUICK_CALLS = 1000, 600
N_INVENTED = 2000
N_ENDPOINTS = 6
LEAST_COVERED, MOST_OFF = 0.90, 0.02
GROWS = "grows"
WORLDS = ("steady", GROWS)


@dataclass(frozen=True, slots=True)
class SavingRun:
    """What one run said, beside the truth of the calls that it speaks of."""

    known: float  # share of the calls of which it knows the money
    money_holds: bool
    said_usd: float
    true_usd: float
    half: float  # of the interval, as a share of the truth
    quality_holds: bool | None  # None: it says nothing of quality
    quality_off: float
    dr_holds: bool | None  # None: refused
    dr_off: float


def portfolio(table: Recorded, seed: int) -> tuple[Recorded, int]:
    """Return a few endpoints of a table, and which of the better half of them is the incumbent."""
    rng = np.random.default_rng([seed, 3])
    n = len(table.endpoints)
    picked = np.sort(rng.choice(n, min(N_ENDPOINTS, n), replace=False))
    few = replace(
        table,
        endpoints=[table.endpoints[i] for i in picked],
        **{
            name: getattr(table, name)[:, picked]
            for name in ("quality", "cost_usd", "latency_s", "tokens_in", "tokens_out")
        },
    )
    ranked = np.argsort(-few.quality.mean(axis=0), kind="stable")
    return few, int(rng.choice(ranked[: (len(ranked) + 1) // 2]))


def one_run(table: Recorded, seed: int, n_calls: int, *, grows: bool = False) -> SavingRun:
    """Return what is said of one run, and what is true."""
    few, incumbent = portfolio(table, seed)
    if grows:
        few, incumbent = of_one_task(few), int(np.argmin(few.quality.mean(axis=0)))
    played = play(few, incumbent, seed, n_calls, grows=grows)
    return judge_savings(played.section(), played)


def judge_savings(said: dict[str, Any], played: PlayedCalls) -> SavingRun:
    """Return what an app's figures say, beside the truth.

    Args:
        said: an app's row of `savings_section`.
    """
    by_task = {row["task"]: row for row in said["tasks"]}
    is_known = np.array([by_task[task]["money"]["n"] > 0 for task in played.task])
    is_judged = np.array([by_task[task]["quality"]["n"] > 0 for task in played.task])
    money, quality = said["money"], said["quality"]
    true_usd = float(played.true_usd[is_known].sum())
    found = money["incumbent_usd"]
    gained = played.earned - played.true_reward
    holds, off = None, 0.0
    if quality["gained"] is not None:
        one, truth = quality["gained"], float(gained[is_judged].mean())
        holds, off = one["low"] <= truth <= one["high"], one["value"] - truth
    dr, dr_holds, dr_off = quality["doubly_robust"], None, 0.0
    if dr is not None and dr["why"] is None:
        whole = float(played.true_reward.mean())
        dr_holds, dr_off = dr["low"] <= whole <= dr["high"], dr["value"] - whole
    return SavingRun(
        known=float(is_known.mean()),
        money_holds=bool(found["low"] <= true_usd <= found["high"]),
        said_usd=found["value"],
        true_usd=true_usd,
        half=(found["high"] - found["low"]) / 2 / true_usd,
        quality_holds=holds,
        quality_off=off,
        dr_holds=dr_holds,
        dr_off=dr_off,
    )


def figures_of(runs: Sequence[SavingRun]) -> dict[str, Any]:
    """Return the figures of many runs on one table."""
    off = np.array([run.said_usd / run.true_usd - 1 for run in runs])
    judged = [run for run in runs if run.quality_holds is not None]
    checked = [run for run in runs if run.dr_holds is not None]

    def mean(values: Sequence[float | bool | None], digits: int = 3) -> float | None:
        return round(float(np.mean([float(v or 0) for v in values])), digits) if values else None

    return {
        "runs": len(runs),
        "known": mean([run.known for run in runs]),
        "covered": mean([run.money_holds for run in runs]),
        "error": round(float(off.mean()), 4),
        "spread": round(float(off.std()), 4),
        "half": mean([run.half for run in runs], 4),
        "quality_runs": len(judged),
        "quality_covered": mean([run.quality_holds for run in judged]),
        "quality_error": mean([run.quality_off for run in judged], 4),
        "dr_runs": len(checked),
        "dr_covered": mean([run.dr_holds for run in checked]),
        "dr_error": mean([run.dr_off for run in checked], 4),
    }


def is_sound(figures: dict[str, Any]) -> bool:
    """Return whether the figures of one table are as good as they must be."""
    # Of few intervals as many may miss as chance lets, and a mean of few runs lies off by chance.
    n, p = figures["runs"], LEAST_COVERED
    least = p - (2 * (p * (1 - p) / n) ** 0.5 if n < FULL_RUNS else 0.0)
    most = MOST_OFF + (2 * figures["spread"] / n**0.5 if n < FULL_RUNS else 0.0)
    quality = figures["quality_covered"]
    return bool(
        figures["covered"] >= least
        and abs(figures["error"]) <= most
        and (quality is None or quality >= least)
    )


def tables_of(data: Path | None, only: Sequence[str] = ()) -> list[Recorded]:
    """Return what is played: recorded tables, of these names or all; else an invented one.

    Raises:
        BadTable: a recorded table is not there, or is not what it was.
    """
    return [synthetic(n_prompts=N_INVENTED)] if data is None else recorded_tables(data, only)


def many_runs(
    table: Recorded, seeds: range, n_calls: int, *, grows: bool = False
) -> list[SavingRun]:
    """Return runs of these seeds, from all cores."""
    n = min(os.cpu_count() or 1, len(seeds))
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # the pool is what fills the cores
    with ProcessPoolExecutor(n, get_context("spawn")) as pool:
        size = len(seeds)
        run = partial(one_run, grows=grows)
        return list(pool.map(run, [table] * size, seeds, [n_calls] * size))


def main(argv: Sequence[str]) -> int:
    """Return the exit code: 0 if what was said is right often enough on every table."""
    parser = argparse.ArgumentParser(prog="scripts/prove savings", description=__doc__)
    quick = f"{QUICK_RUNS} runs a table of {QUICK_CALLS} calls, of both worlds together"
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--data", type=Path, help="where the recorded tables lie")
    parser.add_argument("--table", action="append", choices=[*TABLES], help="of them; repeatable")
    parser.add_argument("--world", action="append", choices=WORLDS, help="of them; repeatable")
    parser.add_argument("--runs", type=int, help="so many a table")
    parser.add_argument("--calls", type=int, help="of each run")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--http", type=int, default=0, help="runs through the real stack")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    n = options.runs if options.runs is not None else QUICK_RUNS if options.quick else FULL_RUNS
    n_calls = options.calls or (QUICK_CALLS if options.quick else FULL_CALLS)
    try:
        tables = tables_of(options.data, options.table or ())
    except BadTable as error:
        print(f"scripts/prove savings: {error}", file=sys.stderr)
        return 2
    sound = True
    for table, world in product(tables if n else (), options.world or WORLDS):
        began, first = time.monotonic(), options.first
        # Both worlds together have as many quick runs as are asked for.
        count = (n + 1 - WORLDS.index(world)) // 2 if options.quick else n
        runs = many_runs(table, range(first, first + count), n_calls, grows=world == GROWS)
        took_s = round(time.monotonic() - began, 1)
        figures = {"table": table.name, "world": world, **figures_of(runs), "s": took_s}
        sound &= is_sound(figures)
        tell(figures, as_json=options.json)
    for table in tables if options.http else ():
        from scripts.proofs.savings_http import over_http

        seeds = range(options.first, options.first + options.http)
        figures = figures_of([over_http(table, seed, n_calls) for seed in seeds])
        sound &= is_sound(figures)
        tell({"table": f"{table.name} over HTTP", **figures}, as_json=options.json)
    return 0 if sound else 1
