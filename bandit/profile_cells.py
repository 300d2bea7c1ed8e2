"""Figures of one endpoint in one task, each with an interval, and the odds that it is the best."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bandit.contrasts import N_DRAWS
from bandit.intervals import Interval, amount_interval, mean_interval, quantile_interval
from bandit.profile_answers import Answers, qualities, utilities
from bandit.utility import Objective

OpenInterval = tuple[float, float | None]
"""The upper end is None where so few observations bound nothing."""
SLOW = 0.95


@dataclass(frozen=True, slots=True)
class Cell:
    """One endpoint in one task, or over tasks; None: not known."""

    n_asked: int
    n_graded: int
    n_failed: int
    quality: float | None
    quality_interval: Interval
    cost_usd: float | None  # mean of a call
    cost_interval: OpenInterval
    latency_s: float | None  # median of what was answered
    latency_interval: OpenInterval
    slow_s: float | None  # 95 % of what was answered took less
    slow_interval: OpenInterval
    p_best: float | None = None  # of a task: best by utility


def cell(answers: Answers, task: int | None, arm: int, p: float | None = None) -> Cell:
    """Return the figures of an endpoint in a task, None: of all prompts, each counted once."""
    at = slice(None) if task is None else answers.task == task
    quality, cost, latency = (
        column[np.isfinite(column)]
        for column in (a[at, arm] for a in (answers.quality, answers.cost_usd, answers.latency_s))
    )
    cost_low, cost_high = amount_interval(cost)
    return Cell(
        n_asked=len(cost),
        n_graded=len(quality),
        n_failed=len(cost) - len(latency),
        quality=float(quality.mean()) if len(quality) else None,
        quality_interval=mean_interval(quality),
        cost_usd=float(cost.mean()) if len(cost) else None,
        cost_interval=(cost_low, cost_high if np.isfinite(cost_high) else None),
        latency_s=float(np.median(latency)) if len(latency) else None,
        latency_interval=quantile_interval(latency, 0.5),
        slow_s=_order_statistic(latency, SLOW) if len(latency) else None,
        slow_interval=quantile_interval(latency, SLOW),
        p_best=p,
    )


def _order_statistic(values: NDArray[np.float64], q: float) -> float:
    return float(np.quantile(values, q, method="inverted_cdf"))


def odds_of_best(
    answers: Answers, task: int, objective: Objective, rng: np.random.Generator
) -> list[float | None]:
    """Return for each endpoint the odds that it is the best in a task, None: not graded there.

    By what a call is worth; an order of cost or time asks the same question of quality.
    """
    found: list[float | None] = [None] * answers.n_arms
    here = answers.part([task], np.arange(answers.n_arms))
    known = np.flatnonzero(np.isfinite(here.quality).sum(axis=0) > 1)
    if not len(known):
        return found
    some = here.part([0], known)
    estimates = some.estimates(utilities(some, objective))
    drawn = estimates.value + estimates.errors(rng)
    wins = np.bincount(drawn.argmax(axis=1), minlength=len(known)) / N_DRAWS
    for place, arm in enumerate(known):
        found[arm] = float(wins[place])
    return found


def overall(answers: Answers, arm: int) -> Cell:
    """Return an endpoint's figures over tasks: quality and cost weighted, times as they came.

    Quality and cost are None where it was not graded or not asked in some task.
    """
    plain = cell(answers, None, arm)
    if len(answers.weight) == 1:
        return plain
    one = answers.part(range(len(answers.weight)), [arm])
    found = replace(plain, quality=None, quality_interval=(0.0, 1.0), cost_usd=None)
    if (one.counts(np.isfinite(one.cost_usd)) > 0).all():
        usd = float(one.weight @ one.means(one.cost_usd)[:, 0])
        factor = usd / plain.cost_usd if plain.cost_usd else 1.0
        low, high = plain.cost_interval
        interval = (low * factor, None if high is None else high * factor)
        found = replace(found, cost_usd=usd, cost_interval=interval)
    if (one.counts(np.isfinite(one.quality)) > 1).all():
        estimate = qualities(one)
        square = float((estimate.influence[:, 0] ** 2).sum()) + estimate.least_variance
        reach = estimate.critical(1) * square**0.5
        mean = float(estimate.value[0])
        ends = (max(mean - reach, 0.0), min(mean + reach, 1.0))
        found = replace(found, quality=mean, quality_interval=ends)
    return found
