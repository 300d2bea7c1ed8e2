"""What the sidecar believes right now: configuration and posteriors as one immutable value.

A category is a task as one outlook sees it: first all tasks of the shared outlook, then those of
each app whose labels count for it alone. Leaves of tasks are among them once their labels suffice.

A request keeps the value that it started with. A thread builds the next one when the store has
news. Banks are drawn on first use, for what is asked alone; the shapes of their margins are kept
from one value to the next (`bandit/margins.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bandit import cells, watcher
from bandit.draws import LEARNING, Law, Table, tabulate
from bandit.epochs import PROFILE, composed
from bandit.evidence import Evidence
from bandit.families import Family
from bandit.limits import Limit, Limits, broken, within
from bandit.posterior import Bank, Posterior
from bandit.utility import Objective
from router.beliefs import alarms, choices, outlooks, splits
from router.beliefs.alarms import EndpointWatch
from router.beliefs.choices import Choices
from router.beliefs.kept import Kept, ReviewKey
from router.beliefs.levels import Leaf, apps_of, count_leaves, levels_of
from router.beliefs.outlooks import Outlook
from router.beliefs.traffic import marked_calls
from router.config.compiled import App, Configuration, Strategy
from router.config.exclusions import Exclusion
from router.policy.constraints import exclude

T = TypeVar("T")
MAX_EXCLUDED = 256
"""Distinct (category, limits, reasons) remembered: each holds as many reasons as endpoints."""
MAX_TABLES = 4096
"""Distinct (category, strategy, law, eligible set) remembered; a bound, not a tuning."""


Reasons = tuple[Exclusion | None, ...]
Excluded = tuple[NDArray[np.bool_], Reasons]
"""(n_arms,) who is left, and by arm why it is not."""
Within = tuple[NDArray[np.bool_], tuple[Limit, ...]]
"""(n_arms,) who keeps the limits, and which soft ones gave way."""


@dataclass(slots=True, eq=False)
class Beliefs:
    """Configuration and posteriors of one version. Only its memory of tables ever grows."""

    configuration: Configuration
    outlooks: tuple[Outlook, ...]  # the shared one first
    version: int
    quality_mean: NDArray[np.float64]  # (n_categories, n_groups)
    quality_sd: NDArray[np.float64]
    quality_spread: NDArray[np.float64]  # (n_categories, n_groups) sd of a single reward
    latency_q99_s: NDArray[np.float64]  # (n_categories, n_arms)
    ttft_q99_s: NDArray[np.float64]
    teaching: cells.Terms  # rows that say who taught what
    roles: cells.Terms  # rows of calls by role
    names: Mapping[int, str]  # what digests stand for that the configuration may not name
    known: tuple[EndpointWatch, ...]  # by arm: whether it changed, and since when
    epochs: Mapping[str, int]  # by task, of those past their first
    learning: Law  # of learning mode
    leaves: tuple[Leaf, ...]  # of which anything is known
    places: tuple[Mapping[str, int], ...]  # by outlook, the row by which each task is decided
    built_at: float  # monotonic seconds
    as_of_ms: int  # to which evidence was decayed, in epoch milliseconds
    choices: Mapping[ReviewKey, Choices] = field(default_factory=dict)
    banks: dict[tuple[int, bool], Bank] = field(default_factory=dict)
    _tables: dict[tuple[int, Objective, Law, bytes], Table] = field(default_factory=dict)
    _objectives: dict[tuple[int, int, int], Objective] = field(default_factory=dict)
    _excluded: dict[tuple[int, Limits, Reasons], Excluded] = field(default_factory=dict)
    _within: dict[tuple[int, Limits, bytes], Within] = field(default_factory=dict)
    _derived: dict[object, Any] = field(default_factory=dict, init=False)
    mark: object = field(default_factory=object, init=False)  # theirs alone; does not hold them

    def derive(self, make: Callable[[Beliefs], T]) -> T:
        """Return what `make` makes of these beliefs; it is made once, and goes with them."""
        known: T | None = self._derived.get(make)
        if known is None:
            known = self._derived[make] = make(self)
        return known

    @property
    def evidence(self) -> Evidence:
        """What all share, and everything that is measured of calls."""
        return self.outlooks[0].evidence

    @property
    def posterior(self) -> Posterior:
        """Of the shared outlook."""
        return self.outlooks[0].posterior

    @property
    def profile_calls(self) -> NDArray[np.float64]:
        """(n_tasks, n_arms) of the calls that are measured those of a profile or a check."""
        return self.posterior.profile_calls

    @property
    def traffic(self) -> NDArray[np.float64]:
        """(n_tasks, n_arms) calls, without those of a profile or a check."""
        return self.posterior.traffic_calls

    @property
    def signals(self) -> NDArray[np.float64]:
        """(n_tasks, n_arms, N_COLUMNS) what shared labels were read off."""
        return self.outlooks[0].signals

    @property
    def given_labels(self) -> list[splits.Labels]:
        """Labels as they were given in each outlook, without what others lent."""
        return [(outlook.given, outlook.posterior.damaged) for outlook in self.outlooks]

    def row(self, app: App, task: str) -> int:
        """Return by which row an app's calls of a task are decided: its own, or that above it."""
        return self.places[app.outlook][task]

    def category(self, app: App, task: int) -> int:
        """Return the category of a row as an app sees it."""
        return app.outlook * len(self.configuration.task_index) + task

    def place(self, category: int) -> tuple[Posterior, int]:
        """Return the posterior that a category is of, and its row there, which is the task's."""
        outlook, task = divmod(category, len(self.configuration.task_index))
        return self.outlooks[outlook].posterior, task

    def regime(self, task: str, arm: int, *, by_profile: bool = False) -> int:
        """Return the regime of an endpoint as tokens of a task's calls hold it, with its epoch.

        Args:
            by_profile: the call is a profile's, whose labels lie in no epoch.
        """
        epoch = PROFILE if by_profile else self.epochs.get(task, 0)
        return composed(self.known[arm].regimes.now, epoch)

    def posterior_of(self, app: str) -> Posterior:
        """Return what an app goes by."""
        return self.outlooks[self.configuration.apps[app].outlook].posterior

    def bank(self, category: int, *, exact: bool = False) -> Bank:
        """Return the category's bank: the same for everybody who has this version.

        Args:
            exact: draws that are not sharpened. Among the two or three candidates of a guarded
                law each is tried as often as it may be the best; in a locked app everybody is.
        """
        found = self.banks.get((category, exact))
        if found is None:
            sharpness = 1.0 if exact else None
            posterior, task = self.place(category)
            found = posterior.bank(task, sharpness=sharpness)
            self.banks[category, exact] = found
        return found

    def objective(self, strategy: Strategy, category: int, incumbent: int) -> Objective:
        """Return what a strategy maximises in a category; a trade has its value in money there.

        Args:
            incumbent: arm with whose cost a trade compares.
        """
        if strategy.trade is None:
            return strategy.objective
        key = (strategy.digest, category, incumbent)
        found = self._objectives.get(key)
        if found is None:
            posterior, task = self.place(category)
            found = strategy.objective_at(posterior, incumbent).at(task)
            self._objectives[key] = found
        return found

    def excluded(self, category: int, limits: Limits, reasons: Reasons) -> Excluded:
        """Return who is left under the hard limits, and why others are not; once for each reasons.

        Args:
            reasons: by arm, why it is excluded already; what binds in every mode keeps its name.
        """
        key = (category, limits, reasons)
        found = self._excluded.get(key)
        if found is None:
            if len(self._excluded) >= MAX_EXCLUDED:
                self._excluded.clear()
            kinds = broken(*self.place(category), limits)
            codes = [None if kind is None else Exclusion(kind.value) for kind in kinds]
            found = self._excluded[key] = exclude(reasons, codes)
        return found

    def within(self, category: int, limits: Limits, eligible: NDArray[np.bool_]) -> Within:
        """Return who keeps the limits, and which soft ones gave way; once for each eligible set."""
        key = (category, limits, eligible.tobytes())
        found = self._within.get(key)
        if found is None:
            if len(self._within) >= MAX_TABLES:
                self._within.clear()
            found = self._within[key] = within(*self.place(category), limits, eligible)
        return found

    def table(
        self, category: int, objective: Objective, law: Law, eligible: NDArray[np.bool_]
    ) -> Table:
        """Return what a draw needs; counted once for each eligible set."""
        key = (category, objective, law, eligible.tobytes())
        found = self._tables.get(key)
        if found is None:
            if len(self._tables) >= MAX_TABLES:
                self._tables.clear()
            found = self._tables[key] = tabulate(
                self.bank(category, exact=law.is_exact or not law.is_learning),
                objective=objective,
                law=law,
                eligible=eligible,
            )
        return found


def believe(
    configuration: Configuration,
    rows: cells.Terms,
    *,
    version: int,
    review_keys: Iterable[ReviewKey] = (),
    kept: Mapping[ReviewKey, Kept] = MappingProxyType({}),
    watches: Mapping[int, EndpointWatch] = MappingProxyType({}),
    names: Mapping[int, str] = MappingProxyType({}),
    opened: Mapping[str, int] = MappingProxyType({}),
    now_ms: int | None = None,
) -> Beliefs:
    """Return the beliefs that the rows support as of now, with the choices of these review keys.

    Their configuration is the one given, but for hosts that were split off from their groups.

    Args:
        watches: what is known of endpoints that were watched, by digest.
        names: what digests stand for that the configuration does not name any more.
        opened: the epochs that prompts opened, by task.
        now_ms: when now is, in epoch milliseconds; None: as the clock says.
    """
    split = {digest: one.split for digest, one in watches.items() if one.split is not None}
    configuration = splits.with_splits(configuration, split)
    as_of_ms = int(time.time() * 1000) if now_ms is None else now_ms
    apps = apps_of(configuration, names)
    leaves = count_leaves(configuration, rows, now_ms=as_of_ms, apps=apps)
    levels = levels_of(configuration, leaves)
    configuration = levels.configuration
    known = alarms.by_arm(configuration.catalog, watches)
    epochs = outlooks.present_epochs(configuration, rows, names, opened)
    seen = outlooks.see(
        configuration,
        rows,
        known,
        names=names,
        present=epochs,
        marked=marked_calls(configuration, rows, names, apps=apps),
        now_ms=as_of_ms,
    )
    posteriors = [outlook.posterior for outlook in seen]
    quality = [posterior.quality for posterior in posteriors]
    shared = posteriors[0]
    return Beliefs(
        configuration=configuration,
        outlooks=seen,
        version=version,
        quality_mean=np.concatenate([q.mean for q in quality]),
        quality_sd=np.concatenate([q.sd for q in quality]),
        quality_spread=np.concatenate([np.sqrt(q.noise + q.sd**2) for q in quality]),
        # All outlooks have one evidence of latency.
        latency_q99_s=np.tile(shared.latency.quantile(0.99), (len(seen), 1)),
        ttft_q99_s=np.tile(shared.ttft.quantile(0.99), (len(seen), 1)),
        teaching=cells.of_family(rows, Family.TEACHING),
        roles=cells.of_family(rows, Family.ROLES),
        names=names,
        known=known,
        epochs=epochs,
        learning=_learning(configuration, known),
        leaves=leaves,
        places=levels.places,
        built_at=time.monotonic(),
        as_of_ms=as_of_ms,
        choices=choices.weigh_all(
            review_keys,
            kept,
            posteriors,
            rows,
            configuration,
            now_ms=as_of_ms,
            places=levels.places,
        ),
    )


def _learning(configuration: Configuration, known: tuple[EndpointWatch, ...]) -> Law:
    """Return the law of learning mode: now and then it probes whoever fell, for a recovery."""
    arm, share = watcher.probe([one.watch for one in known])
    if arm is None:
        return LEARNING
    return replace(LEARNING, floor=share, declared=(configuration.catalog.endpoints[arm].group,))
