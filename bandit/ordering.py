"""The user's own order: what `cheapest` and `fastest` sort by, and how surely who is ahead of whom.

Nothing here knows what a task stands at, or what came before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bandit.posterior import Posterior
from bandit.reliability import lower_bound, upper_bound
from bandit.special import ndtr
from bandit.utility import (
    FASTEST_LEVEL,
    FASTEST_OK_RATE,
    LEAST_QUALITY,
    Objective,
    Order,
    admitted,
    p_above_floor,
)

CHEAPEST_CALLS = 20
"""Answered calls of traffic in a task, of whichever endpoint, before its cheapest is told: list
prices need the tokens that a call takes."""


@dataclass(frozen=True, slots=True)
class Ordering:
    """One task's groups in the order of an objective."""

    posterior: Posterior
    objective: Objective
    task: int
    available: NDArray[np.bool_]  # (n_arms,) endpoints that may serve at all

    def measure(self) -> NDArray[np.float64]:
        """Return (n_groups,) what the order sorts by, at each group's best host: least comes first.

        inf where no host is available. `cheapest`: expected USD of a chain ÷ answered share, per
        success once labels exist. `fastest`: expected seconds of a chain ÷ answered share.
        """
        return self._at_best_host()[0]

    def p_ahead(self, reference: int) -> NDArray[np.float64]:
        """Return (n_groups,) P(the group comes before `reference` in the order).

        Logarithms are taken as normal: of tokens or seconds, of the answered share and, per
        success, of quality, whose errors the two share in part. Even between equals.
        """
        value, variance = self._at_best_host()
        variance = variance + variance[reference]
        if self._is_per_success:
            _, sd = self.posterior.quality.difference(self.task, reference)
            quality = np.maximum(self.posterior.quality.mean[self.task], LEAST_QUALITY)
            variance = variance + sd**2 / (quality * quality[reference])
        with np.errstate(divide="ignore", invalid="ignore"):  # what is free, or not available
            by = np.log(value[reference]) - np.log(value)
        by = np.where(value == value[reference], 0.0, by)
        p = ndtr(by / np.sqrt(np.maximum(variance, 1e-12)))
        return np.where(np.isfinite(value), p, 0.0)

    def p_above_floor(self) -> NDArray[np.float64]:
        """Return (n_groups,) P(quality ≥ floor); 1 while nothing is labelled."""
        return p_above_floor(self.posterior, self.task, self.available)

    def servable(self) -> NDArray[np.bool_]:
        """Return (n_groups,) groups of which some host may serve under the order."""
        group = self.posterior.arms.group
        hosts = admitted(self.posterior, self.task, self.objective, self.available)
        return np.bincount(group, hosts, minlength=self.posterior.arms.n_groups) > 0

    def qualified(self) -> NDArray[np.bool_]:
        """Return (n_groups,) which groups may become the choice: by traffic, and not by checks.

        `cheapest`: all, once the task has answered calls enough. `fastest` asks for each one's: a
        one-sided lower 90 % bound of the answered share of .95 takes 44 without a failure. They
        are counted over all that is kept: by the decayed counts, which see outages, an endpoint of
        few calls an hour would never qualify.
        """
        fit, (ok, failed) = self.servable(), self._answers()
        if self.objective.order is Order.CHEAPEST:
            return fit & (float(ok.sum()) >= CHEAPEST_CALLS)
        return fit & (lower_bound(ok, failed, level=FASTEST_LEVEL) >= FASTEST_OK_RATE)

    def fails_too_often(self, group: int) -> bool:
        """Return whether `fastest` has no place for a group: its *upper* bound is below .95."""
        ok, failed = self._answers()
        bound = upper_bound(ok, failed, level=FASTEST_LEVEL)[group]
        is_asked = self.objective.order is Order.FASTEST
        return is_asked and bool(failed[group] > 0 and bound < FASTEST_OK_RATE)

    @property
    def _is_per_success(self) -> bool:
        labelled = bool(self.posterior.judged[self.task].any())
        return labelled and self.objective.order is Order.CHEAPEST

    def _answers(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (n_groups,) plain counts of calls that were answered, and of those that failed.

        Of traffic: whoever is only checked or profiled has no call of the task.
        """
        posterior = self.posterior
        counts = posterior.traffic_calls[[self.task]], posterior.traffic_failures[[self.task]]
        calls, failed = (posterior.arms.by_group(n)[0] for n in counts)
        return calls - failed, failed

    def _at_best_host(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (n_groups,) what the order sorts by, and the variance of its logarithm.

        Of quality the latter knows nothing: it is the group's own, and compared in pairs.
        """
        posterior, task = self.posterior, self.task
        variance = posterior.reliability.ln_variance[task]
        if self.objective.order is Order.CHEAPEST:
            by_host = posterior.cost_usd[task]
            variance = variance + posterior.cost_ln_sd[task] ** 2
        else:
            by_host = posterior.seconds[task]
            variance = variance + posterior.seconds_ln_variance[task]
        by_host = by_host / posterior.reliability.mean[task]
        group, n_groups = posterior.arms.group, posterior.arms.n_groups
        if self._is_per_success:
            quality = np.maximum(posterior.quality.mean[task], LEAST_QUALITY)
            by_host = by_host / quality[group]
        best, of_best = np.full(n_groups, np.inf), np.zeros(n_groups)
        hosts = np.flatnonzero(self.available)
        best_last = hosts[np.argsort(-by_host[hosts], kind="stable")]
        best[group[best_last]], of_best[group[best_last]] = by_host[best_last], variance[best_last]
        return best, of_best
