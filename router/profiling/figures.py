"""A profile as a table: which endpoint is how good in each task, and what that advises."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bandit.profile_answers import Answers
from bandit.profile_cells import Cell
from bandit.profiled import Profiled, profiled
from bandit.taskmap import Gain
from bandit.utility import Objective
from router.profiling.known_costs import with_known_costs
from router.profiling.results import ProfileResult
from router.profiling.sentence import judged_by, sentence_of

VERSION = 1
SEED = 20
"""Of the draws behind the intervals: the same results say the same."""


@dataclass(frozen=True, slots=True)
class ProfileTable:
    """All figures of a profile by name; endpoints and tasks in alphabetic order."""

    strategy: str
    objective: Objective
    incumbent: str | None
    is_silent: bool  # no answer came of the incumbent
    tasks: list[str]
    endpoints: list[str]
    weights: list[float]  # of tasks, in what is said over all of them
    weights_known: bool  # else each task counts alike
    n_prompts: list[int]  # of each task
    found: Profiled
    spent_usd: float  # without what judging cost
    judge_usd: float
    perhaps_paid_usd: float  # part of `spent_usd`, at an estimate: what no answer came of
    graded_by: dict[str, int]
    failures: dict[str, dict[str, int]]  # by endpoint: why, and how often

    def has_cost(self, endpoint: str) -> bool:
        """Return whether it is known what its calls cost."""
        place = self.endpoints.index(endpoint)
        return any(cells[place].cost_usd is not None for cells in self.found.cells)

    def ranked(self, task: int) -> list[tuple[str, Cell]]:
        """Return the endpoints that were asked in a task, best first."""
        return _ranked(self.endpoints, self.found.cells[task])

    def ranked_overall(self) -> list[tuple[str, Cell]]:
        """Return the endpoints over all tasks, best first."""
        return _ranked(self.endpoints, self.found.overall)

    def mapped(self) -> dict[str, str]:
        """Return the tasks that the map gives to another endpoint than the pinned one."""
        advice = self.found.advice
        return {
            self.tasks[t]: self.endpoints[k]
            for t, k in enumerate(advice.map)
            if k >= 0 and k != advice.pin
        }

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON has it; fields are only ever added."""
        return {
            "version": VERSION,
            "strategy": self.strategy,
            "judged_by": judged_by(self),
            "sentence": sentence_of(self),
            "advice": self._advice_json(),
            "tasks": [
                {
                    "task": name,
                    "weight": round(self.weights[t], 6),
                    "prompts": self.n_prompts[t],
                    "endpoints": [_cell_json(*one) for one in self.ranked(t)],
                }
                for t, name in enumerate(self.tasks)
            ],
            "overall": [_cell_json(*one) for one in self.ranked_overall()],
            "weights_from": "prompts" if self.weights_known else "equal",
            "incumbent": self.incumbent,
            "spent_usd": self.spent_usd,
            "judge_usd": self.judge_usd,
            "perhaps_paid_usd": self.perhaps_paid_usd,
            "graded_by": self.graded_by,
            "failures": self.failures,
        }

    def _advice_json(self) -> dict[str, Any]:
        advice, beside = self.found.advice, self.found.advice.beside_incumbent
        return {
            "kind": advice.kind.value,
            "reason": advice.reason or None,
            "pin": self._named(advice.pin),
            "lead": advice.lead,
            "map": {self.tasks[t]: self.endpoints[k] for t, k in enumerate(advice.map) if k >= 0},
            "gain": None if advice.gain is None else _gain_json(advice.gain),
            "more_prompts": advice.more_prompts,
            "compared": [self.endpoints[k] for k in advice.compared],
            "below_floor": [self.endpoints[k] for k in advice.below_floor],
            "tasks": [self.tasks[t] for t in advice.tasks],
            "beside_incumbent": None if beside is None else asdict(beside),
        }

    def _named(self, arm: int | None) -> str | None:
        return None if arm is None else self.endpoints[arm]


def table_of(
    results: Sequence[ProfileResult],
    *,
    strategy: str,
    objective: Objective,
    incumbent: str | None,
    weights: Mapping[str, float] | None = None,
    silent: Collection[str] = (),
    unpriced: Collection[str] = (),
    perhaps_paid_usd: float = 0.0,
) -> ProfileTable:
    """Return the table of results, in whatever order they came.

    Args:
        objective: what endpoints are judged by.
        weights: each task's share of the prompts file; None: each task counts alike.
        silent: endpoints of which no answer came.
        unpriced: endpoints whose calls cost nobody knows what.
        perhaps_paid_usd: what calls may have cost of which no answer came.
    """
    tasks = sorted({r.task for r in results})
    endpoints = sorted({r.endpoint for r in results})
    answers = _answers(results, tasks, endpoints, weights)
    place = endpoints.index(incumbent) if incumbent in endpoints else None
    found = profiled(answers, objective, place, np.random.default_rng(SEED))
    found = with_known_costs(found, [name in unpriced for name in endpoints], place)
    graded_by: dict[str, int] = {}
    failures: dict[str, dict[str, int]] = {}
    for r in results:
        if not r.ok:
            counts = failures.setdefault(r.endpoint, {})
            counts[r.why] = counts.get(r.why, 0) + 1
        if r.quality is not None:
            name = r.graded_by or "unknown"
            graded_by[name] = graded_by.get(name, 0) + 1
    return ProfileTable(
        strategy=strategy,
        objective=objective,
        incumbent=incumbent,
        is_silent=incumbent in silent,
        tasks=tasks,
        endpoints=endpoints,
        weights=answers.weight.tolist(),
        weights_known=weights is not None,
        n_prompts=np.bincount(answers.task, minlength=len(tasks)).tolist(),
        found=found,
        spent_usd=float(sum(r.cost_usd for r in results)) + perhaps_paid_usd,
        judge_usd=float(sum(r.judge_usd for r in results)),
        perhaps_paid_usd=perhaps_paid_usd,
        graded_by=dict(sorted(graded_by.items())),
        failures=failures,
    )


def _answers(
    results: Sequence[ProfileResult],
    tasks: list[str],
    endpoints: list[str],
    weights: Mapping[str, float] | None,
) -> Answers:
    """Return results as arrays; of a cell that is there twice, the last counts."""
    prompts = sorted({(r.task, r.prompt) for r in results})
    row = {key: i for i, key in enumerate(prompts)}
    column = {name: k for k, name in enumerate(endpoints)}
    quality, cost, latency = (np.full((len(prompts), len(endpoints)), np.nan) for _ in range(3))
    for r in results:
        at = row[r.task, r.prompt], column[r.endpoint]
        failed = 0.0 if not r.ok else np.nan
        quality[at] = failed if r.quality is None or not r.ok else min(max(r.quality, 0.0), 1.0)
        cost[at] = max(r.cost_usd, 0.0)
        latency[at] = r.latency_s if r.ok else np.nan
    share = np.array([1.0 if weights is None else max(weights.get(t, 0.0), 0.0) for t in tasks])
    if share.sum() <= 0:
        share = np.ones(len(tasks))
    place = {name: t for t, name in enumerate(tasks)}
    of_task = np.array([place[task] for task, _ in prompts], dtype=np.intp)
    return Answers(of_task, quality, cost, latency, share / max(share.sum(), 1e-300))


def _ranked(endpoints: list[str], cells: list[Cell]) -> list[tuple[str, Cell]]:
    asked = [(name, c) for name, c in zip(endpoints, cells, strict=True) if c.n_asked]
    return sorted(asked, key=lambda one: (*_worth(one[1]), one[0]))


def _worth(cell: Cell) -> tuple[float, float]:
    quality = -1.0 if cell.quality is None else cell.quality
    return -quality, float("inf") if cell.cost_usd is None else cell.cost_usd


def _cell_json(endpoint: str, cell: Cell) -> dict[str, Any]:
    return {"endpoint": endpoint, **asdict(cell)}


def _gain_json(gain: Gain) -> dict[str, float]:
    return asdict(gain)
