"""Reliability: a Beta posterior of the share of calls that an endpoint answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

PRIOR_OK = 99.9
PRIOR_FAIL = 0.1
"""An endpoint is taken to answer 999 of 1,000 calls until it shows otherwise, worth a hundred
calls. Draws then hug 1 while nothing has failed, so that the chance of an outage never seen does
not drown a latency that was; five failures in a row still cost it five points."""


@dataclass(frozen=True, slots=True)
class Reliability:
    """Beta parameters of the answered share, (n_categories, n_arms)."""

    ok: NDArray[np.float64]
    fail: NDArray[np.float64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """Posterior means, (n_categories, n_arms)."""
        return self.ok / (self.ok + self.fail)

    def draw(self, category: int, rng: np.random.Generator, *, n_draws: int) -> NDArray[np.float64]:
        """Return (n_draws, n_arms) draws of the answered share.

        An arm that never failed has nothing to draw: its share stands at the mean, above .999.
        """
        ok, fail = self.ok[category], self.fail[category]
        shares = np.repeat((ok / (ok + fail))[None, :], n_draws, axis=0)
        failed = fail > PRIOR_FAIL
        if failed.any():
            shares[:, failed] = rng.beta(ok[failed], fail[failed], size=(n_draws, failed.sum()))
        return shares


def fit(ok: NDArray[np.float64], fail: NDArray[np.float64]) -> Reliability:
    """Return the posterior given decayed counts of answers and failures."""
    return Reliability(ok + PRIOR_OK, fail + PRIOR_FAIL)


def lower_bound(
    ok: NDArray[np.float64], fail: NDArray[np.float64], *, level: float
) -> NDArray[np.float64]:
    """Return the one-sided lower bound of the answered share under Beta(1, 1)."""
    return np.asarray(betaincinv(ok + 1, fail + 1, 1 - level))


def upper_bound(
    ok: NDArray[np.float64], fail: NDArray[np.float64], *, level: float
) -> NDArray[np.float64]:
    """Return the one-sided upper bound of the answered share under Beta(1, 1)."""
    return np.asarray(betaincinv(ok + 1, fail + 1, level))
