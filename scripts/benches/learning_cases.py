"""What `bench learning` plays: which table, which streams, under which rules."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from bandit.incumbent import FLOOR
from bandit.replay.loop import Rules
from bandit.replay.scenarios import Scenario
from bandit.utility import Objective
from telemetry.recorded import Selection, models
from workers.replay import ope
from workers.replay.file import ReplaySettings, World, prepare, seed_figures

TABLES = {
    "bfcl": ("bfcl_2024.parquet", "run_date=2024-08-11"),
    "zeroeval": ("zeroeval_2024.parquet", "in_all_categories=true"),
    "mixed": ("mixed_2024.parquet", None),
}
"""File and selected rows of each table; endpoints without a price are left out."""
LONG = 9_000
"""Calls drawn with replacement; short streams are a permutation of the table."""
PROFILE = 25
SUBSET_ENDPOINTS = (2, 6)
"""What most users have."""
BUDGET_STEPS = 5
"""Geometric steps from the cheapest endpoint's cost to the best one's; both ends are no choice."""
LOGGED_ENDPOINTS = 8
LOG_FLOOR, LOG_HOLDOUT = 0.02, 0.03
LOG = "log"
"""The policy that writes a log of ours and judges other policies from it."""


@dataclass(frozen=True, slots=True)
class LearningCase:
    """A world to learn in."""

    table: str
    profile: int = 0
    repeat: int | None = None
    value_usd: float | None = None
    scenario: Scenario = Scenario.STATIONARY
    sharpness: float | None = None
    guarded: bool = False  # the third-best endpoint is the incumbent
    budget_step: int | None = None
    subset: int | None = None  # seed of a few random endpoints
    logged: bool = False  # for off-policy evaluation


@dataclass(frozen=True, slots=True)
class LearningRun:
    """A policy in a case; on how many streams is not said here."""

    case: LearningCase
    policy: str = "pointsman"


def play(data: Path, run: LearningRun, seed: int) -> Any:
    """Return the figures of one stream: `SeedFigures`, or of a log its `JudgedEstimate`s."""
    world = world_of(run.case, data)
    return ope.judge(world, seed) if run.policy == LOG else seed_figures(world, run.policy, seed)


@lru_cache(maxsize=4)  # runs come case by case
def world_of(case: LearningCase, data: Path) -> World:
    """Return the world of a case.

    Raises:
        BadTable: its table cannot be used.
    """
    world, _ = prepare(_settings(case, data, _endpoints(case, data)))
    rules, third = world.rules, world.known.ranking[min(2, len(world.known.ranking) - 1)]
    if case.guarded:
        rules = replace(rules, incumbent=third, holdout_arm=third, floor=FLOOR)
    if case.logged:
        rules = replace(rules, holdout_arm=third, floor=LOG_FLOOR, holdout=LOG_HOLDOUT)
    if case.budget_step is not None:
        usd = world.known.overall_cost_usd
        low, high = float(usd.min()), float(usd[world.known.ranking[0]])
        rules = replace(rules, budget_usd=low * (high / low) ** (case.budget_step / BUDGET_STEPS))
    return replace(world, rules=rules)


def _selection(case: LearningCase) -> Selection:
    where = TABLES[case.table][1]
    return Selection(where=() if where is None else (where,))


def _endpoints(case: LearningCase, data: Path) -> tuple[str, ...]:
    """Return the endpoints that a case names; none are all."""
    if case.logged:
        known = world_of(LearningCase(case.table), data)
        best = known.known.ranking[:LOGGED_ENDPOINTS]
        return tuple(known.outcomes.endpoints[arm] for arm in best)
    if case.subset is None:
        return ()
    names = models(data / TABLES[case.table][0], _selection(case))
    rng = np.random.default_rng(case.subset)
    low, high = SUBSET_ENDPOINTS
    return tuple(rng.choice(names, rng.integers(low, high + 1), replace=False).tolist())


def _settings(case: LearningCase, data: Path, endpoints: tuple[str, ...]) -> ReplaySettings:
    objective = Objective() if case.value_usd is None else Objective(value_usd=case.value_usd)
    return ReplaySettings(
        file=data / TABLES[case.table][0],
        selection=replace(_selection(case), endpoints=endpoints),
        policies=(),
        strategy="quality",
        rules=Rules(objective=objective, sharpness=case.sharpness),
        incumbent=None,
        holdout_endpoint=None,
        profile=case.profile,
        prior_file=None,
        prior_where=(),
        scenario=case.scenario,
        seeds=0,
        repeat=case.repeat,
        calls_per_second=1.0,
        arrivals=None,
    )
