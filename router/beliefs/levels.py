"""Leaves of tasks: which have evidence enough to decide for themselves, and by whom the others do.

A leaf stands by itself where it was given `TASK_LABELS` labels of its own, of two groups at least.
They are counted plainly, over all that is kept: neither an alarm nor decay takes any away, but that
of a window that nobody reads any more. So a leaf that stands does so for months, and every process
that has the same rows says the same.

Until then its calls are its category's: posterior, law, choice and allowance. Its rows in the store
are its own from the first call on, so that nothing has to be moved once it stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bandit import cells, epochs
from bandit.cells import Terms
from bandit.families import Family, Q, U
from bandit.teaching import read_profiled
from bandit.utility import TASK_LABELS, Order
from router.beliefs.kept import Kept, ReviewKey
from router.beliefs.review_keys import standing_behind
from router.config.compiled import Configuration, category_digest
from router.config.entries import Learn
from router.policy.route import first_permitted

LEAST_GROUPS = 2
"""Labels of one alone compare nobody."""

Standing = tuple[frozenset[str], ...]
"""By outlook, the leaves that decide for themselves."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """What is known of a leaf's own calls."""

    name: str
    above: str  # the task that it is below
    calls: int  # of traffic
    labels: tuple[int, ...]  # by outlook, as they were given
    profiled: tuple[int, ...]  # by outlook, of these a profile's
    stands: tuple[bool, ...]  # by outlook, whether it decides for itself


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """A configuration in which the leaves that stand are among the tasks that decide."""

    configuration: Configuration
    places: tuple[Mapping[str, int], ...]  # by outlook, the row by which each task is decided


class LeafDigests:
    """Under what calls of leaves are booked, by whom they teach."""

    def __init__(self, configuration: Configuration) -> None:
        self.names = list(configuration.leaves)
        self.above = list(configuration.leaves.values())
        self._kinds = kinds_of(configuration)
        self.own = self._booked(self.names)  # (n_kinds, n_leaves)
        self.of_above = self._booked(self.above)
        apps = list(configuration.apps)
        self.kind_of_outlook = [0, *(2 + apps.index(app) for app in configuration.own_apps)]

    def _booked(self, names: Sequence[str]) -> NDArray[np.uint64]:
        found = [[category_digest(name, *kind) for name in names] for kind in self._kinds]
        return np.array(found, dtype=np.uint64).reshape(len(self._kinds), len(names))

    def gathered(self, apart: frozenset[str]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Return digests (n,) of leaves that have no row, and (n,) those of what they are below.

        Args:
            apart: leaves that have one.
        """
        has_none = [name not in apart for name in self.names]
        return self.own[:, has_none].ravel(), self.of_above[:, has_none].ravel()


def kinds_of(configuration: Configuration) -> list[tuple[str, Learn]]:
    """Return under whose names calls of a task may be booked: of all that share, of listeners, and
    of every app's own, whatever it says now."""
    return [
        ("", Learn.SHARE),
        ("", Learn.LISTEN),
        *((name, Learn.OWN) for name in configuration.apps),
    ]


def apps_of(configuration: Configuration, names: Mapping[int, str]) -> NDArray[np.uint64]:
    """Return (n,) digests among which those of all apps are, of such as are gone too.

    Args:
        names: what digests stand for that the configuration may not name.
    """
    digests = {*(app.digest for app in configuration.apps.values()), *names}
    return np.array(list(digests), dtype=np.uint64)


def count_leaves(
    configuration: Configuration, rows: Terms, *, now_ms: int, apps: NDArray[np.uint64]
) -> tuple[Leaf, ...]:
    """Return the leaves of which anything is known, in the configuration's order.

    Args:
        apps: as `apps_of` has them.
    """
    digests = configuration.derive(LeafDigests)
    sizes = digests.own.shape

    def find() -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        at = cells.positions(rows.keys["category"], digests.own.ravel())
        own = np.flatnonzero(at >= 0)
        return own, np.unique(at[own])

    own, here = rows.once("leaves", (digests.own,), find)
    if not len(here):
        return ()
    mine = Terms(rows.keys[own], rows.values[own])
    kinds, leaves = np.unravel_index(here, sizes)
    present = np.unique(leaves)
    arms = configuration.catalog.arms
    labels = np.zeros((2, sizes[0], sizes[1], arms.n_groups))
    calls = np.zeros(sizes[1])
    booked = digests.own.ravel()[here]
    for level, some in enumerate((mine, _of_profile(mine))):
        given = _counts(some, Family.QUALITY, Q.LABELS, booked, configuration, now_ms)
        labels[level][kinds, leaves] = arms.by_group(given)
    made = _counts(mine, Family.USAGE, U.CALLS, booked, configuration, now_ms)
    made -= read_profiled(
        rows, apps=apps, categories=booked, endpoints=configuration.catalog.digests
    )
    np.add.at(calls, leaves, np.maximum(made, 0.0).sum(axis=1))
    by_outlook, profiled = labels[:, digests.kind_of_outlook]
    total, of_profile = by_outlook.sum(axis=2), profiled.sum(axis=2)
    enough = (total >= TASK_LABELS) & ((by_outlook > 0).sum(axis=2) >= LEAST_GROUPS)
    return tuple(
        Leaf(
            digests.names[i],
            digests.above[i],
            int(calls[i]),
            tuple(total[:, i].astype(int).tolist()),
            tuple(of_profile[:, i].astype(int).tolist()),
            tuple(enough[:, i].tolist()),
        )
        for i in present.tolist()
    )


def _of_profile(rows: Terms) -> Terms:
    mine = epochs.epochs_of(rows.keys) == epochs.PROFILE
    return Terms(rows.keys[mine], rows.values[mine])


def _counts(
    rows: Terms,
    family: Family,
    column: int,
    categories: NDArray[np.uint64],
    configuration: Configuration,
    now_ms: int,
) -> NDArray[np.float64]:
    """Return (n_categories, n_arms) a plain count, of all regimes; nothing of damaged cells."""
    endpoints = configuration.catalog.digests
    by_regime = cells.read_by_regime(
        rows, family, categories=categories, endpoints=endpoints, now_ms=now_ms
    )
    found = np.sum(list(by_regime.values()), axis=0)
    return np.where(cells.damaged(found, family), 0.0, found[..., column])


def levels_of(configuration: Configuration, leaves: Sequence[Leaf]) -> Levels:
    """Return the configuration with the leaves that stand; the same while the same ones do."""
    standing = tuple(
        frozenset(leaf.name for leaf in leaves if leaf.stands[outlook])
        for outlook in range(1 + len(configuration.own_apps))
    )
    # What nobody may ask for decides nothing.
    asked = tuple(frozenset(n for n in names if n in configuration.tasks) for names in standing)
    return configuration.derive(_Known).of(asked)


class _Known:
    """The levels of one configuration that were needed so far."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._known: dict[Standing, Levels] = {}

    def of(self, standing: Standing) -> Levels:
        known = self._known.get(standing)
        if known is None:
            self._known = {standing: _levels(self._configuration, standing)}
            known = self._known[standing]
        return known


def _levels(before: Configuration, standing: Standing) -> Levels:
    apart = frozenset[str]().union(*standing)
    after = before
    if apart:
        digests = dict(zip(before.task_index, before.task_digests, strict=True))
        tasks = []
        for top in before.task_index:
            below = [name for name in apart if before.leaves[name] == top]
            tasks += [top, *sorted(below, key=list(before.leaves).index)]
        after = replace(
            before,
            task_index={name: i for i, name in enumerate(tasks)},
            task_digests=tuple(
                digests.get(name) or category_digest(name, "", Learn.SHARE) for name in tasks
            ),
            _derived={},
        )
    places = []
    for own in standing:
        above = {leaf: top for leaf, top in before.leaves.items() if leaf not in own}
        found = {name: after.task_index[above.get(name, name)] for name in all_tasks(before)}
        places.append(found)
    return Levels(after, tuple(places))


def all_tasks(configuration: Configuration) -> list[str]:
    """Return the names of all tasks under which calls may be booked, or were."""
    return list(dict.fromkeys([*configuration.tasks, *configuration.leaves]))


class AllTasks:
    """All tasks by the digests under which shared labels are booked, and whose rows hold them."""

    def __init__(self, configuration: Configuration) -> None:
        names = all_tasks(configuration)
        booked = [category_digest(name, "", Learn.SHARE) for name in names]
        rows = [row_of(configuration, name) for name in names]
        self.digests = np.array(booked, dtype=np.uint64)  # (n,)
        self.rows = np.array(rows, dtype=np.intp)  # (n,)


class ReleaseKeys:
    """The digests of all tasks' books, by review key."""

    def __init__(self, configuration: Configuration) -> None:
        self._names = all_tasks(configuration)
        self._known: dict[ReviewKey, NDArray[np.uint64]] = {}

    def of(self, review_key: ReviewKey) -> NDArray[np.uint64]:
        """Return (n,) digests in the order of `all_tasks`."""
        known = self._known.get(review_key)
        if known is None:
            digests = review_key.release_keys(self._names)
            known = self._known[review_key] = np.array(digests, dtype=np.uint64)
        return known


def places_of(review_key: ReviewKey, configuration: Configuration) -> Mapping[str, int]:
    """Return by which row each task is decided where no leaf stands by itself."""
    return levels_of(configuration, ()).places[configuration.apps[review_key.app].outlook]


def begun(
    kept: Kept, configuration: Configuration, places: Mapping[str, int]
) -> tuple[Kept, NDArray[np.bool_]]:
    """Return what is kept, in which leaves that stand begin where what they are below stands.

    From the next version on that is their own choice, whatever becomes of the other.

    Args:
        places: by which row each task is decided.
    Returns:
        Also (n_tasks,) the rows by which anything is decided: a leaf may stand elsewhere alone.
    """
    decides = np.zeros(len(configuration.task_index), dtype=bool)
    decides[list(places.values())] = True
    unsettled = _unsettled(kept.review_key, configuration)
    current = {}
    for name, row in configuration.task_index.items():
        above = configuration.leaves.get(name)
        if above is not None and name not in kept.current and decides[row]:
            choice = kept.current.get(above, unsettled)
            if choice is not None:
                current[name] = choice
    if current:
        kept = replace(kept, current={**kept.current, **current})
    return kept, decides


def _unsettled(review_key: ReviewKey, configuration: Configuration) -> str | None:
    """Return where a task stands of which nothing is kept; under an order that is open."""
    if configuration.strategies[review_key.strategy].objective.order is not Order.UTILITY:
        return None
    standing, catalog = standing_behind(review_key, configuration), configuration.catalog
    hosts = catalog.group_members[catalog.by_id[review_key.incumbent].group]
    return first_permitted(standing, [catalog.endpoints[arm] for arm in hosts]).id


def within_of(configuration: Configuration) -> NDArray[np.intp]:
    """Return (n_tasks,) the row of what each task is below; its own at the top."""
    index, leaves = configuration.task_index, configuration.leaves
    return np.array([index[leaves.get(name, name)] for name in index], dtype=np.intp)


def gathering(configuration: Configuration) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return digests (n,) of leaves without a row, and those (n,) under which they are read."""
    return configuration.derive(LeafDigests).gathered(frozenset(configuration.task_index))


def row_of(configuration: Configuration, task: str) -> int | None:
    """Return the row that holds what was given in a task alone; None: there is no such task."""
    index = configuration.task_index
    found = index.get(task)
    return index.get(configuration.leaves.get(task, "")) if found is None else found
