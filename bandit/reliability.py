"""Reliability: Beta posteriors of the share of calls that an endpoint answers, usably.

Two shares, multiplied: that of calls with an answer, which changes by the minute, and that of
answers that could be used (valid against the caller's own schema or tools), which seldom does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bandit import margins
from bandit.special import betaincinv

PRIOR_OK = 99.9
PRIOR_FAIL = 0.1
"""An endpoint is taken to answer 999 of 1,000 calls until it shows otherwise, worth a hundred
calls. Draws then hug 1 while nothing has failed, so that the chance of an outage never seen does
not drown a latency that was; five failures in a row still cost it five points."""


@dataclass(frozen=True, slots=True)
class Reliability:
    """Beta parameters of the answered share and of the usable one, (n_categories, n_arms)."""

    ok: NDArray[np.float64]
    fail: NDArray[np.float64]
    valid: NDArray[np.float64]
    invalid: NDArray[np.float64]  # 0 where nothing says that an answer could not be used

    @property
    def mean(self) -> NDArray[np.float64]:
        """Posterior means, (n_categories, n_arms)."""
        return self.ok / (self.ok + self.fail) * self.usable

    @property
    def ln_variance(self) -> NDArray[np.float64]:
        """Variance of the logarithm of `mean`, (n_categories, n_arms)."""
        n, m = self.ok + self.fail, self.valid + self.invalid
        return np.asarray(self.fail / (self.ok * (n + 1)) + self.invalid / (self.valid * (m + 1)))

    @property
    def usable(self) -> NDArray[np.float64]:
        """Posterior means of the usable share of answers, (n_categories, n_arms)."""
        return self.valid / (self.valid + self.invalid)

    def draw(self, category: int, *, n_draws: int) -> NDArray[np.float64]:
        """Return (n_draws, n_arms) draws of the share of calls with a usable answer.

        An arm that never failed has nothing to draw: its share stands at the mean, above .999.
        The same parameters give the same draws, whatever those of other arms are.
        """
        shares = np.repeat(self.mean[category][:, None], n_draws, axis=1)
        ok, fail, invalid = self.ok[category], self.fail[category], self.invalid[category]
        failed, faulty = np.flatnonzero(fail > PRIOR_FAIL), np.flatnonzero(invalid > 0)
        if len(failed):
            drawn = margins.betas((category, 1), failed, ok, fail, n_draws=n_draws)
            shares[failed] = drawn * self.usable[category, failed, None]
        if len(faulty):
            valid = self.valid[category]
            drawn = margins.betas((category, 3), faulty, valid, invalid, n_draws=n_draws)
            shares[faulty] *= drawn / self.usable[category, faulty, None]
        return shares.T


def fit(
    ok: NDArray[np.float64],
    fail: NDArray[np.float64],
    usable: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> Reliability:
    """Return the posterior given decayed counts of answers and failures.

    Args:
        usable: Beta parameters of the share of answers that could be used.
    """
    return Reliability(ok + PRIOR_OK, fail + PRIOR_FAIL, *usable)


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
