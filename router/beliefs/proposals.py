"""What a review finds and an app does not let happen by itself: held back, and proposed to it.

A proposal lies beside the choices that it would change, and changes with them in one step. It
lapses when its evidence no longer holds, which is said once. Pure, no I/O.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import TypeVar

import numpy as np

from bandit.ordering import Ordering
from bandit.orders import LOST
from bandit.proposed import HOLDS, odds_of_belief, odds_of_order
from bandit.utility import mean_utility
from router.beliefs.books import DAY_MS
from router.beliefs.cases import ReviewCase
from router.beliefs.kept import (
    Kept,
    Note,
    NoteKind,
    Proposal,
    ReleaseNotice,
    ReviewKey,
    proposal_id,
)
from router.config.releasing import Releasing

T = TypeVar("T")
TRIAL = "trial"
"""The reason of what a won trial releases: its verdict is its evidence, whatever is believed."""


def hold_back(
    mode: Releasing, moves: Sequence[ReleaseNotice]
) -> tuple[list[ReleaseNotice], list[ReleaseNotice]]:
    """Return which improvements take effect, and which wait.

    Where an order would go on from somebody who is lost, nothing waits: the incumbent has it.
    """
    if mode is Releasing.AUTO:
        return list(moves), []
    return [], [move for move in moves if move.reason != LOST]


def renew(
    case: ReviewCase,
    current: Mapping[str, str],
    held: Iterable[ReleaseNotice],
    *,
    now_ms: int,
    due: bool,
) -> tuple[dict[str, Proposal], tuple[Note, ...]]:
    """Return what waits from now on, and what is to be announced of it.

    What waits and still holds stays; its figures are of the last review, or of a day ago at most.

    Args:
        current: where the tasks stand from now on.
        held: what this review holds back.
    """
    waiting: dict[str, Proposal] = {}
    notes = []
    for task, old in case.kept.waiting.items():
        why = why_lapsed(case, old, current.get(task))
        if why is None:
            is_old = due or now_ms >= old.seen_at_ms + DAY_MS
            waiting[task] = seen_again(case, old, now_ms) if is_old else old
        elif old.id:
            notes.append(Note(NoteKind.LAPSED, task, old.before, old.after, why, old.id))
    for move in held:
        if move.task in waiting:
            continue
        made = waiting[move.task] = _proposal(case.kept.review_key, case.mode, move, now_ms)
        if made.id:
            what = (move.task, move.before, move.after, move.reason, made.id)
            notes.append(Note(NoteKind.PROPOSED, *what))
    return waiting, tuple(notes)


def wait_for_yes(
    before: Kept, after: Kept, changes: Sequence[ReleaseNotice], mode: Releasing, *, now_ms: int
) -> tuple[Kept, list[ReleaseNotice]] | None:
    """Return what a trial's end changes, where what it won waits for a yes; None: nothing.

    The trial counts as applied once its challenger has the task.

    Args:
        after: the next version, as it were with all changes.
    """
    won = {} if mode is Releasing.AUTO else {c.task: c for c in changes if c.reason == TRIAL}
    if not won:
        return after, list(changes)
    rest = [c for c in changes if c.task not in won]
    waiting, notes = dict(before.waiting), []
    for task, move in won.items():
        old = waiting.get(task)
        if old is not None and (old.reason, old.after) == (TRIAL, move.after):
            continue
        if old is not None and old.id:
            lapsed = (old.before, old.after, "a trial of it was won", old.id)
            notes.append(Note(NoteKind.LAPSED, task, *lapsed))
        made = waiting[task] = _proposal(before.review_key, mode, move, now_ms)
        if made.id:
            what = (move.before, move.after, move.reason, made.id)
            notes.append(Note(NoteKind.PROPOSED, task, *what))
    kept = replace(
        after,
        current=_but(after.current, before.current, won),
        last=_but(after.last, before.last, won),
        won=_but(after.won, before.won, won),
        waiting=waiting,
        notes=tuple(notes),
    )
    is_same = waiting == before.waiting and kept.won == before.won
    return None if is_same and not rest else (kept, rest)


def _but(after: Mapping[str, T], before: Mapping[str, T], tasks: Container[str]) -> dict[str, T]:
    """Return the values of `after`, of some tasks those of `before`."""
    others = {task: value for task, value in after.items() if task not in tasks}
    return {**others, **{task: value for task, value in before.items() if task in tasks}}


def why_lapsed(case: ReviewCase, proposal: Proposal, current: str | None) -> str | None:
    """Return why a proposal no longer holds; None where it does.

    Args:
        current: where its task stands; None: at the incumbent.
    """
    task, index = proposal.task, case.configuration.task_index
    if task not in index or not case.decides[index[task]]:
        return None  # another configuration's, or for now decided by what it is below
    is_open = case.mode is Releasing.ASK if proposal.id else case.mode is Releasing.FROZEN
    if not is_open:
        return f"the app says releases: {case.mode.value} now"
    row = index[task]
    before, after = case.group_of(proposal.before), case.group_of(proposal.after)
    stands_at = case.standings.incumbent if current is None else case.group_of(current)
    if before is None or before != stands_at:
        shown = current if current is not None else case.names[case.standings.incumbent]
        return f"{task} stands at {shown} now"
    if proposal.reason == TRIAL and after is not None:
        return None
    if after is None or not case.groups()[row, after]:
        return f"{proposal.after} may not serve {task} now"
    odds = _odds(case, row, before, after, proposal.reason)
    if odds >= HOLDS:
        return None
    return f"P({proposal.after} better than {proposal.before}) is {odds:.2f} now, below {HOLDS:g}"


def _odds(case: ReviewCase, row: int, before: int, after: int, reason: str) -> float:
    if not case.is_order:
        return odds_of_belief(case.posterior, case.objective, row, before, after)
    return odds_of_order(_ordering(case, row), before, after, reason=reason)


def seen_again(case: ReviewCase, old: Proposal, now_ms: int) -> Proposal:
    """Return a proposal with the figures of now; a trial's stay as they were."""
    row = case.configuration.task_index.get(old.task)
    before, after = case.group_of(old.before), case.group_of(old.after)
    has_figures = old.p_better is not None and old.reason != TRIAL
    if row is None or before is None or after is None or not has_figures:
        return replace(old, seen_at_ms=now_ms)
    odds = _odds(case, row, before, after, old.reason)
    return replace(old, p_better=odds, gain=_gain(case, row, before, after), seen_at_ms=now_ms)


def _gain(case: ReviewCase, row: int, before: int, after: int) -> float | None:
    """Return what is expected of it: utility more, or less of what an order sorts by."""
    if case.is_order:
        measure = _ordering(case, row).measure()
        gain = float(measure[before] - measure[after])
    else:
        utility = mean_utility(case.posterior, case.objective)[row]
        gain = float(utility[after] - utility[before])
    return gain if isfinite(gain) else None


def _ordering(case: ReviewCase, row: int) -> Ordering:
    return Ordering(case.posterior, case.objective, row, np.array(case.arms()[row]))


def _proposal(review_key: ReviewKey, mode: Releasing, move: ReleaseNotice, now_ms: int) -> Proposal:
    is_frozen = mode is Releasing.FROZEN
    id_ = "" if is_frozen else proposal_id(review_key, move.task, move.after, now_ms)
    figures = (move.p_better, move.gain, move.reason)
    return Proposal(move.task, move.before, move.after, *figures, now_ms, now_ms, id_, move.labels)
