"""What the release keys of an app and strategy stand at, and the law that follows. Pure, no I/O.

Choices change by a review only; challengers, room and what is explored follow from the rows and
the posterior, so that processes that know the same agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit import incumbent, orders
from bandit.assignment import Assignment
from bandit.cells import Terms
from bandit.draws import Law
from bandit.incumbent import Books, Standings
from bandit.limits import within_by_category
from bandit.posterior import Posterior
from bandit.utility import Objective, Order, may_judge
from router.beliefs.books import calls_a_day, read_books
from router.beliefs.kept import Kept, Proposal, ReleaseNotice, ReviewKey, release_id
from router.beliefs.levels import ReleaseKeys, begun, places_of
from router.beliefs.review_keys import first_hosts, host_of, standing_behind, why_tasks_are_held
from router.beliefs.waiting import with_notes
from router.config.compiled import Configuration
from router.endpoints.catalog import Catalog
from router.policy.route import rivals_of
from telemetry.trials import Trial

NO_SIGNAL = "no quality signal"
SPENT = "allowance spent"
NOBODY = "nobody promises a gain"
ELSEWHERE = "another task pays more"
UNCHECKED = f"floor not checked: {NO_SIGNAL}"
REMOVED = "removed"


@dataclass(frozen=True, slots=True, eq=False)
class Choices:
    """What one review key stands at; everything by task, in the configuration's order."""

    review_key: ReviewKey
    version: int
    standings: Standings
    books: Books
    objective: Objective  # with the value of a success in each task, where it has one
    room: float | None  # in successes; None where an order decides
    laws: tuple[Law, ...]
    notes: tuple[str, ...]  # why a task is not explored, or what was not checked
    last: Mapping[str, ReleaseNotice]  # the last release of each task
    waiting: Mapping[str, Proposal]  # what is held back of each task
    assignments: Mapping[str, Assignment] = field(default_factory=dict)  # by task; "": of all
    trials: Mapping[str, Trial] = field(default_factory=dict)  # that these or a pin follow from

    def assignment_of(self, task: str) -> Assignment | None:
        """Return by what units of a task come to a side; None: by nothing."""
        if not self.assignments:
            return None  # most often
        own, whole = self.assignments.get(task), self.assignments.get("")
        return whole if own is None or (whole is not None and whole.is_trial) else own


def weigh(
    review_key: ReviewKey,
    kept: Kept | None,
    posterior: Posterior,
    rows: Terms,
    configuration: Configuration,
    *,
    now_ms: int,
    places: Mapping[str, int] | None = None,
) -> Choices:
    """Return what a review key stands at: who may be drawn, and what exploring may cost.

    Args:
        places: by which row each task is decided; None: leaves by what they are below.
    """
    objective = objective_of(review_key, posterior, configuration)
    kept = kept or Kept(review_key, begun_at_ms=now_ms)
    places = places or places_of(review_key, configuration)
    kept_now, decides = begun(kept, configuration, places)
    standings, _ = standings_of(kept_now, configuration, decides)
    room: float | None
    inc = standings.incumbent
    booked = configuration.derive(ReleaseKeys).of(review_key), list(places.values())
    books = read_books(*booked, rows, posterior, configuration.catalog, inc)
    arms = limited(review_key, posterior, configuration)
    groups = groups_of(arms, configuration.catalog)
    order = np.random.default_rng(review_key.digest).permutation(groups.shape[1]).astype(float)
    n_tasks = len(configuration.task_index)
    held = why_tasks_are_held(review_key, configuration)
    if objective.order is not Order.UTILITY:
        standings = orders.choose_challengers(standings, posterior, objective, arms, order)
        laws = tuple(orders.law(standings, task) for task in range(n_tasks))
        labelled = [bool(known.any()) for known in posterior.judged]
        notes = tuple("" if known else UNCHECKED for known in labelled)
        room = None
    else:
        standings = incumbent.choose_challengers(standings, posterior, objective, groups, order)
        room = incumbent.room(books, posterior, objective, inc)
        a_day = calls_a_day(books, age_ms=now_ms - (kept.begun_at_ms or now_ms)) * decides
        a_day *= [not why for why in held]
        explored = incumbent.explored_tasks(standings, posterior, objective, a_day, room=room)
        laws, notes = _guarded(standings, posterior, objective, explored, room)
    standings, laws, notes = _holding(held, standings, laws, notes)
    notes = with_notes(notes, kept, configuration.task_index)
    known = (review_key, kept.version, standings, books, objective)
    return Choices(*known, room, laws, notes, kept.last, kept.waiting)


def _holding(
    held: Sequence[str], standings: Standings, laws: Sequence[Law], notes: Sequence[str]
) -> tuple[Standings, tuple[Law, ...], tuple[str, ...]]:
    """Return the same where calls of held tasks stay with what is chosen: nobody is tried."""
    challengers, out, said = list(standings.challengers), list(laws), list(notes)
    for task, why in enumerate(held):
        if why:
            challengers[task] = ()
            out[task] = replace(laws[task], challengers=(), floor=0.0, stay=1.0)
            said[task] = f"{why}; {notes[task]}" if notes[task] == UNCHECKED else why
    return replace(standings, challengers=tuple(challengers)), tuple(out), tuple(said)


def weigh_all(
    review_keys: Iterable[ReviewKey],
    kept: Mapping[ReviewKey, Kept],
    posteriors: Sequence[Posterior],
    rows: Terms,
    configuration: Configuration,
    *,
    now_ms: int,
    places: Sequence[Mapping[str, int]] | None = None,
) -> dict[ReviewKey, Choices]:
    """Return what each review key stands at, given the posterior of each outlook.

    Args:
        places: by outlook, the row by which each task is decided; None: leaves by what they are
            below.
    """
    out = {}
    for key in review_keys:
        outlook = configuration.apps[key.app].outlook
        out[key] = weigh(
            key,
            kept.get(key),
            posteriors[outlook],
            rows,
            configuration,
            now_ms=now_ms,
            places=places[outlook] if places is not None else None,
        )
    return out


def rows_of(choices: Choices, configuration: Configuration) -> list[dict[str, Any]]:
    """Return a row for each task that was called, or that stands at another than the incumbent."""
    standings, books, review_key = choices.standings, choices.books, choices.review_key
    hosts = first_hosts(review_key, configuration)
    out = []
    for task, index in configuration.task_index.items():
        current = int(standings.current[index])
        calls = int(books.routed[index])
        trial = choices.trials.get("") or choices.trials.get(task)
        is_told = trial is not None or task in choices.waiting
        if not calls and current == standings.incumbent and not is_told:
            continue
        assignment = choices.assignment_of(task)
        others = books.labelled[index] + books.unlabelled[index]
        out.append(
            {
                "app": review_key.app,
                "strategy": review_key.strategy,
                "role": review_key.role or None,
                "model": review_key.model or None,
                "task": task,
                "incumbent": review_key.incumbent,
                "current": hosts[current],
                "challengers": [hosts[g] for g in standings.challengers[index]],
                "version": choices.version,
                "room": None if choices.room is None else round(choices.room, 3),
                "calls": calls,
                "explored_calls": int(others.sum()),
                "exploring": choices.laws[index].stay < 1,
                "note": choices.notes[index],
                "trial": assignment.trial if assignment else trial and trial.id,
                "holdout": 0.0 if assignment is None else assignment.control,
                "value_usd": choices.objective.at(index).value_usd,
                "last_release": _last(choices, task),
                "held_back": asdict(held) if (held := choices.waiting.get(task)) else None,
            }
        )
    return out


def _last(choices: Choices, task: str) -> dict[str, Any] | None:
    """Return a task's last release, with the id that it is undone by."""
    last = choices.last.get(task)
    return None if last is None else {"id": release_id(choices.review_key, last), **asdict(last)}


def objective_of(
    review_key: ReviewKey, posterior: Posterior, configuration: Configuration
) -> Objective:
    """Return what the key's strategy maximises, compared with the key's incumbent."""
    strategy = configuration.strategies[review_key.strategy]
    incumbent = configuration.catalog.by_id[review_key.incumbent]
    return strategy.objective_at(posterior, incumbent.index)


def available(review_key: ReviewKey, configuration: Configuration) -> NDArray[np.bool_]:
    """Return (n_arms,) the rivals: nobody else is tried or released."""
    standing, catalog = standing_behind(review_key, configuration), configuration.catalog
    hosts = np.zeros(len(catalog.endpoints), dtype=bool)
    hosts[[e.index for e in rivals_of(standing, catalog.by_id[review_key.incumbent])]] = True
    return hosts


def limited(
    review_key: ReviewKey, posterior: Posterior, configuration: Configuration
) -> NDArray[np.bool_]:
    """Return the rivals within the strategy's limits: (n_tasks, n_arms), or (n_arms,)."""
    limits = configuration.strategies[review_key.strategy].limits
    return within_by_category(posterior, limits, available(review_key, configuration))


def groups_of(arms: NDArray[np.bool_], catalog: Catalog) -> NDArray[np.bool_]:
    """Return (n_tasks, n_groups), or (1, n_groups): groups of which some host is among these."""
    return catalog.arms.by_group(np.atleast_2d(arms).astype(float)) > 0


def members_of(catalog: Catalog) -> dict[str, tuple[str, ...]]:
    """Return the ids of each group's hosts, by any one's."""
    groups = [tuple(catalog.endpoints[arm].id for arm in arms) for arms in catalog.group_members]
    return {id_: ids for ids in groups for id_ in ids}


def standings_of(
    kept: Kept, configuration: Configuration, decides: NDArray[np.bool_]
) -> tuple[Standings, list[ReleaseNotice]]:
    """Return what the tasks stand at; a choice that was removed falls back to the incumbent.

    So does one that is no rival any more. By a row that does not decide nobody is removed.
    """
    catalog = configuration.catalog
    standing = standing_behind(kept.review_key, configuration)
    inc = catalog.by_id[kept.review_key.incumbent]
    rivals = {e.id for e in rivals_of(standing, inc)}
    standings = incumbent.begin(inc.group, len(configuration.task_index))
    current = standings.current.copy()
    removed = []
    for task, index in configuration.task_index.items():
        name = kept.current.get(task)
        if name is None or not decides[index]:
            continue
        hosts = [h for h in (name, *kept.hosts.get(name, ())) if h in rivals]
        if hosts:
            current[index] = catalog.by_id[hosts[0]].group
        else:
            after = host_of(standing, catalog, inc.group)
            removed.append(ReleaseNotice(task, name, after, None, None, REMOVED))
    return replace(standings, current=current, version=kept.version), removed


def _guarded(
    standings: Standings,
    posterior: Posterior,
    objective: Objective,
    explored: NDArray[np.bool_],
    room: float,
) -> tuple[tuple[Law, ...], tuple[str, ...]]:
    """Return each task's law, and why it is not explored."""
    enough = may_judge(posterior)
    laws, notes = [], []
    for task, cur in enumerate(standings.current):
        pays_most = bool(explored[task])
        law = incumbent.law(standings, posterior, objective, task, room=room, explored=pays_most)
        laws.append(law)
        if not enough[task, cur]:
            notes.append(NO_SIGNAL)
        elif room <= 0:
            notes.append(SPENT if law.current == cur else f"{SPENT}: the incumbent serves")
        elif not standings.challengers[task]:
            notes.append(NOBODY)
        else:
            notes.append("" if pays_most else ELSEWHERE)
    return tuple(laws), tuple(notes)
