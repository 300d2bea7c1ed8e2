"""Off-policy evaluation on logs of our own, where the truth is known: are the estimates right?

The log is written in learning mode, with a floor and a hold-out. The floor serves the choice of
`profile-greedy`, which is declared before the log begins. Targets are fixed policies whose
true value is a mean over all selected prompts. A profile, 25 prompts of each category unless said
otherwise, is given to our policy, too, as it is to every policy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit import ope
from bandit.ope import Estimate
from bandit.replay.scenarios import Scenario
from workers.replay import file as replay_file
from workers.replay.file import OURS, BadSettings, ReplaySettings, World

PROFILE = 25
TARGETS = ("incumbent", "uniform", "profile-greedy", "best-single")
ESTIMATORS: dict[str, Callable[[ope.Log, NDArray[np.float64]], Estimate]] = {
    "dr": ope.doubly_robust,
    "snips": lambda log, target: ope.inverse_propensity(log, target, normalised=True),
    "ips": lambda log, target: ope.inverse_propensity(log, target, normalised=False),
}


@dataclass(frozen=True, slots=True)
class JudgedEstimate:
    """One estimate beside the truth."""

    target: str
    estimator: str
    error: float
    covered: bool
    refused: bool
    ess: float


def evaluate(settings: ReplaySettings, *, progress: Callable[[str], None]) -> dict[str, Any]:
    """Return error, coverage and refusals of each estimator for each target.

    Raises:
        BadTable, BadSettings: what was asked for cannot be evaluated.
    """
    incumbent = settings.holdout_endpoint or settings.incumbent
    if incumbent is None:
        raise BadSettings("--ope: name the incumbent by --holdout-endpoint or --incumbent")
    settings = replace(
        settings,
        incumbent=None,
        holdout_endpoint=incumbent,
        profile=settings.profile or PROFILE,
    )
    world, table = replay_file.prepare(settings)
    progress(replay_file.describe(table, settings))
    found: list[JudgedEstimate] = []
    tasks = [(seed,) for seed in range(settings.seeds)]
    for part in replay_file.parallel(world, _job, tasks):
        found += part
    return {
        "dataset": table.name,
        "requests": settings.repeat or len(table.prompts),
        "endpoints": len(table.endpoints),
        "categories": len(table.categories),
        "logs": settings.seeds,
        "incumbent": incumbent,
        "floor": settings.rules.floor,
        "holdout": settings.rules.holdout,
        "profile": settings.profile,
        "targets": [_row(found, target, name) for target in TARGETS for name in ESTIMATORS],
    }


def _job(seed: int) -> list[JudgedEstimate]:
    return judge(replay_file.world(), seed)


def judge(world: World, seed: int) -> list[JudgedEstimate]:
    """Return every estimator's judgement of every target, from the log of one stream."""
    stream, trace = replay_file.trace_of(world, OURS, seed, Scenario.STATIONARY, logged=True)
    assert trace.log is not None
    out = []
    for name, policy in _targets(world, stream.profile).items():
        truth = float((policy[world.outcomes.category] * world.outcomes.quality).sum(axis=1).mean())
        for estimator, estimate in ESTIMATORS.items():
            e = estimate(trace.log, policy[trace.log.category])
            covered = e.low <= truth <= e.high
            judged = JudgedEstimate(
                name, estimator, e.value - truth, covered, e.refused is not None, e.ess
            )
            out.append(judged)
    return out


def _targets(world: World, profile: NDArray[np.intp]) -> dict[str, NDArray[np.float64]]:
    """Return (n_categories, n_arms) probabilities of each target."""
    outcomes = world.outcomes
    n_categories, n_arms = world.known.quality.shape
    one = np.eye(n_arms)
    assert world.rules.holdout_arm is not None
    best = one[replay_file.profile_greedy(world, profile)]
    return {
        "incumbent": np.tile(one[world.rules.holdout_arm], (n_categories, 1)),
        "uniform": np.full((n_categories, n_arms), 1 / n_arms),
        "profile-greedy": best,
        "best-single": np.tile(one[int(outcomes.quality.mean(axis=0).argmax())], (n_categories, 1)),
    }


def _row(found: list[JudgedEstimate], target: str, estimator: str) -> dict[str, Any]:
    rows = [j for j in found if j.target == target and j.estimator == estimator]
    kept = [j for j in rows if not j.refused]
    return {
        "target": target,
        "estimator": estimator,
        "rmse": float(np.sqrt(np.mean([j.error**2 for j in kept]))) if kept else None,
        "bias": float(np.mean([j.error for j in kept])) if kept else None,
        "coverage": float(np.mean([j.covered for j in kept])) if kept else None,
        "refused": float(np.mean([j.refused for j in rows])),
        "ess_p50": float(np.median([j.ess for j in rows])),
    }
