"""Answers of endpoints to the same prompts, and one figure of each endpoint made of them.

A figure is a mean within tasks, weighted over tasks, and knows what each prompt moved it by: so
that any two are compared on what both answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bandit.contrasts import Estimates
from bandit.utility import Objective

LEAST_AMOUNT = 1e-12
"""What is free is taken to cost this, where a share of a cost is told."""


@dataclass(frozen=True, slots=True)
class Answers:
    """One row for each prompt; NaN: not asked, not answered or not graded."""

    task: NDArray[np.intp]  # (n_prompts,)
    quality: NDArray[np.float64]  # (n_prompts, n_arms), in [0, 1]; 0 where the call failed
    cost_usd: NDArray[np.float64]  # (n_prompts, n_arms), of all that was asked
    latency_s: NDArray[np.float64]  # (n_prompts, n_arms), of what was answered
    weight: NDArray[np.float64]  # (n_tasks,) sums to 1

    @property
    def n_arms(self) -> int:
        """How many endpoints there are."""
        return self.quality.shape[1]

    @property
    def membership(self) -> NDArray[np.float64]:
        """(n_tasks, n_prompts) 1 where a prompt is of a task."""
        return (self.task == np.arange(len(self.weight))[:, None]).astype(float)

    def counts(self, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return (n_tasks, n_arms) how many are set."""
        return np.asarray(self.membership @ mask)

    def means(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (n_tasks, n_arms) means of what is known; 0 where nothing is."""
        seen = np.isfinite(values)
        total = self.membership @ np.where(seen, values, 0.0)
        return np.asarray(total / np.maximum(self.counts(seen), 1))

    def part(self, tasks: Sequence[int], arms: Sequence[int] | NDArray[np.intp]) -> Answers:
        """Return the same of some tasks and endpoints, weights summing to 1 again."""
        of = np.asarray(tasks, dtype=np.intp)
        kept = np.isin(self.task, of)
        place = np.searchsorted(of, self.task[kept])
        weight = self.weight[of]
        weight = weight if weight.sum() > 0 else np.ones(len(of))
        weight = weight / max(weight.sum(), 1e-300)
        quality, cost, latency = (
            a[kept][:, arms] for a in (self.quality, self.cost_usd, self.latency_s)
        )
        return Answers(place, quality, cost, latency, weight)

    def estimates(self, values: NDArray[np.float64]) -> Estimates:
        """Return weighted means of a score on which quality counts once."""
        found = amounts(self, values)
        return replace(found, least_variance=least_variance(self))


def amounts(answers: Answers, values: NDArray[np.float64]) -> Estimates:
    """Return weighted means of anything, (n_prompts, n_arms), and what each prompt moved."""
    seen = np.isfinite(values)
    n = answers.counts(seen)
    mean = answers.means(values)
    apart = np.where(seen, values - mean[answers.task], 0.0)
    factor = answers.weight[:, None] / np.sqrt(np.maximum(n, 1) * np.maximum(n - 1, 1))
    free = np.maximum(n.min(axis=1) - 1, 1)
    # Satterthwaite's, as if all tasks varied alike
    part = answers.weight**2 / np.maximum(n.min(axis=1), 1)
    n_free = float(part.sum() ** 2 / (part**2 / free).sum())
    return Estimates(answers.weight @ mean, apart * factor[answers.task], 0.0, n_free)


def least_variance(answers: Answers) -> float:
    """Return the variance of a difference in quality of two that never differed.

    Of n prompts none told two endpoints apart: half a prompt each way is lent to them. It is worth
    as much as the best answer seen: the next may be worth nothing, however alike grades were so
    far. Where not all had the same prompts, n is what the least asked had, of those that had half
    as many as any.

    Ref: Agresti and Min (2005), Statistics in Medicine 24.
    """
    total = 0.0
    for t, weight in enumerate(answers.weight):
        here = answers.quality[answers.task == t]
        known = here[np.isfinite(here)]
        if not len(known):
            continue
        reach = float(known.max()) or 1.0
        n = np.isfinite(here).sum(axis=0)
        total += (weight * reach / (n[2 * n >= n.max()].min() + 2)) ** 2
    return float(total)


def qualities(answers: Answers) -> Estimates:
    """Return the weighted mean quality of each endpoint."""
    return answers.estimates(answers.quality)


def utilities(answers: Answers, objective: Objective) -> NDArray[np.float64]:
    """Return (n_prompts, n_arms) what each answer was worth, in successes."""
    if not objective.has_value:
        return answers.quality
    values = objective.value_usd if objective.values_usd is None else objective.values_usd
    worth = np.broadcast_to(np.asarray(values, dtype=float), answers.weight.shape)
    waited = np.where(np.isfinite(answers.latency_s), answers.latency_s, 0.0)
    spent = answers.cost_usd + waited * objective.latency_usd_per_s
    return np.asarray(answers.quality - spent / worth[answers.task][:, None])


def logarithm(
    amount: Estimates, sign: float, over: Estimates | None = None, least: float = 0.0
) -> Estimates:
    """Return sign × ln(amount ÷ over), to first order, so that differences are ratios.

    Args:
        over: what it is divided by, as quality where a cost is told per success.
        least: what `over` is at least.
    """
    base = np.maximum(amount.value, LEAST_AMOUNT)
    value, influence = np.log(base), amount.influence / base
    floor = 0.0
    if over is not None:
        by = np.maximum(over.value, least)
        value, influence = value - np.log(by), influence - over.influence / by
        floor = over.least_variance / float(by.max()) ** 2
    return Estimates(sign * value, sign * influence, floor, amount.n_free)
