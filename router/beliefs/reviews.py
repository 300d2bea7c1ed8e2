"""What a review changes: releases, what goes back to the incumbent, and what waits for a yes.

Pure, no I/O: the same rows and standings give the same changes in every process.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from bandit import incumbent
from bandit.incumbent import Release
from bandit.posterior import Posterior
from router.beliefs.alarms import stands_at_alarmed
from router.beliefs.books import DAY_MS
from router.beliefs.cases import ReviewCase
from router.beliefs.choices import available, groups_of, members_of, standings_of
from router.beliefs.fallbacks import fall_back
from router.beliefs.kept import Kept, ReleaseNotice, ReviewKey, Undone
from router.beliefs.levels import begun, places_of
from router.beliefs.moves import Situation, by_order, departed
from router.beliefs.proposals import hold_back, renew
from router.beliefs.review_keys import first_hosts
from router.beliefs.undone import barred
from router.config.compiled import Configuration
from router.config.releasing import Releasing
from router.endpoints.catalog import Catalog


def review(
    review_key: ReviewKey,
    kept: Kept | None,
    posterior: Posterior,
    configuration: Configuration,
    *,
    now_ms: int,
    alarmed_at_ms: Sequence[int] = (),
    fallen_at_ms: Sequence[int] = (),
    lost: Collection[str] = (),
    held: Collection[str] = (),
    places: Mapping[str, int] | None = None,
) -> tuple[Kept, list[ReleaseNotice]] | None:
    """Return what the choices of a review key are to be; None: nothing is to be written.

    All tasks together once in `release_every_s`; at once what was removed, and where a belief
    decides, or the app does not let releases happen by themselves, whose choice is lost or fell:
    to the incumbent. Under an order strategy at once also what was never settled, is lost, or fell
    below its floor. Under any other, at once also what is certain, at most once a day and task,
    and all once an alarm names a group that a task stands at, as soon as its labels since suffice
    for a verdict.

    Args:
        alarmed_at_ms: (n_groups,) when the last alarm named a group, in epoch ms; 0: never.
        fallen_at_ms: (n_groups,) the same, if it said that the group fell.
        lost: ids of endpoints that are away for so long that they are lost.
        held: tasks that nothing moves but the way back to the incumbent: a trial says who serves.
        places: by which row each task is decided; None: leaves by what they are below.
    """
    before = kept or Kept(review_key, reviewed_at_ms=now_ms, begun_at_ms=now_ms)
    before, decides = begun(before, configuration, places or places_of(review_key, configuration))
    standings, changes = standings_of(before, configuration, decides)
    case = ReviewCase(before, configuration, posterior, decides, standings)
    removed = {c.task for c in changes}
    fled: list[ReleaseNotice] = []
    if not case.is_order or case.mode is not Releasing.AUTO:
        standings, fled = fall_back(case, lost=lost, fallen_at_ms=fallen_at_ms)
    if held:
        decides = decides & [task not in held for task in configuration.task_index]
    due = is_due(replace(case, decides=decides), alarmed_at_ms, now_ms=now_ms)
    case = replace(case, decides=decides, standings=standings)
    changes += fled
    fallen = {c.task for c in changes} - removed
    if case.is_order:
        found, settled = _by_order(case, removed, lost, due=due, now_ms=now_ms)
    else:
        found, settled = _by_belief(case, lost, due=due, now_ms=now_ms), {}
    moves, waits = hold_back(case.mode, [m for m in found if m.task not in fallen])
    current = {**before.current, **settled, **{c.task: c.after for c in [*changes, *moves]}}
    waiting, notes = renew(case, current, waits, now_ms=now_ms, due=due)
    is_same = current == before.current and waiting == before.waiting
    if kept is not None and not due and is_same:
        return None
    changes += moves
    after = next_version(before, current, changes, configuration.catalog, now_ms=now_ms)
    after = replace(after, waiting=waiting, notes=notes)
    if case.is_order:
        # Whose choice was removed only passes by the incumbent.
        left = [c for c in moves if c.task not in removed]
        after = departed(after, left, now_ms=now_ms)
    return (replace(after, reviewed_at_ms=now_ms) if due else after), changes


def is_due(case: ReviewCase, alarmed_at_ms: Sequence[int], *, now_ms: int) -> bool:
    """Return whether all tasks are reviewed now: by time, or as an alarm named a choice."""
    kept = case.kept
    strategy = case.configuration.strategies[kept.review_key.strategy]
    if now_ms >= kept.reviewed_at_ms + strategy.release_every_s * 1000:
        return True
    if case.is_order or not len(alarmed_at_ms):
        return False
    named = np.array(alarmed_at_ms) > kept.reviewed_at_ms
    return stands_at_alarmed(case.standings, case.posterior, named, case.decides)


def next_version(
    before: Kept,
    current: Mapping[str, str],
    changes: Iterable[ReleaseNotice],
    catalog: Catalog,
    *,
    now_ms: int,
) -> Kept:
    """Return the next version of what is kept, with the times of what was certain."""
    known = {**before.hosts, **members_of(catalog)}
    hosts = {name: known[name] for name in current.values() if name in known}
    changes = list(changes)
    certain = dict.fromkeys((c.task for c in changes if c.reason == incumbent.SURELY), now_ms)
    return replace(
        before,
        version=before.version + 1,
        current=current,
        hosts=hosts,
        certain_at_ms={**before.certain_at_ms, **certain},
        last={**before.last, **{c.task: replace(c, at_ms=now_ms) for c in changes}},
        undone=_forgiven(before.undone, changes, known),
    )


def _forgiven(
    undone: Mapping[str, Mapping[str, Undone]],
    changes: Iterable[ReleaseNotice],
    members: Mapping[str, tuple[str, ...]],
) -> dict[str, Mapping[str, Undone]]:
    """Return what was undone, without whom a task went to since."""
    out = dict(undone)
    for change in changes:
        of_group = members.get(change.after, (change.after,))
        left = {n: one for n, one in out.get(change.task, {}).items() if n not in of_group}
        if left:
            out[change.task] = left
        else:
            out.pop(change.task, None)
    return out


def _by_order(
    case: ReviewCase, removed: Collection[str], lost: Collection[str], *, due: bool, now_ms: int
) -> tuple[list[ReleaseNotice], dict[str, str]]:
    """Return what an order moves, and where the tasks that it settled stand without that."""
    kept, configuration = case.kept, case.configuration
    arms = available(kept.review_key, configuration)
    out = barred(case)
    situation = Situation(kept, configuration, arms, due=due, gone=removed, lost=lost, barred=out)
    released, settled = by_order(situation, case.standings, case.posterior, now_ms=now_ms)
    names, index = case.names, configuration.task_index
    stands = {task: names[case.standings.current[index[task]]] for task in settled}
    return _changes(released, case), {t: n for t, n in stands.items() if case.decides[index[t]]}


def _by_belief(
    case: ReviewCase, lost: Collection[str], *, due: bool, now_ms: int
) -> list[ReleaseNotice]:
    """Return what a review moves; what is certain, where tasks are asked between two."""
    catalog = case.configuration.catalog
    there = case.arms() & np.array([e.id not in lost for e in catalog.endpoints])
    groups = groups_of(there, catalog) & ~barred(case)
    asked_of = (case.standings, case.posterior, case.objective, groups)
    if due:
        return _changes(incumbent.review(*asked_of)[1], case)
    asked = _asked(case.kept, case.configuration.task_index, now_ms)
    return _changes(incumbent.certain(*asked_of, asked)[1], case)


def _asked(kept: Kept, tasks: Iterable[str], now_ms: int) -> NDArray[np.bool_]:
    """Return (n_tasks,) which tasks had no release between reviews within a day."""
    return np.array([now_ms >= kept.certain_at_ms.get(task, 0) + DAY_MS for task in tasks])


def _changes(released: Iterable[Release], case: ReviewCase) -> list[ReleaseNotice]:
    """Return releases by names, of rows by which anything is decided."""
    hosts = first_hosts(case.kept.review_key, case.configuration)
    tasks = list(case.configuration.task_index)
    return [
        ReleaseNotice(
            tasks[one.task],
            hosts[one.before],
            hosts[one.after],
            one.p_better if isfinite(one.p_better) else None,
            one.gain if isfinite(one.gain) else None,
            one.reason,
        )
        for one in released
        if case.decides[one.task]
    ]
