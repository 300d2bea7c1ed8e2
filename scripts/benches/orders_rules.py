"""The rules of the order strategies as they are, and as they were: the same week under both."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bandit import orders
from bandit.draws import Law
from bandit.incumbent import N_CHALLENGERS, Release, Standings
from bandit.ordering import Ordering
from bandit.orders import Departures
from bandit.posterior import Posterior
from bandit.utility import FLOOR_SHARE, Objective, Order
from scripts.benches.orders_world import N_ENDPOINTS, N_TASKS

EVERYBODY = np.ones(N_ENDPOINTS, dtype=bool)


class OrderRules(Protocol):
    """How a week is played."""

    name: str

    def posterior(self, posterior: Posterior) -> Posterior:
        """Return what is believed."""

    def review(
        self,
        standings: Standings,
        posterior: Posterior,
        objective: Objective,
        due: NDArray[np.bool_],
        lost: int | None,
        now_ms: int,
    ) -> tuple[Standings, list[Release], NDArray[np.bool_]]:
        """Return as `orders.review`, with challengers chosen.

        Args:
            lost: an endpoint that has been away for ten minutes.
        """

    def law(self, standings: Standings, posterior: Posterior, task: int) -> Law:
        """Return the law of a task's next draws."""


class CalmRules:
    """The rules that the sidecar runs."""

    name = "after"

    def __init__(self, listed: NDArray[np.float64]) -> None:
        self._listed = listed
        self._departures = Departures.none(N_TASKS, N_ENDPOINTS)

    def posterior(self, posterior: Posterior) -> Posterior:
        """Return it."""
        return posterior

    def review(
        self,
        standings: Standings,
        posterior: Posterior,
        objective: Objective,
        due: NDArray[np.bool_],
        lost: int | None,
        now_ms: int,
    ) -> tuple[Standings, list[Release], NDArray[np.bool_]]:
        """Return what `router.beliefs.choices` makes of it."""
        there = EVERYBODY & (np.arange(N_ENDPOINTS) != (-1 if lost is None else lost))
        standings, released, settled = orders.review(
            standings,
            posterior,
            objective,
            there,
            due,
            lost=~there[standings.current],
            departures=self._departures,
            now_ms=now_ms,
        )
        self._departures = self._departures.after(released, now_ms=now_ms)
        standings = orders.choose_challengers(
            standings, posterior, objective, EVERYBODY, self._listed
        )
        return standings, released, settled

    def law(self, standings: Standings, posterior: Posterior, task: int) -> Law:
        """Return the law."""
        return orders.law(standings, task)


class _SurePosterior(Posterior):
    """In which costs are what they are expected to be."""

    @property
    def cost_ln_sd(self) -> NDArray[np.float64]:
        """Nothing."""
        return np.zeros_like(self.cost_usd)


class HastyRules:
    """The rules before: by expectation alone, from the first call on, and below the floor at once.

    The floor was held against posterior means; challengers were the least measured above it. Nobody
    was ever lost. One thing is not as it was: a choice that seems below the floor, and whom nobody
    may replace, is still a candidate of the step *sample*.
    """

    name = "before"

    def __init__(self, listed: NDArray[np.float64]) -> None:
        self._listed = listed

    def posterior(self, posterior: Posterior) -> Posterior:
        """Return it with sure costs."""
        p = posterior
        return _SurePosterior(p.arms, p.evidence, p.damaged, p.read)

    def review(
        self,
        standings: Standings,
        posterior: Posterior,
        objective: Objective,
        due: NDArray[np.bool_],
        lost: int | None,
        now_ms: int,
    ) -> tuple[Standings, list[Release], NDArray[np.bool_]]:
        """Return the first in the order, everywhere that is due or that seems below its floor."""
        current, settled = standings.current.copy(), np.zeros(N_TASKS, dtype=bool)
        released, chosen = [], []
        for task, now in enumerate(standings.current):
            above = _seems_above(posterior, task)
            ordering = Ordering(posterior, objective, task, EVERYBODY)
            fit = above & ordering.servable()
            able = fit.copy() if fit.any() else EVERYBODY.copy()
            if objective.order is Order.FASTEST:
                fit &= ordering.qualified()
            if (due[task] or not above[now]) and fit.any():
                settled[task] = True
                by = ordering.measure()
                first = int(np.where(fit, by, np.inf).argmin())
                if first != now and not (fit[now] and by[now] <= by[first]):
                    current[task] = first
                    reason = orders.FIRST if above[now] else orders.FALLEN
                    gain = float(by[now] - by[first])
                    released.append(Release(task, int(now), first, np.nan, gain, reason))
            able[[int(current[task]), standings.incumbent]] = False
            least = np.lexsort((-self._listed, posterior.calls[task]))
            chosen.append(tuple(int(g) for g in least if able[g])[:N_CHALLENGERS])
        standings = replace(standings, current=current, challengers=tuple(chosen))
        return standings, released, settled

    def law(self, standings: Standings, posterior: Posterior, task: int) -> Law:
        """Return the law; an incumbent that seems below the floor was no candidate."""
        found = orders.law(standings, task)
        if _seems_above(posterior, task)[standings.incumbent]:
            return found
        return replace(found, incumbent=None)


def _seems_above(posterior: Posterior, task: int) -> NDArray[np.bool_]:
    known, mean = posterior.judged[task], posterior.quality.mean[task]
    if not known.any():
        return EVERYBODY
    return np.asarray(mean >= FLOOR_SHARE * mean[known].max())
