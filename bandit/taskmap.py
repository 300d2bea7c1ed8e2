"""A map from tasks to endpoints, and what it gains over one endpoint for all.

The best of many endpoints in each of many tasks looks better than it is. So the map is made of
figures that are shrunk to what each endpoint is over all tasks, and its gain is measured on prompts
that did not make it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bandit.special import stdtrit

N_FOLDS = 10
N_REPEATS = 4
"""Ways in which prompts are dealt into folds, so that little hangs on one."""
TAIL = 0.05
"""How often a gain may be shown that is none."""
LEAST_STEP = 1.0
"""Standard errors by which an endpoint must lead the pinned one in a task to replace it there."""
N_PASSES = 6


@dataclass(frozen=True, slots=True)
class Scores:
    """What each prompt was worth at each endpoint."""

    task: NDArray[np.intp]  # (n_prompts,)
    score: NDArray[np.float64]  # (n_prompts, n_arms), NaN where there is none
    weight: NDArray[np.float64]  # (n_tasks,) sums to 1

    @property
    def membership(self) -> NDArray[np.float64]:
        """(n_tasks, n_prompts) 1 where a prompt is of a task."""
        return (self.task == np.arange(len(self.weight))[:, None]).astype(float)


@dataclass(frozen=True, slots=True)
class Gain:
    """What a map gains over a reference: measured on other prompts, and its bounds."""

    value: float
    low: float
    high: float


def best_map(scores: Scores, pin: int, rows: NDArray[np.bool_] | None = None) -> NDArray[np.intp]:
    """Return (n_tasks,) the endpoint of each task, the pinned one where none is clearly ahead.

    Args:
        rows: (n_prompts,) the prompts to go by; None: all.
    """
    values = scores.score if rows is None else np.where(rows[:, None], scores.score, np.nan)
    shrunk, sd = _shrunk(scores, values)
    lead = shrunk - shrunk[:, [pin]]
    lead = np.where(lead >= LEAST_STEP * sd, lead, -np.inf)
    lead[:, pin] = 0.0
    leader = lead.argmax(axis=1)
    return np.where(lead.max(axis=1) > 1e-12, leader, pin)


def _shrunk(
    scores: Scores, values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (n_tasks, n_arms) means, shrunk to task + endpoint, and what is uncertain of them.

    NaN where an endpoint has no score in a task.
    """
    seen = np.isfinite(values)
    member = scores.membership
    n = member @ seen
    has = n > 0
    filled = np.where(seen, values, 0.0)
    mean = np.where(has, member @ filled / np.maximum(n, 1), np.nan)
    # What a prompt's difficulty moves in all endpoints alike is no noise of their differences.
    level = filled.sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
    apart = np.where(seen, filled - level[:, None], 0.0)
    middle = member @ apart / np.maximum(n, 1)
    square = member @ apart**2 / np.maximum(n, 1) - middle**2
    by_task = square.sum(axis=1, keepdims=True) / np.maximum(has.sum(axis=1, keepdims=True), 1)
    noise = (0.5 * np.maximum(square, 0) + 0.5 * by_task + 1e-12) / np.maximum(n - 1, 1)
    base, skill = _effects(mean, has, scores.weight)
    rest = np.where(has, mean - base[:, None] - skill, 0.0)
    n_tasks, n_arms = mean.shape
    left = max((1 - 1 / n_tasks) * (1 - 1 / n_arms), 0.1)  # of the variance of a residual
    able = has & (skill >= np.median(skill))
    spread = max(float((rest[able] ** 2).mean() / left - noise[able].mean()), 0.0)
    keep = spread / (spread + noise)
    return np.where(has, base[:, None] + skill + keep * rest, -np.inf), np.sqrt(keep * noise)


def _effects(
    mean: NDArray[np.float64], has: NDArray[np.bool_], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what a task and what an endpoint adds, over the cells that there are."""
    filled = np.where(has, mean, 0.0)
    by_weight = has * (weight[:, None] + 1e-9)
    skill = np.zeros(mean.shape[1])
    base = np.zeros(mean.shape[0])
    for _ in range(1 if has.all() else N_PASSES):
        base = (has * (filled - skill)).sum(axis=1) / np.maximum(has.sum(axis=1), 1)
        rest = by_weight * (filled - base[:, None])
        skill = rest.sum(axis=0) / np.maximum(by_weight.sum(axis=0), 1e-12)
    return base, skill


def gain_of(
    scores: Scores, chosen: NDArray[np.intp], pin: int, reference: int, rng: np.random.Generator
) -> Gain:
    """Return what a map, as `best_map` makes it, gains over a reference.

    The lower bound is of maps made without the prompts that they are measured on, the upper one of
    the map itself on all prompts, on which it looks better than it is.

    Args:
        chosen: (n_tasks,) the map, made of all prompts beside `pin`.
        reference: the endpoint to compare with.
    """
    n = len(scores.task)
    rows = np.arange(n)
    apart = np.zeros(n)
    for _ in range(N_REPEATS):
        fold = _dealt(scores.task, rng)
        for f in range(N_FOLDS):
            out = fold == f
            made = best_map(scores, pin, ~out)
            picked = scores.score[rows, made[scores.task]] - scores.score[:, reference]
            apart[out] += picked[out] / N_REPEATS
    whole = scores.score[rows, chosen[scores.task]] - scores.score[:, reference]
    value, error, free = _mean(scores, apart)
    seen, error_seen, _ = _mean(scores, whole)
    # The map may depart from the pinned endpoint where those made without a fold do not.
    error = max(error, error_seen)
    t = float(stdtrit(max(free, 1.0), 1 - TAIL))
    return Gain(value, value - t * error, max(value + t * error, seen + t * error))


def _dealt(task: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    """Return (n_prompts,) a fold for each prompt, so that each task is in all alike."""
    order = np.lexsort((rng.random(len(task)), task))
    fold = np.empty(len(task), dtype=np.intp)
    fold[order] = np.arange(len(task)) % N_FOLDS
    return fold


def _mean(scores: Scores, values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the weighted mean of per-prompt values, its standard error and its freedom."""
    seen = np.isfinite(values)
    member = scores.membership * seen
    n = member.sum(axis=1)
    filled = np.where(seen, values, 0.0)
    mean = member @ filled / np.maximum(n, 1)
    square = np.maximum(member @ filled**2 / np.maximum(n, 1) - mean**2, 0)
    part = scores.weight**2 * square / np.maximum(n - 1, 1)
    variance = float(part.sum())
    free = variance**2 / float((part**2 / np.maximum(n - 1, 1)).sum()) if variance > 0 else 1.0
    return float(scores.weight @ mean), variance**0.5, free
