"""Latency: log-normal, with a Normal-Inverse-Gamma posterior and Student-t predictive.

Recorded latencies fit a log-normal better than a gamma or a normal in 91 % of cells. Time-outs
are right-censored: they count as the expected latency beyond their limit, never as nothing.

Ref: Murphy (2007), "Conjugate Bayesian analysis of the Gaussian distribution", §3 and §9.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bandit import margins
from bandit.special import log_ndtr, stdtr, stdtrit

KAPPA0 = 2.0
ALPHA0 = 2.0
BETA0 = 0.25
"""Prior worth two calls, log-sd about .5: the median spread of recorded cells."""
MAX_LOG_VARIANCE = 1.0
"""Caps e^(s²/2) at 1.6, so that two odd calls cannot price an endpoint out for an hour."""
DEFAULT_S = 1.0
"""Prior median where no endpoint has answered yet."""


@dataclass(frozen=True, eq=False)
class Latency:
    """Normal-Inverse-Gamma parameters of ln(seconds), each (n_categories, n_arms)."""

    mean: NDArray[np.float64]
    kappa: NDArray[np.float64]
    alpha: NDArray[np.float64]
    beta: NDArray[np.float64]
    _bounds: dict[float, NDArray[np.float64]] = field(default_factory=dict)

    def draw(self, category: int, *, n_draws: int) -> NDArray[np.float64]:
        """Return (n_draws, n_arms) draws of the expected latency in seconds.

        The same parameters give the same draws, whatever those of other arms are.
        """
        alpha, beta = self.alpha[category], self.beta[category]
        shapes = margins.students((category, 2), alpha, n_draws=n_draws)
        scale = np.sqrt(beta / (alpha * self.kappa[category]))
        typical = np.minimum(beta / (alpha - 1), MAX_LOG_VARIANCE)
        centre = self.mean[category] + typical / 2
        return np.asarray(np.exp(centre + scale * shapes.T))

    @property
    def expected(self) -> NDArray[np.float64]:
        """Expected seconds, (n_categories, n_arms), at the posterior mean of ln(seconds)."""
        typical = np.minimum(self.beta / (self.alpha - 1), MAX_LOG_VARIANCE)
        return np.asarray(np.exp(self.mean + typical / 2))

    @property
    def ln_variance(self) -> NDArray[np.float64]:
        """Variance of the logarithm of `expected`, (n_categories, n_arms)."""
        return self.beta / ((self.alpha - 1) * self.kappa)

    def quantile(self, probability: float) -> NDArray[np.float64]:
        """Return predictive quantiles in seconds, (n_categories, n_arms)."""
        return np.asarray(np.exp(self.mean + self._scale * stdtrit(2 * self.alpha, probability)))

    @cached_property
    def _scale(self) -> NDArray[np.float64]:
        """(n_categories, n_arms) scale of the Student-t predictive."""
        return np.sqrt(self.beta * (1 + 1 / self.kappa) / self.alpha)

    def within(self, category: int, limit_s: float) -> NDArray[np.float64]:
        """Return P(latency of the next call ≤ limit_s), (n_arms,)."""
        z = (math.log(limit_s) - self.mean[category]) / self._scale[category]
        return np.asarray(stdtr(2 * self.alpha[category], z))

    def bound(self, probability: float) -> NDArray[np.float64]:
        """Return `quantile(probability)`, worked out once: P(latency ≤ x) ≥ p iff it is ≤ x."""
        found = self._bounds.get(probability)
        if found is None:
            found = self._bounds[probability] = self.quantile(probability)
        return found


def fit(
    n: NDArray[np.float64],
    ln: NDArray[np.float64],
    ln2: NDArray[np.float64],
    *,
    n_censored: NDArray[np.float64] | None = None,
    ln_censored: NDArray[np.float64] | None = None,
) -> Latency:
    """Return the posterior given decayed sums; an unknown arm starts at its category's mean.

    Args:
        n, ln, ln2: (n_categories, n_arms) calls, Σ ln(seconds), Σ ln(seconds)².
        n_censored, ln_censored: calls cut by a time-out, and Σ ln(their limit).
    """
    if n_censored is not None and ln_censored is not None:
        n, ln, ln2 = _with_censored(n, ln, ln2, n_censored, ln_censored)
    everything = (ln.sum() + np.log(DEFAULT_S)) / (n.sum() + 1)
    prior = (ln.sum(axis=1) + everything) / (n.sum(axis=1) + 1)
    own = np.divide(ln, n, out=np.zeros_like(ln), where=n > 0)
    scatter = np.maximum(ln2 - n * own**2, 0)
    kappa = KAPPA0 + n
    return Latency(
        mean=(KAPPA0 * prior[:, None] + ln) / kappa,
        kappa=kappa,
        alpha=ALPHA0 + n / 2,
        beta=BETA0 + scatter / 2 + KAPPA0 * n * (own - prior[:, None]) ** 2 / (2 * kappa),
    )


def _with_censored(
    n: NDArray[np.float64],
    ln: NDArray[np.float64],
    ln2: NDArray[np.float64],
    n_censored: NDArray[np.float64],
    ln_censored: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Count each time-out at E[ln L | L > limit] of a normal around the cell's own mean."""
    if not n_censored.any():
        return n, ln, ln2  # most often
    sd = np.sqrt(BETA0 / ALPHA0)
    limit = np.divide(ln_censored, n_censored, out=np.zeros_like(ln), where=n_censored > 0)
    centre = np.divide(ln, n, out=limit.copy(), where=n > 0)
    z = (limit - centre) / sd
    log_density = -0.5 * z**2 - 0.5 * np.log(2 * np.pi)
    expected = centre + sd * np.exp(log_density - log_ndtr(-z))
    return n + n_censored, ln + n_censored * expected, ln2 + n_censored * expected**2
