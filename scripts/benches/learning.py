"""How well the one setting learns: `scripts/bench learning`, a table of rows and their goals.

Streams are 0 to n − 1, so that the same code gives the same figures; all runs share one pool of
processes, and rows that look at the same run share it, too.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from scripts.benches.learning_cases import LOG, TABLES, LearningRun, play, world_of
from scripts.benches.learning_figures import of_streams
from scripts.benches.learning_goals import Experiment, Goal, Played, RowFigures, SoloExperiment
from scripts.benches.learning_rows import EXPERIMENTS, OTHERS
from telemetry.tables import BadTable
from workers.replay.file import parallel

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
STREAMS, SUBSET_STREAMS = 16, 4
TOLD_EVERY_S = 5.0
LEAST_WIDTH = 140
"""Columns of text that the table needs; a narrower terminal wraps its lines."""


class BadExperiment(Exception):
    """What was asked for cannot be played; the message names option, value and fix."""


def run_bench(
    *,
    data: Path = DATA,
    streams: int = STREAMS,
    subset_streams: int = SUBSET_STREAMS,
    names: Sequence[str] = (),
) -> dict[str, Any]:
    """Return one row for each experiment.

    Args:
        data: directory of the recorded tables.
        streams, subset_streams: streams of a row, and of each subset of endpoints.
        names: rows of these names, or whose name contains one of them; none are all.

    Raises:
        BadExperiment: a name means no row, or a table is not there.
    """
    wanted = _wanted(names)
    experiments = [e for e in EXPERIMENTS if e.name in wanted]
    others = [e for e in OTHERS if e.name in wanted]
    _check(data, experiments)
    rows = [_solo_row(e) for e in others]
    played = _play(data, _runs(experiments), streams, subset_streams)
    return {"rows": [_row(e, played) for e in experiments] + rows}


def _wanted(names: Sequence[str]) -> set[str]:
    """Return the names of the rows that are meant."""
    known = [e.name for e in EXPERIMENTS] + [e.name for e in OTHERS]
    wanted: set[str] = set()
    for part in names:
        meant = {part} & set(known) or {name for name in known if part in name}
        if not meant:
            raise BadExperiment(f"--rows {part}: in no name of a row; these are {', '.join(known)}")
        wanted |= meant
    return wanted or set(known)


def _check(data: Path, experiments: Sequence[Experiment]) -> None:
    """Refuse to begin without the tables."""
    for table in sorted({r.case.table for r in _runs(experiments)}):
        file = data / TABLES[table][0]
        if not file.is_file():
            raise BadExperiment(f"{file}: not there; say where the tables are by --data DIR")


def _runs(experiments: Sequence[Experiment]) -> list[LearningRun]:
    """Return every run that is asked for, once, those of a case together."""
    runs: dict[LearningRun, None] = {}
    for e in experiments:
        for run in (*e.runs, *(() if e.goal.below is None else (e.goal.below,))):
            runs[run] = None
    cases = list(dict.fromkeys(run.case for run in runs))
    return sorted(runs, key=lambda run: cases.index(run.case))


def _play(
    data: Path, runs: Sequence[LearningRun], streams: int, subset_streams: int
) -> dict[LearningRun, Played]:
    """Play every stream of every run, on all cores."""
    tasks = [
        (data, run, seed)
        for run in runs
        for seed in range(_n_streams(run, streams, subset_streams))
    ]
    found: dict[LearningRun, list[Any]] = {run: [] for run in runs}
    began = told = time.monotonic()
    try:
        for i, result in enumerate(parallel(None, play, tasks) if tasks else ()):
            found[tasks[i][1]].append(result)
            if (now := time.monotonic()) - told > TOLD_EVERY_S or i + 1 == len(tasks):
                told = now
                _say(f"{i + 1} of {len(tasks)} streams, {now - began:.0f} s")
        budgets = {run: world_of(run.case, data).rules.budget_usd for run in runs}
    except BadTable as error:
        raise BadExperiment(str(error)) from None
    return {run: Played(run, budgets[run], found[run]) for run in runs}


def _n_streams(run: LearningRun, streams: int, subset_streams: int) -> int:
    """Return the streams of a run: the dear ones have fewer, those that tell shares more."""
    if run.case.subset is not None:
        return subset_streams
    if run.case.budget_step is not None:
        return max(streams // 2, 1)
    return 2 * streams if run.policy == LOG else streams


def _row(experiment: Experiment, played: dict[LearningRun, Played]) -> dict[str, Any]:
    figures = experiment.figure([played[run] for run in experiment.runs])
    below = experiment.goal.below
    beside = None if below is None else of_streams("regret")([played[below]]).value
    return _told(experiment.name, experiment.measure, figures, experiment.goal, beside)


def _solo_row(experiment: SoloExperiment) -> dict[str, Any]:
    _say(experiment.name)
    figures = RowFigures(experiment.figure())
    return _told(experiment.name, experiment.measure, figures, experiment.goal, None)


def _told(
    name: str, measure: str, figures: RowFigures, goal: Goal, beside: float | None
) -> dict[str, Any]:
    kept = goal.kept(figures, beside)
    return {
        "experiment": name,
        "measure": measure,
        "regret": None if np.isnan(figures.value) else figures.value,
        "regret_ci": figures.ci,
        "regret_p90": figures.p90,
        "stuck_share": figures.stuck,
        "goal": goal.text(),
        "kept": kept,
    }


def print_table(found: dict[str, Any]) -> None:
    """Print the rows for people."""
    console = Console()
    if console.width < LEAST_WIDTH:
        console = Console(width=LEAST_WIDTH)
    table = Table("experiment", "measure")
    for heading in ("figure", "±", "p90", "stuck"):
        table.add_column(heading, justify="right")
    table.add_column("goal")
    table.add_column("kept")
    for row in found["rows"]:
        numbers = [
            "" if row[key] is None else f"{row[key]:.4g}"
            for key in ("regret", "regret_ci", "regret_p90", "stuck_share")
        ]
        kept = {True: "yes", False: "NO", None: ""}[row["kept"]]
        table.add_row(row["experiment"], row["measure"], *numbers, row["goal"] or "", kept)
    console.print(table)


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
