"""Which tasks go back to the incumbent at once, whoever says yes to releases. Pure, no I/O.

A choice that is away for long, or that an alarm says fell, is left without evidence that another
is better: what the user had before is where it goes. What was removed goes there as well
(`choices.py`), and what the spent room no longer carries yields (`yielding.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from bandit.incumbent import Standings
from router.beliefs.cases import ReviewCase
from router.beliefs.kept import ReleaseNotice

AWAY = "lost"
ALARMED = "alarm"
SLACK_MS = 60_000
"""An alarm was known to a review that came so long after it; one that came sooner may have been
made by a process that had not heard of it."""


def fall_back(
    case: ReviewCase, *, lost: Collection[str], fallen_at_ms: Sequence[int]
) -> tuple[Standings, list[ReleaseNotice]]:
    """Return where the tasks stand then, and what is announced.

    Nobody goes to an incumbent that is away itself.

    Args:
        lost: ids of endpoints that are away for so long that they are lost.
        fallen_at_ms: (n_groups,) when the last alarm said that a group fell, in epoch ms; 0: it
            did not, or nothing is known of any.
    """
    kept, standings, inc = case.kept, case.standings, case.standings.incumbent
    names = case.names
    is_away = _away(case, lost)
    current, notices = standings.current.copy(), []
    for task, row in case.configuration.task_index.items():
        now = int(standings.current[row])
        if now == inc or not case.decides[row]:
            continue
        last = kept.last.get(task)
        seen_ms = max(kept.reviewed_at_ms - SLACK_MS, last.at_ms if last else 0)
        if is_away[now] and not is_away[inc]:
            reason = AWAY
        elif len(fallen_at_ms) and fallen_at_ms[now] > seen_ms:
            reason = ALARMED
        else:
            continue
        current[row] = inc
        notices.append(ReleaseNotice(task, names[now], names[inc], None, None, reason))
    return replace(standings, current=current) if notices else standings, notices


def _away(case: ReviewCase, lost: Collection[str]) -> list[bool]:
    """Return for each group whether all hosts that could serve are lost."""
    catalog = case.configuration.catalog
    there = case.arms().any(axis=0) & np.array([e.id not in lost for e in catalog.endpoints])
    has_host = np.bincount(catalog.arms.group, there, minlength=len(catalog.group_members)) > 0
    return [not one and bool(lost) for one in has_host.tolist()]
