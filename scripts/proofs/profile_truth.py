"""The proof of what a profile advises: it is right, and its intervals hold what they say.

`scripts/prove profile_truth`. Of a table on which every endpoint answered every prompt, a few
prompts of each task are drawn and profiled, again and again; what is printed is compared with the
whole table. Right is: *pin Y* if no endpoint is truly better than Y by more than is printed;
*route* if what the printed map truly gains over the printed pin is above 0 and inside its interval.
That it cannot be told is never wrong, so it is counted apart.

covered: share of the cells whose interval of quality holds the truth; gains: of the intervals of
what a map gains, whether it was advised or not. Fails where fewer than 92 of 100 sentences are
right, or fewer than 90 of 100 intervals hold.

Recorded tables are not part of the project: `--data DIR` names where they lie. Without it the
built-in table of invented outcomes is played, and one of which all endpoints are alike.
`--http N` plays N more runs through the real `pointsman profile`, by `profile_http`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit.utility import BALANCED, Objective, Order
from router.profiling.figures import table_of
from router.profiling.results import ProfileResult
from telemetry.recorded import Recorded, Selection, load, synthetic
from telemetry.tables import BadTable

TABLES = {
    "bfcl_2024": Selection(where=("run_date=2024-08-11",)),
    "zeroeval_2024": Selection(where=("in_all_categories=true",)),
    "mixed_2024": Selection(),
}
OBJECTIVES = {
    "quality": Objective(),
    "balanced": BALANCED,
    "cheapest": Objective(Order.CHEAPEST),
    "fastest": Objective(Order.FASTEST),
}
PER_CELL = 25
FULL_RUNS, QUICK_RUNS = 100, 25
LEAST_RIGHT, LEAST_COVERED = 0.92, 0.90
N_INVENTED = 2000


@dataclass(frozen=True, slots=True)
class RunFigures:
    """What one profile said, and whether it holds."""

    kind: str
    is_right: bool
    lead: float
    gain: tuple[float, float] | None  # printed
    true_gain: float
    gain_holds: bool | None  # None: no map was looked at
    covered: float
    cost_covered: float


def drawn(table: Recorded, per_cell: int, seed: int) -> NDArray[np.intp]:
    """Return the rows of a profile: so many prompts of each category, at most half of them."""
    rng = np.random.default_rng(seed)
    rows = []
    for c in range(len(table.categories)):
        of = np.flatnonzero(table.category == c)
        rows.append(rng.choice(of, min(per_cell, max(len(of) // 2, 1)), replace=False))
    return np.concatenate(rows)


def results_of(table: Recorded, rows: NDArray[np.intp]) -> Iterator[ProfileResult]:
    """Yield what a run of these prompts finds."""
    for i in rows:
        for k, endpoint in enumerate(table.endpoints):
            yield ProfileResult(
                prompt=table.prompts[i],
                task=table.categories[table.category[i]],
                endpoint=endpoint,
                quality=float(table.quality[i, k]),
                cost_usd=float(table.cost_usd[i, k]),
                latency_s=float(table.latency_s[i, k]),
                graded_by="expected",
            )


def one_run(table: Recorded, seed: int, per_cell: int, objective: Objective) -> RunFigures:
    """Return what a profile of some prompts says, compared with all of them."""
    rows = drawn(table, per_cell, seed)
    share = np.bincount(table.category) / len(table.category)
    weights = dict(zip(table.categories, share.tolist(), strict=True))
    found = table_of(
        [*results_of(table, rows)],
        strategy="proof",
        objective=objective,
        incumbent=table.endpoints[0],
        weights=weights,
    )
    return judge_advice(found.as_json(), table, objective)


def worth(table: Recorded, objective: Objective) -> NDArray[np.float64]:
    """Return (n_categories, n_endpoints) what a call is truly worth."""
    values = table.quality
    if objective.value_usd is not None:
        spent = table.cost_usd + objective.latency_usd_per_s * table.latency_s
        values = values - spent / objective.value_usd
    return means(table, values)


def means(table: Recorded, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (n_categories, n_endpoints) means over all prompts."""
    n = len(table.categories)
    return np.stack([values[table.category == c].mean(axis=0) for c in range(n)])


def judge_advice(said: dict[str, Any], table: Recorded, objective: Objective) -> RunFigures:
    """Return whether what a profile says, as its JSON has it, holds of all prompts."""
    advice = said["advice"]
    truth = worth(table, objective)
    weight = {task["task"]: task["weight"] for task in said["tasks"]}
    share = np.array([weight[name] for name in table.categories])
    place = {name: k for k, name in enumerate(table.endpoints)}
    gain = advice["gain"]
    true_gain, holds = 0.0, None
    if gain is not None:
        chosen = [place[advice["map"][task]] for task in table.categories]
        of_map = truth[np.arange(len(chosen)), chosen]
        true_gain = float(share @ (of_map - truth[:, place[advice["pin"]]]))
        holds = bool(gain["low"] <= true_gain <= gain["high"])
    return RunFigures(
        kind=advice["kind"],
        is_right=_is_right(advice, table, share, truth, true_gain, holds, objective),
        lead=float(advice["lead"]),
        gain=None if gain is None else (gain["low"], gain["high"]),
        true_gain=true_gain,
        gain_holds=holds,
        covered=_covered(said, table, table.quality, "quality_interval"),
        cost_covered=_covered(said, table, table.cost_usd, "cost_interval"),
    )


def _is_right(
    advice: dict[str, Any],
    table: Recorded,
    share: NDArray[np.float64],
    truth: NDArray[np.float64],
    true_gain: float,
    holds: bool | None,
    objective: Objective,
) -> bool:
    if advice["kind"] == "route":
        return bool(holds) and true_gain > 0
    place = {name: k for k, name in enumerate(table.endpoints)}
    pin = place[advice["pin"]]
    if objective.order is Order.UTILITY:
        overall = share @ truth
        return bool(overall.max() - overall[pin] <= advice["lead"])
    compared = [place[name] for name in advice["compared"]]
    quality, spent = share @ means(table, table.quality), share @ means(table, table.cost_usd)
    figure = spent / quality if objective.order is Order.CHEAPEST else None
    figure = share @ means(table, table.latency_s) if figure is None else figure
    return bool(1 - figure[compared].min() / figure[pin] <= advice["lead"] + 1e-9)


def _covered(
    said: dict[str, Any], table: Recorded, values: NDArray[np.float64], name: str
) -> float:
    truth = means(table, values)
    place = {endpoint: k for k, endpoint in enumerate(table.endpoints)}
    hits = []
    for task in said["tasks"]:
        at = truth[table.categories.index(task["task"])]
        for one in task["endpoints"]:
            low, high = one[name]
            true = at[place[one["endpoint"]]]
            hits.append(low - 1e-12 <= true and (high is None or true <= high + 1e-12))
    return float(np.mean(hits))


def figures_of(runs: Sequence[RunFigures]) -> dict[str, Any]:
    """Return the figures of many runs on one table."""
    kinds = [run.kind for run in runs]
    held = [run.gain_holds for run in runs if run.gain_holds is not None]
    routed = [run for run in runs if run.kind == "route"]
    return {
        "runs": len(runs),
        "right": round(float(np.mean([run.is_right for run in runs])), 3),
        "pin": kinds.count("pin"),
        "route": kinds.count("route"),
        "unclear": kinds.count("unclear"),
        "wrong_routes": sum(not run.is_right for run in routed),
        "lead": round(float(np.mean([run.lead for run in runs])), 4),
        "true_gain": round(float(np.mean([r.true_gain for r in routed])), 4) if routed else None,
        "covered": round(float(np.mean([run.covered for run in runs])), 3),
        "cost_covered": round(float(np.mean([run.cost_covered for run in runs])), 3),
        "gains": [sum(held), len(held)],
    }


def is_sound(figures: dict[str, Any]) -> bool:
    """Return whether the figures of one table are as good as they must be."""
    held, of = figures["gains"]
    # Of few intervals, as many may miss as chance lets: two standard errors.
    least = LEAST_COVERED * of - 2 * (of * LEAST_COVERED * (1 - LEAST_COVERED)) ** 0.5
    enough = figures["right"] >= LEAST_RIGHT and figures["covered"] >= LEAST_COVERED
    return bool(enough and held >= (least if of < FULL_RUNS else LEAST_COVERED * of))


def alike(table: Recorded, seed: int) -> Recorded:
    """Return a table whose endpoints are all equally good: their answers dealt anew."""
    rng = np.random.default_rng(seed)
    return replace(table, name="all alike", quality=rng.permuted(table.quality, axis=1))


def tables_of(data: Path | None, only: Sequence[str] = ()) -> list[Recorded]:
    """Return what is played.

    Args:
        only: of the recorded tables; none: all.

    Raises:
        BadTable: a recorded table is not there, or is not what it was.
    """
    if data is None:
        invented = synthetic(n_prompts=N_INVENTED)
        return [invented, alike(invented, 1)]
    return recorded_tables(data, only)


def recorded_tables(data: Path, only: Sequence[str] = ()) -> list[Recorded]:
    """Return the recorded tables in a directory: of these names, of none all.

    Raises:
        BadTable: one is not there, or is not what it was.
    """
    wanted = {name: chosen for name, chosen in TABLES.items() if not only or name in only}
    return [load(data / f"{name}.parquet", chosen) for name, chosen in wanted.items()]


def main(argv: Sequence[str]) -> int:
    """Return the exit code: 0 if what was said is right often enough on every table."""
    parser = argparse.ArgumentParser(prog="scripts/prove profile_truth", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_RUNS} runs a table")
    parser.add_argument("--data", type=Path, help="where the recorded tables lie")
    parser.add_argument("--table", action="append", choices=[*TABLES], help="of them; repeatable")
    parser.add_argument("--runs", type=int, help="so many a table")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--per-cell", type=int, default=PER_CELL, help="prompts of a task")
    parser.add_argument("--strategy", choices=[*OBJECTIVES], default="quality")
    parser.add_argument("--http", type=int, default=0, help="runs through the real command")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    n = options.runs or (QUICK_RUNS if options.quick else FULL_RUNS)
    objective = OBJECTIVES[options.strategy]
    try:
        tables = tables_of(options.data, options.table or ())
    except BadTable as error:
        print(f"scripts/prove profile_truth: {error}", file=sys.stderr)
        return 2
    sound = True
    for table in tables:
        began = time.monotonic()
        seeds = range(options.first, options.first + n)
        runs = [one_run(table, seed, options.per_cell, objective) for seed in seeds]
        figures = {"table": table.name, **figures_of(runs), "s": round(time.monotonic() - began, 1)}
        sound &= is_sound(figures)
        tell(figures, as_json=options.json)
    if options.http:
        from scripts.proofs.profile_http import over_http

        for table in tables:
            figures = over_http(table, options.http, options.per_cell, objective, options.first)
            sound &= bool(figures["right"] >= LEAST_RIGHT)
            tell(figures, as_json=options.json)
    return 0 if sound else 1


def tell(figures: dict[str, Any], *, as_json: bool) -> None:
    """Print the figures of a table."""
    line = json.dumps(figures) if as_json else ", ".join(f"{k} {v}" for k, v in figures.items())
    print(line, flush=True)
