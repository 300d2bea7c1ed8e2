"""Trials and hold-outs, as choices go by them: the law of units, and what an end leaves. Pure.

A trial of a task is of one release key: its incumbent and one challenger. One of an app is of all
its keys. What a finished trial leaves holds until another of the same key has ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from bandit.assignment import HALF, Assignment
from bandit.draws import Law
from router.beliefs.choices import Choices
from router.beliefs.kept import Kept, ReleaseNotice, ReviewKey, release_key
from router.beliefs.proposals import TRIAL, wait_for_yes
from router.beliefs.review_keys import first_hosts, is_current
from router.config.compiled import Configuration
from router.config.levels import parent_of
from telemetry.digests import digest8
from telemetry.trials import MAX_HOLDOUT, Trial, TrialState

WHOLE = ""
"""In place of a task: all of them."""
WON, PINNED = TRIAL, "pinned"
"""Reasons of releases."""


@dataclass(frozen=True, slots=True)
class KeyTrials:
    """What holds of one review key, by task; `WHOLE` stands for all of them."""

    running: Mapping[str, Trial] = field(default_factory=dict)
    won: Mapping[str, Trial] = field(default_factory=dict)  # the last that ended, of each
    pinned: Mapping[str, Trial] = field(default_factory=dict)  # ended without a gain

    @property
    def held(self) -> frozenset[str]:
        """The tasks of which no review moves the choice."""
        running = (task for task in self.running if task != WHOLE)
        return frozenset([*running, *self.pinned])


NO_TRIALS = KeyTrials()


def of_key(
    trials: Iterable[Trial], review_key: ReviewKey, configuration: Configuration
) -> KeyTrials:
    """Return the trials of a review key, as far as they still hold."""
    mine = [trial for trial in trials if is_of(trial, review_key)]
    if not mine:
        return NO_TRIALS
    may_pin = configuration.apps[review_key.app].entry.auto_pin
    over: dict[str, Trial] = {}
    for trial in sorted(mine, key=lambda t: t.ended_ms):
        tells = trial.state is TrialState.WON or (trial.auto_pin and may_pin)
        if trial.state is not TrialState.RUNNING and tells:
            over[trial.task] = trial
    return KeyTrials(
        {t.task: t for t in mine if t.state is TrialState.RUNNING},
        {task: t for task, t in over.items() if t.state is TrialState.WON},
        {task: t for task, t in over.items() if t.state is TrialState.ENDED},
    )


def is_of(trial: Trial, review_key: ReviewKey) -> bool:
    """Return whether a trial is of a review key, or of all of its app."""
    if trial.app != review_key.app:
        return False
    if trial.is_of_app:
        return True
    if (trial.strategy, trial.role) != (review_key.strategy, review_key.role):
        return False
    digest = release_key(digest8("app", trial.app), f"{trial.task}\x1f{review_key.text}")
    return trial.release_key == digest


def under_trials(
    choices: Mapping[ReviewKey, Choices],
    kept: Mapping[ReviewKey, Kept],
    trials: Mapping[str, Trial],
    configuration: Configuration,
) -> Mapping[ReviewKey, Choices]:
    """Return choices with the trials and hold-outs that hold for them."""
    if not trials:
        return choices  # most often
    out = {}
    for key, found in choices.items():
        mine = of_key(trials.values(), key, configuration)
        nothing = mine == NO_TRIALS
        out[key] = found if nothing else _under(found, kept.get(key), mine, configuration)
    return out


def _under(
    choices: Choices, kept: Kept | None, mine: KeyTrials, configuration: Configuration
) -> Choices:
    index, inc = configuration.task_index, choices.standings.incumbent
    laws, notes, shown = list(choices.laws), list(choices.notes), {}
    for task, row in index.items():
        pinned = mine.pinned.get(task) or mine.pinned.get(WHOLE)
        if pinned is not None:
            laws[row] = Law(inc, inc, (), stay=1.0)
            notes[row] = f"pinned after trial {pinned.id}"
            shown[task] = pinned
    assignments = {}
    for task, trial in mine.won.items():
        at = int(choices.standings.current[index[task]]) if task in index else None
        holds = trial.is_of_app or _is_at(trial, kept, at, configuration)
        if holds and trial.holdout > 0:
            assignments[task] = _assignment(trial, configuration)
    for task, trial in mine.running.items():
        if trial.is_of_app or trial.challenger in configuration.catalog.by_id:
            assignments[task] = _assignment(trial, configuration)
    shown |= {task: (mine.running.get(task) or mine.won[task]) for task in assignments}
    return replace(
        choices, laws=tuple(laws), notes=tuple(notes), assignments=assignments, trials=shown
    )


def _assignment(trial: Trial, configuration: Configuration) -> Assignment:
    """Return how a trial that runs, or the hold-out after it, brings units to a side."""
    whole = trial.is_of_app
    if trial.state is not TrialState.RUNNING:
        share = min(trial.holdout, MAX_HOLDOUT)
        return Assignment(trial.id, share, is_trial=False, by_episode=whole)
    group = None if whole else configuration.catalog.by_id[trial.challenger].group
    return Assignment(trial.id, HALF, is_trial=True, challenger=group, by_episode=whole)


def _is_at(trial: Trial, kept: Kept | None, at: int | None, configuration: Configuration) -> bool:
    """Return whether a task still stands at the challenger to which its won trial brought it."""
    challenger = configuration.catalog.by_id.get(trial.challenger)
    return _is_applied(trial, kept) and challenger is not None and challenger.group == at


def _is_applied(trial: Trial, kept: Kept | None) -> bool:
    """Return whether a won trial brought its task to the challenger, be it there still or not.

    The trial itself says so, too: a router of a version without trials forgets what is kept of it.
    """
    return trial.applied_ms > 0 or (kept is not None and kept.won.get(trial.task) == trial.id)


def settle(
    kept: Kept, mine: KeyTrials, configuration: Configuration, *, now_ms: int
) -> tuple[Kept, list[ReleaseNotice]] | None:
    """Return what a review key's choices are to be after trials that ended; None: as they are.

    A won trial brings its task to the challenger, once. One that ended without a gain brings it
    to the incumbent. Where the app does not let releases happen by themselves, the former waits.
    """
    won = {**kept.won, **{t.task: t.id for t in _unsettled(kept, mine, configuration)}}
    changes = _moves(kept, mine, configuration, now_ms)
    if not changes and won == kept.won:
        return None
    catalog = configuration.catalog
    moved = {}
    for change in changes:
        arms = catalog.group_members[catalog.by_id[change.after].group]
        moved[change.after] = tuple(catalog.endpoints[arm].id for arm in arms)
    after = replace(
        kept,
        version=kept.version + 1,
        current={**kept.current, **{c.task: c.after for c in changes}},
        hosts={**kept.hosts, **moved},
        won=won,
        last={**kept.last, **{c.task: c for c in changes}},
    )
    mode = configuration.apps[kept.review_key.app].releases
    return wait_for_yes(kept, after, changes, mode, now_ms=now_ms)


def _unsettled(kept: Kept, mine: KeyTrials, configuration: Configuration) -> list[Trial]:
    """Return the won trials of tasks that have not brought theirs to the challenger yet."""
    known, index = configuration.catalog.by_id, configuration.task_index
    return [
        trial
        for task, trial in mine.won.items()
        if task in index and trial.challenger in known and not _is_applied(trial, kept)
    ]


def _moves(
    kept: Kept, mine: KeyTrials, configuration: Configuration, now_ms: int
) -> list[ReleaseNotice]:
    """Return where tasks go: to a trial's challenger, or back to the incumbent."""
    hosts = first_hosts(kept.review_key, configuration)
    by_id, index = configuration.catalog.by_id, configuration.task_index
    incumbent = hosts[by_id[kept.review_key.incumbent].group]
    goals = dict.fromkeys(index if WHOLE in mine.pinned else (), (incumbent, PINNED))
    goals |= {task: (incumbent, PINNED) for task in mine.pinned if task in index}
    for trial in _unsettled(kept, mine, configuration):
        goals[trial.task] = hosts[by_id[trial.challenger].group], WON
    out = []
    for task, (after, reason) in goals.items():
        before = kept.current.get(task, incumbent)
        if before != after:
            out.append(ReleaseNotice(task, before, after, None, None, reason, at_ms=now_ms))
    return out


def ends_of(
    trials: Iterable[Trial],
    kept: Mapping[ReviewKey, Kept],
    configuration: Configuration,
    *,
    now_ms: int,
    fallen_at_ms: NDArray[np.int64],
    lost: frozenset[str],
) -> list[Trial]:
    """Return the trials that end because of what this router sees, hold-outs, and what was applied.

    A trial ends when a side cannot be had any more, or an alarm says that the challenger fell; one
    that rises, or an incumbent that falls, is what the trial is there to show. A hold-out ends with
    the choice that it was kept for. Of apps that this configuration does not
    have, another router speaks.

    Args:
        fallen_at_ms: (n_groups,) when the last alarm said that a group fell; 0: never.
        lost: ids of endpoints that have been away for long.
    """
    out, known = [], list(trials)
    for trial in known:
        if trial.app not in configuration.apps or trial.is_of_app:
            continue
        if trial.state is TrialState.RUNNING:
            why = _why_over(trial, configuration, fallen_at_ms, lost)
            if why:
                out.append(ended(trial, why, now_ms=now_ms))
        elif trial.state is TrialState.WON:
            after = _after_gain(trial, known, kept, configuration, now_ms=now_ms)
            if after != trial:
                out.append(after)
    return out


def _after_gain(
    trial: Trial,
    others: Iterable[Trial],
    kept: Mapping[ReviewKey, Kept],
    configuration: Configuration,
    *,
    now_ms: int,
) -> Trial:
    """Return a won trial as it is by what is kept: that it took effect, that its hold-out ended."""
    own = [found for key in keys_of(trial) if (found := kept.get(key)) is not None]
    if not trial.applied_ms and any(_is_applied(trial, found) for found in own):
        trial = structs.replace(trial, applied_ms=now_ms)
    if trial.holdout > 0 and _is_left(trial, others, own, configuration):
        trial = structs.replace(trial, holdout=0.0)
    return trial


def ended(trial: Trial, reason: str, *, now_ms: int) -> Trial:
    """Return a trial that ends before it has shown anything: nobody is pinned for that."""
    return structs.replace(
        trial, state=TrialState.ENDED, ended_ms=now_ms, reason=reason, auto_pin=False
    )


def undo_of(trial: Trial) -> str:
    """Return the command that ends a trial, its hold-out or its pin; empty where nothing is on."""
    match trial.state:
        case TrialState.RUNNING:
            return f"pointsman trial stop {trial.id}"
        case TrialState.WON:
            return f"pointsman trial stop {trial.id}" if trial.holdout > 0 else ""
        case TrialState.ENDED:
            return f"pointsman trial resume {trial.id}" if trial.auto_pin else ""


def _why_over(
    trial: Trial,
    configuration: Configuration,
    fallen_at_ms: NDArray[np.int64],
    lost: frozenset[str],
) -> str:
    if not any(is_current(key, configuration) for key in keys_of(trial)):
        return "the configuration has no such calls any more"
    if trial.task not in configuration.task_index:
        return f"task {trial.task} was removed"
    for name in (trial.incumbent, trial.challenger):
        endpoint = configuration.catalog.by_id.get(name)
        if endpoint is None:
            return f"{name} was removed"
        arms = configuration.catalog.group_members[endpoint.group]
        if all(configuration.catalog.endpoints[arm].id in lost for arm in arms):
            return f"{name} is lost"
        has_fallen = len(fallen_at_ms) and int(fallen_at_ms[endpoint.group]) > trial.began_ms
        if has_fallen and name == trial.challenger:
            return f"an alarm says that {name} fell"
    return ""


def keys_of(trial: Trial) -> list[ReviewKey]:
    """Return the review keys of which a task's trial may be; none of a whole app's."""
    if trial.is_of_app:
        return []
    at = (trial.app, trial.strategy, trial.model, trial.incumbent, trial.role)
    apart = dict.fromkeys(("", trial.task, parent_of(trial.task) or ""))
    keys = [ReviewKey(*at, one) for one in apart]
    return [key for key in keys if is_of(trial, key)]


def _is_left(
    trial: Trial,
    others: Iterable[Trial],
    own: Iterable[Kept],
    configuration: Configuration,
) -> bool:
    """Return whether the choice that a won trial brought has changed, or another won since."""
    if any(
        one.release_key == trial.release_key
        and one.state is TrialState.WON
        and one.ended_ms > trial.ended_ms
        for one in others
    ):
        return True
    by_id = configuration.catalog.by_id
    challenger = by_id.get(trial.challenger)
    for found in own:
        if _is_applied(trial, found):
            now = by_id.get(found.current.get(trial.task, ""))
            return challenger is None or now is None or now.group != challenger.group
    return False
