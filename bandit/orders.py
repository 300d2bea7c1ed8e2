"""The law of the order strategies: the user's own order decides, beliefs only bound it.

`cheapest` and `fastest` act without labels. The choice is the first in the order among the groups
that qualify; a tenth of the calls may try others. There is no room and no *better* here: what
they try is bounded by the share that stays.
"""

from __future__ import annotations

from dataclasses import replace
from math import nan

import numpy as np
from numpy.typing import NDArray

from bandit.draws import Law
from bandit.incumbent import FLOOR, N_CHALLENGERS, Release, Standings
from bandit.posterior import Posterior
from bandit.reliability import lower_bound
from bandit.utility import (
    FASTEST_LEVEL,
    FASTEST_OK_RATE,
    LEAST_QUALITY,
    Objective,
    Order,
    above_floor,
    admitted,
)

STAY = 0.9
REVIEW_EVERY_S = 3600.0
"""Prices and latencies move by the hour; releases of the guarded law by the week."""


def measure(
    posterior: Posterior, objective: Objective, task: int, available: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return (n_groups,) what the order sorts by, at each group's best host: least comes first.

    inf where no host is available. `cheapest`: expected USD an answered call, per success once
    labels exist. `fastest`: expected seconds an answered call.
    """
    arms = posterior.arms
    ok = posterior.reliability.mean[task]
    if objective.order is Order.CHEAPEST:
        by_host = posterior.cost_usd[task] / ok
        if posterior.judged[task].any():
            by_host = by_host / np.maximum(posterior.quality.mean[task], LEAST_QUALITY)[arms.group]
    else:
        by_host = posterior.latency.expected[task] / ok
    best = np.full(arms.n_groups, np.inf)
    np.minimum.at(best, arms.group[available], by_host[available])
    return best


def qualified(
    posterior: Posterior, objective: Objective, task: int, available: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return (n_groups,) which groups may become the choice.

    `fastest` asks for calls enough: a one-sided lower 90 % bound of the answered share of .95
    takes 44 without a failure. They are counted over all that is kept: by the decayed counts,
    which see outages, an endpoint of few calls an hour would never qualify.
    """
    fit = _admitted(posterior, objective, task, available)
    if objective.order is Order.FASTEST:
        calls = posterior.arms.by_group(posterior.calls)[task]
        failed = posterior.arms.by_group(posterior.failures)[task]
        bound = lower_bound(calls - failed, failed, level=FASTEST_LEVEL)
        fit &= bound >= FASTEST_OK_RATE
    return fit


def review(
    standings: Standings,
    posterior: Posterior,
    objective: Objective,
    available: NDArray[np.bool_],
    due: NDArray[np.bool_],
) -> tuple[Standings, list[Release], NDArray[np.bool_]]:
    """Return the standings after a review, what was released, and (n_tasks,) which were settled.

    A task is settled once its choice was compared with a group that qualified.

    Args:
        available: (n_arms,) endpoints that may serve at all.
        due: (n_tasks,) tasks to review; the others change only if their choice fell below its
            floor of quality.
    """
    current = standings.current.copy()
    settled = np.zeros(len(current), dtype=bool)
    released = []
    for task, now in enumerate(standings.current):
        fallen = not above_floor(posterior, task)[now]
        fit = qualified(posterior, objective, task, available)
        if not (due[task] or fallen) or not fit.any():
            continue
        settled[task] = True
        by = measure(posterior, objective, task, available)
        first = int(np.where(fit, by, np.inf).argmin())
        # Among equals the present choice stays.
        if first == now or (fit[now] and by[now] <= by[first]):
            continue
        current[task] = first
        reason = "below its floor" if fallen else "first in the order"
        # A user's order is no belief, so there is no P(better).
        released.append(Release(task, int(now), first, nan, float(by[now] - by[first]), reason))
    if released:
        standings = replace(standings, current=current, version=standings.version + 1)
    return standings, released, settled


def choose_challengers(
    standings: Standings,
    posterior: Posterior,
    objective: Objective,
    available: NDArray[np.bool_],
    order: NDArray[np.float64],
) -> Standings:
    """Return the standings with each task's two least measured groups as challengers.

    Args:
        available: (n_arms,) endpoints that may serve at all.
        order: (n_groups,) who comes first among the equally measured: the greatest.
    """
    calls = posterior.arms.by_group(posterior.calls)
    chosen = []
    for task, cur in enumerate(standings.current):
        able = _admitted(posterior, objective, task, available)
        able[[int(cur), standings.incumbent]] = False
        least = np.lexsort((-order, calls[task]))
        chosen.append(tuple(int(g) for g in least if able[g])[:N_CHALLENGERS])
    return replace(standings, challengers=tuple(chosen))


def law(standings: Standings, task: int, *, floor: float = FLOOR) -> Law:
    """Return the law of a task's next draw."""
    inc, cur = standings.incumbent, int(standings.current[task])
    return Law(inc, cur, standings.challengers[task], floor=floor, stay=STAY)


def _admitted(
    posterior: Posterior, objective: Objective, task: int, available: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return (n_groups,) groups of which some host may serve under the order."""
    group = posterior.arms.group
    hosts = admitted(posterior, task, objective, available)
    return np.bincount(group, hosts, minlength=posterior.arms.n_groups) > 0
