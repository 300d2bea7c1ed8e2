"""Which of several endpoints is best, and by how much any other may truly be better.

All endpoints answered the same prompts, so that differences are told far better than levels: each
estimate comes with the influence of every prompt on it. That one was chosen because it looks best
is accounted for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bandit.special import ndtri, stdtrit

N_DRAWS = 2000
ONE_SIDED = 0.05
"""How often a one-sided bound may be exceeded."""

TINY = 1e-24
"""Variance of a difference that cannot be, so that nothing is divided by 0."""


@dataclass(frozen=True, slots=True)
class Estimates:
    """One figure of each endpoint, higher is better, and how it depends on the prompts."""

    value: NDArray[np.float64]  # (n_arms,)
    influence: NDArray[np.float64]  # (n_prompts, n_arms) what each prompt moves it by
    least_variance: float  # of a difference of two that never differed on any prompt
    n_free: float  # degrees of freedom

    def errors(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return (n_draws, n_arms) errors as they may be, those of one draw belonging together."""
        n_prompts, n_arms = self.influence.shape
        moved = rng.standard_normal((N_DRAWS, n_prompts)) @ self.influence
        apart = rng.standard_normal((N_DRAWS, n_arms)) * (self.least_variance / 2) ** 0.5
        return np.asarray(moved + apart)

    def deviations(self) -> NDArray[np.float64]:
        """Return (n_arms, n_arms) standard errors of differences."""
        product = self.influence.T @ self.influence
        own = np.diag(product)
        square = np.maximum(own[:, None] + own - 2 * product, 0)
        return np.sqrt(square + self.least_variance + TINY)

    def of(self, arms: NDArray[np.intp]) -> Estimates:
        """Return the same of some endpoints."""
        return replace(self, value=self.value[arms], influence=self.influence[:, arms])

    def critical(self, n_bounds: int, tail: float = ONE_SIDED) -> float:
        """Return by how many standard errors as many one-sided bounds reach, to hold together."""
        return float(stdtrit(max(self.n_free, 1.0), 1 - tail / n_bounds))

    def widening(self, tail: float = ONE_SIDED) -> float:
        """Return by how much a normal quantile falls short where variances were estimated."""
        return float(stdtrit(max(self.n_free, 1.0), 1 - tail) / ndtri(1 - tail))


def allowed_lead(estimates: Estimates, chosen: int, rng: np.random.Generator) -> float:
    """Return by how much, at most, the truly best is better than the one that was chosen.

    With odds of 19 to 1, whichever was chosen, and by whatever rule: max over k of
    (value[k] − value[chosen] + c[k]·sd), where c[k] bounds the errors of all differences to k at
    once. Only the truly best needs to be bounded, not all pairs.

    Ref: Hsu (1984), Annals of Statistics 12, multiple comparisons with the best; c by the
    multiplier bootstrap of Chernozhukov, Chetverikov and Kato (2013).
    """
    n_arms = len(estimates.value)
    if n_arms < 2:
        return 0.0
    deviation, errors = estimates.deviations(), estimates.errors(rng)
    widening = estimates.widening()
    worst = 0.0
    for k in range(n_arms):
        if k == chosen:
            continue
        highest = ((errors - errors[:, [k]]) / deviation[k]).max(axis=1)
        critical = widening * float(np.quantile(highest, 1 - ONE_SIDED))
        lead = estimates.value[k] - estimates.value[chosen]
        worst = max(worst, float(lead + critical * deviation[k, chosen]))
    return worst


def against(
    estimates: Estimates, reference: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (n_arms,) bounds of each one's difference to a reference, at once for all.

    They hold together with odds of 9 to 1, so for one that was chosen as well.

    Ref: Dunnett (1955).
    """
    deviation, errors = estimates.deviations()[reference], estimates.errors(rng)
    highest = np.abs((errors - errors[:, [reference]]) / deviation).max(axis=1)
    critical = estimates.widening() * float(np.quantile(highest, 1 - 2 * ONE_SIDED))
    difference = estimates.value - estimates.value[reference]
    reach = np.where(np.arange(len(difference)) == reference, 0.0, critical * deviation)
    return difference - reach, difference + reach
