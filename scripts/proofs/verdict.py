"""The proof of a verdict: looked at all the time, it still claims only what is so.

`scripts/prove verdict`. Trials of two endpoints are played on a table on which every endpoint
answered every prompt, by users with several sessions of several calls, whose labels come late; the
very functions of the page say after every 50 sessions, later every 200, what is shown.

same: the challenger is the incumbent under another name; false_gains are runs in which any look
said that it gains, and naive_false_gains those in which the usual 95 % interval of two means, a
call being one observation, lay above 0 at any of the same looks. worse: it is worth 2 points less
a call; ended_keep counts runs whose first word was *keep*. better: it is worth 5 points more;
gains_shown counts runs whose first word was *gains*, coverage those whose interval held the truth
at every look, sessions_median is after how many sessions it was said, and sessions_fixed_n after
how many the same error is small enough for a test that is looked at once (power .8).

Fails where more than 5 % of gains are false, the naive interval is wrong in 20 % of full runs or
fewer, or fewer than 95 % say *keep*, or *gains*, or 93 % hold.

Recorded tables are not part of the project: `--data DIR` names where they lie. Without it the
built-in table of invented outcomes is played.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from bandit.sequences import fixed_error
from bandit.verdict import VerdictKind, compared, kind_of
from scripts.proofs.profile_truth import recorded_tables
from scripts.proofs.verdict_world import (
    VALUE_USD,
    PlayedTrial,
    TrialPair,
    play_trial,
    trial_pair,
)
from telemetry.recorded import Recorded, synthetic
from telemetry.tables import BadTable

TABLE = "mixed_2024"
TRUTHS = {"same": 0.0, "worse": -0.02, "better": 0.05}
RECORDED = {
    "same": ("claude-3-5-sonnet-20240620", "claude-3-5-sonnet-20240620"),
    "worse": ("gemini-1.5-pro", "gemini-1.5-flash"),
    "better": ("claude-3-5-sonnet-20240620", "gpt-4o-2024-08-06"),
}
"""Incumbent and challenger: on the table's own shares of tasks they differ by 0, -2.0 and 4.9
points; tasks weigh a little otherwise here, so that it is 2 and 5."""
INVENTED = {
    "same": ("allround", "allround"),
    "worse": ("allround", "thinker"),
    "better": ("coder", "allround"),
}
N_INVENTED = 2000
FULL_RUNS, QUICK_RUNS = 200, 40
FULL_CALLS, QUICK_CALLS = 100_000, 40_000
MOST_FALSE, LEAST_NAIVE, LEAST_SHOWN, LEAST_COVERED = 0.05, 0.20, 0.95, 0.93
Z95 = 1.959964
NAIVE_FROM = 30
"""Calls on each side: before that nobody takes a mean for normal."""


@dataclass(frozen=True, slots=True)
class TrialRun:
    """What one trial said, look after look."""

    any_gains: bool
    naive_gains: bool
    ended: VerdictKind  # the first word but *not shown yet*
    sessions: int  # until then
    holds: bool  # at every look
    fixed_n: int  # sessions of a test that is looked at once; 0: it takes more than there are


def one_run(table: Recorded, pair: TrialPair, n_calls: int, seed: int) -> TrialRun:
    """Return what is said of one trial, and whether it is so."""
    played = play_trial(table, pair, seed, n_calls)
    any_gains, holds, ended, sessions, fixed_n = False, True, VerdictKind.NOT_SHOWN, 0, 0
    for n, rows in played.sums():
        sides, found = compared(rows, value_usd=VALUE_USD)
        kind = kind_of(found)
        any_gains |= kind is VerdictKind.GAINS
        if ended is VerdictKind.NOT_SHOWN and kind is not ended:
            ended, sessions = kind, n
        for difference, side in zip(found, sides.differences, strict=True):
            holds &= difference.low <= pair.truth <= difference.high
            if not fixed_n and side.error <= fixed_error(pair.truth):
                fixed_n = n
    return TrialRun(any_gains, naive_gains(played), ended, sessions, holds, fixed_n)


def naive_gains(played: PlayedTrial) -> bool:
    """Return whether the usual interval lies above 0 at any of the looks."""
    at = np.array(played.looks()) - 1
    mean, variance = [], []
    for side in (~played.is_treated, played.is_treated):
        n, total, squares = (
            np.cumsum(np.where(side, values, 0))[at]
            for values in (played.calls, played.utility, played.utility2)
        )
        count = np.maximum(n, 1)
        mean.append(total / count)
        spread = squares / count - mean[-1] ** 2
        variance.append(np.where(n >= NAIVE_FROM, spread / count, np.inf))
    return bool((mean[1] - mean[0] > Z95 * np.sqrt(variance[0] + variance[1])).any())


def figures_of(runs: dict[str, list[TrialRun]]) -> dict[str, Any]:
    """Return the counts of each scenario's runs."""
    same, worse, better = runs["same"], runs["worse"], runs["better"]
    shown = [run.sessions for run in better if run.ended is VerdictKind.GAINS]
    return {
        "runs": len(same),
        "same": {
            "false_gains": sum(run.any_gains for run in same),
            "naive_false_gains": sum(run.naive_gains for run in same),
        },
        "worse": {"ended_keep": sum(run.ended is VerdictKind.KEEP for run in worse)},
        "better": {
            "gains_shown": len(shown),
            "coverage": sum(run.holds for run in better),
            "sessions_median": int(np.median(shown)) if shown else None,
            "sessions_fixed_n": int(np.median([run.fixed_n for run in better])),
        },
    }


def missed(figures: dict[str, Any], *, is_full: bool) -> list[str]:
    """Return which goals are missed, in words."""
    n, better = figures["runs"], figures["better"]
    false, naive = figures["same"]["false_gains"], figures["same"]["naive_false_gains"]
    kept = figures["worse"]["ended_keep"]
    goals = {
        f"{false} false gains": false <= MOST_FALSE * n,
        f"{naive} naive ones": naive > LEAST_NAIVE * n or not is_full,
        f"{kept} kept": kept >= LEAST_SHOWN * n,
        f"{better['gains_shown']} gains shown": better["gains_shown"] >= LEAST_SHOWN * n,
        f"{better['coverage']} held": better["coverage"] >= LEAST_COVERED * n,
    }
    return [text for text, is_met in goals.items() if not is_met]


def many_runs(
    table: Recorded, names: dict[str, tuple[str, str]], seeds: range, n_calls: int, *, alone: bool
) -> dict[str, list[TrialRun]]:
    """Return runs of these seeds, in this process alone or on all cores."""
    pairs = {name: trial_pair(table, *names[name], truth) for name, truth in TRUTHS.items()}
    if alone:
        return {name: [one_run(table, of, n_calls, s) for s in seeds] for name, of in pairs.items()}
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # the pool is what fills the cores
    with ProcessPoolExecutor(min(os.cpu_count() or 1, len(seeds)), get_context("spawn")) as pool:
        return {
            name: list(pool.map(partial(one_run, table, of, n_calls), seeds, chunksize=5))
            for name, of in pairs.items()
        }


def main(argv: Sequence[str]) -> int:
    """Return the exit code: 0 if verdicts are right often enough."""
    parser = argparse.ArgumentParser(prog="scripts/prove verdict", description=__doc__)
    quick = f"{QUICK_RUNS} runs of {QUICK_CALLS} calls each, on one core"
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--data", type=Path, help="where the recorded tables lie")
    parser.add_argument("--runs", type=int, help=f"of each scenario ({FULL_RUNS})")
    parser.add_argument("--repeat", type=int, help=f"calls of each run ({FULL_CALLS})")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    n = options.runs or (QUICK_RUNS if options.quick else FULL_RUNS)
    n_calls = options.repeat or (QUICK_CALLS if options.quick else FULL_CALLS)
    try:
        table = recorded_tables(options.data, [TABLE])[0] if options.data else None
    except BadTable as error:
        print(f"scripts/prove verdict: {error}", file=sys.stderr)
        return 2
    began, seeds = time.monotonic(), range(options.first, options.first + n)
    invented = synthetic(n_prompts=N_INVENTED)
    names = RECORDED if table else INVENTED
    runs = many_runs(table or invented, names, seeds, n_calls, alone=options.quick)
    figures = figures_of(runs)
    tell_verdicts(figures, time.monotonic() - began, as_json=options.json)
    misses = missed(figures, is_full=n_calls >= FULL_CALLS and n >= FULL_RUNS)
    if misses:
        print(f"scripts/prove verdict: of {n} runs: {', '.join(misses)}", file=sys.stderr)
    return 1 if misses else 0


def tell_verdicts(figures: dict[str, Any], took_s: float, *, as_json: bool) -> None:
    """Print the figures, as one JSON object or in words."""
    if as_json:
        print(json.dumps(figures))
        return
    same, better = figures["same"], figures["better"]
    print(
        f"of {figures['runs']} runs each, in {took_s:.0f} s:\n"
        f"  same:   {same['false_gains']} said gains; a naive interval, {same['naive_false_gains']}"
        f"\n  worse:  {figures['worse']['ended_keep']} ended with keep\n"
        f"  better: {better['gains_shown']} said gains, {better['coverage']} held the truth at "
        f"every look;\n          after {better['sessions_median']} sessions (median); looked at "
        f"once, {better['sessions_fixed_n']}"
    )
