"""What an order's review moves, and what is remembered of it: whom each task left, and when.

By names in the store, by number in the law.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bandit import orders
from bandit.incumbent import Release, Standings
from bandit.limits import within_by_category
from bandit.orders import BACK_MS, LOST, Departures
from bandit.posterior import Posterior
from router.beliefs.kept import Kept, ReleaseNotice
from router.config.compiled import Configuration


@dataclass(frozen=True, slots=True)
class Situation:
    """What an order's review starts from."""

    kept: Kept
    configuration: Configuration
    arms: NDArray[np.bool_]  # (n_arms,) whom the app's standing constraints permit
    due: bool  # all tasks
    gone: Collection[str] = ()  # tasks whose choice was removed
    lost: Collection[str] = ()  # ids of endpoints that are away for so long that they are lost
    barred: NDArray[np.bool_] | None = None  # (n_tasks, n_groups) whom nobody is moved to


def by_order(
    situation: Situation, standings: Standings, posterior: Posterior, *, now_ms: int
) -> tuple[list[Release], dict[str, int]]:
    """Return what an order releases, and the group that each task settled at; others were not due.

    Where everybody is lost, nobody is.
    """
    kept, catalog = situation.kept, situation.configuration.catalog
    tasks, arms = situation.configuration.task_index, situation.arms
    there = arms & np.array([e.id not in situation.lost for e in catalog.endpoints])
    arms = there if there.any() else arms
    has_host = np.bincount(catalog.arms.group, arms)[standings.current] > 0
    is_gone = np.array([task in situation.gone for task in tasks])
    is_new = np.array([task not in kept.current for task in tasks])
    strategy = situation.configuration.strategies[kept.review_key.strategy]
    after, released, settled = orders.review(
        standings,
        posterior,
        strategy.objective,
        _unbarred(within_by_category(posterior, strategy.limits, arms), situation),
        is_gone | is_new | situation.due,
        lost=is_gone | ~has_host,
        departures=read_departures(kept, situation.configuration),
        now_ms=now_ms,
    )
    return released, {t: int(after.current[i]) for t, i in tasks.items() if settled[i]}


def _unbarred(arms: NDArray[np.bool_], situation: Situation) -> NDArray[np.bool_]:
    """Return (n_tasks, n_arms), or as it was given, without those that are barred."""
    barred = situation.barred
    if barred is None or not barred.any():
        return arms
    group = situation.configuration.catalog.arms.group
    return np.atleast_2d(arms) & ~barred[:, group]


def read_departures(kept: Kept, configuration: Configuration) -> Departures:
    """Return what the law needs to know of earlier moves; names that are gone count for nobody."""
    catalog, tasks = configuration.catalog, configuration.task_index
    found = Departures.none(len(tasks), len(catalog.group_members))
    for task, index in tasks.items():
        found.moved_at_ms[index] = kept.moved_at_ms.get(task, found.moved_at_ms[index])
        for name, at_ms in kept.left_at_ms.get(task, {}).items():
            if name in catalog.by_id:
                found.left_at_ms[index, catalog.by_id[name].group] = at_ms
    return found


def departed(kept: Kept, moves: Iterable[ReleaseNotice], *, now_ms: int) -> Kept:
    """Return what is kept once an order moved; whom it left is remembered for a day."""
    moved = dict(kept.moved_at_ms)
    left = {
        task: young
        for task, names in kept.left_at_ms.items()
        if (young := {name: ms for name, ms in names.items() if now_ms < ms + BACK_MS})
    }
    for move in moves:
        left[move.task] = {**left.get(move.task, {}), move.before: now_ms}
        if move.reason != LOST:
            moved[move.task] = now_ms
    return replace(kept, moved_at_ms=moved, left_at_ms=left)
