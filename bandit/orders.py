"""The law of the order strategies: the user's own order decides, beliefs only bound it.

`cheapest` and `fastest` act without labels. The choice is the first in the order among the groups
that qualify; a tenth of the calls may try others. There is no room and no *better* here: what
they try is bounded by the share that stays. They are calm: a move takes an order that surely
holds, comes at most once an hour, and who was left within a day has to be surer still.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import nan

import numpy as np
from numpy.typing import NDArray

from bandit.draws import Law
from bandit.incumbent import FLOOR, N_CHALLENGERS, Release, Standings
from bandit.ordering import Ordering
from bandit.posterior import Posterior
from bandit.utility import LEAST_ODDS, Objective, may_judge

STAY = 0.9
REVIEW_EVERY_S = 3600.0
"""Prices and latencies move by the hour; releases of the guarded law by the week."""
REST_MS, BACK_MS = 3_600_000, 86_400_000
"""A task moves once an hour at most; for a day it is remembered whom it left."""
AHEAD = 0.9
"""P(ahead of the choice) that a move takes."""
ABOVE = 0.7
"""P(quality ≥ floor), where anything is labelled, of whom it goes to. Who serves is left only below
`LEAST_ODDS`: between the two nothing moves."""
EVEN = 0.5
"""The same, of whom a fallen choice yields to. To ask for more leads past all who are not known
well, to the dearest: in simulated weeks it cost more, moved more often and kept no floor better."""
BACK = 0.95
"""All of those, for whom the task left within a day."""
MAY_BE_AHEAD = 0.1
"""A challenger is tried while P(ahead of the choice) is so much: else the least measured would be
those that are never drawn, and nobody else's turn would come."""
NEVER_MS = -(1 << 61)
FIRST, FALLEN, FAILS, LOST = (
    "first in the order",
    "below its floor",
    "fails too often",
    "next after a loss",
)


@dataclass(frozen=True, slots=True)
class Departures:
    """When each task was last moved by the order, and when it left whom; epoch ms."""

    moved_at_ms: NDArray[np.int64]  # (n_tasks,) what was lost is no move
    left_at_ms: NDArray[np.int64]  # (n_tasks, n_groups)

    @classmethod
    def none(cls, n_tasks: int, n_groups: int) -> Departures:
        """Return those before the first move."""
        return cls(np.full(n_tasks, NEVER_MS), np.full((n_tasks, n_groups), NEVER_MS))

    def after(self, released: list[Release], *, now_ms: int) -> Departures:
        """Return these with what was released now."""
        moved, left = self.moved_at_ms.copy(), self.left_at_ms.copy()
        for release in released:
            left[release.task, release.before] = now_ms
            if release.reason != LOST:
                moved[release.task] = now_ms
        return Departures(moved, left)


def review(
    standings: Standings,
    posterior: Posterior,
    objective: Objective,
    available: NDArray[np.bool_],
    due: NDArray[np.bool_],
    *,
    lost: NDArray[np.bool_],
    departures: Departures,
    now_ms: int,
) -> tuple[Standings, list[Release], NDArray[np.bool_]]:
    """Return the standings after a review, what was released, and (n_tasks,) which were settled.

    A task is settled once its choice was compared with a group that qualified.

    Args:
        available: (n_arms,) endpoints that may serve at all, or (n_tasks, n_arms).
        due: (n_tasks,) tasks to review; the others change only if their choice is lost or fell
            below its floor of quality.
        lost: (n_tasks,) whose choice cannot serve any more.
    """
    current = standings.current.copy()
    settled = np.zeros(len(current), dtype=bool)
    released = []
    every = np.broadcast_to(available, (len(current), available.shape[-1]))
    for task, now in enumerate(standings.current):
        ordering = Ordering(posterior, objective, task, every[task])
        reason = LOST if lost[task] else why_left(ordering, int(now))
        rests = now_ms < departures.moved_at_ms[task] + REST_MS and reason != LOST
        if rests or not (due[task] or reason in (LOST, FALLEN)):
            continue
        fit = ordering.qualified()
        if reason == LOST and not fit.any():
            fit = ordering.servable()
        settled[task] = fit.any()
        left = now_ms < departures.left_at_ms[task] + BACK_MS
        release = _move(ordering, int(now), reason, fit=fit, left=left)
        if release is not None:
            current[task] = release.after
            released.append(release)
    if released:
        standings = replace(standings, current=current, version=standings.version + 1)
    return standings, released, settled


def why_left(ordering: Ordering, now: int) -> str:
    """Return why a task is to leave its choice, if for somebody: the order alone comes last."""
    posterior, task = ordering.posterior, ordering.task
    enough = may_judge(posterior)[task, now]
    if enough and ordering.p_above_floor()[now] < LEAST_ODDS:
        return FALLEN
    return FAILS if ordering.fails_too_often(now) else FIRST


def _move(
    ordering: Ordering, now: int, reason: str, *, fit: NDArray[np.bool_], left: NDArray[np.bool_]
) -> Release | None:
    """Return a task's move to the first in the order of those who may be moved to, if any.

    Args:
        fit, left: (n_groups,) who qualifies, and whom the task left within a day.
    """
    ahead = ordering.p_ahead(now)
    above = EVEN if reason == FALLEN else ABOVE
    able = fit & (ordering.p_above_floor() >= np.where(left, BACK, above))
    if reason == FIRST:
        able &= ahead >= np.where(left, BACK, AHEAD)
    able[now] &= reason == LOST  # the incumbent, where the choice was removed
    if reason == LOST and not able.any():
        able = fit
    measure = ordering.measure()
    first = int(np.where(able, measure, np.inf).argmin())
    if not able.any() or first == now:
        return None
    # Only an order has odds that it holds; who fell, fails or is lost is left to whoever is next.
    p = float(ahead[first]) if reason == FIRST else nan
    return Release(ordering.task, now, first, p, float(measure[now] - measure[first]), reason)


def choose_challengers(
    standings: Standings,
    posterior: Posterior,
    objective: Objective,
    available: NDArray[np.bool_],
    order: NDArray[np.float64],
) -> Standings:
    """Return the standings with each task's two least measured groups as challengers.

    Only such as may yet be ahead of the choice; measured by traffic, which alone qualifies them.

    Args:
        available: (n_arms,) endpoints that may serve at all, or (n_tasks, n_arms).
        order: (n_groups,) who comes first among the equally measured: the greatest.
    """
    calls = posterior.arms.by_group(posterior.traffic_calls)
    chosen = []
    every = np.broadcast_to(available, (len(standings.current), available.shape[-1]))
    for task, cur in enumerate(standings.current):
        ordering = Ordering(posterior, objective, task, every[task])
        able = ordering.servable() & (ordering.p_ahead(int(cur)) >= MAY_BE_AHEAD)
        able[[int(cur), standings.incumbent]] = False
        least = np.lexsort((-order, calls[task]))
        chosen.append(tuple(int(g) for g in least if able[g])[:N_CHALLENGERS])
    return replace(standings, challengers=tuple(chosen))


def law(standings: Standings, task: int, *, floor: float = FLOOR) -> Law:
    """Return the law of a task's next draw."""
    inc, cur = standings.incumbent, int(standings.current[task])
    return Law(inc, cur, standings.challengers[task], floor=floor, stay=STAY)
