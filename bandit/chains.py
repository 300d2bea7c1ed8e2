"""Chains: what a call costs, and how long it takes, until there is an answer that is kept.

A chain begins with a call's first attempt. To it belong that call's further attempts, wherever
they went, and the calls by which its app asked the same again. All of it counts for the endpoint
that the first attempt went to:

    extra of a call = further attempts of a call + repeats of a chain,

where chains are the calls that repeat no other. A call's own cost and seconds are not in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bandit.families import C

PRIOR_N = 3.0
"""An endpoint is taken to answer for good at the first attempt, worth so many calls. It is not
taken to be as its category: what a dear endpoint's repeats cost would be charged to a cheap one
that nobody has tried."""
SPREAD = 1.0
"""What one link of a chain costs varies as much as its mean: UNVALIDATED."""


@dataclass(frozen=True, eq=False)
class Chains:
    """What comes after a call, each (n_categories, n_arms)."""

    usd: NDArray[np.float64]  # expected
    seconds: NDArray[np.float64]  # expected, until the end of the last answer
    links: NDArray[np.float64]  # further attempts and repeats that were seen, decayed
    per_call: NDArray[np.float64]  # expected number of them

    @property
    def ln_sd(self) -> NDArray[np.float64]:
        """(n_categories, n_arms) sd of the logarithm of either figure."""
        return np.asarray(np.sqrt(np.log1p((1 + SPREAD**2) / (self.links + 1))))

    def luck(
        self, category: int, rng: np.random.Generator, *, n_draws: int, sharpness: float
    ) -> NDArray[np.float64] | float:
        """Return (n_draws, n_arms) factors of mean 1 by which dollars and seconds may be off.

        1 where nothing ever came after a call.
        """
        if not self.links[category].any():
            return 1.0
        sd = self.ln_sd[category] / np.sqrt(sharpness)
        return np.asarray(np.exp(sd * rng.standard_normal((n_draws, len(sd))) - sd**2 / 2))


def fit(values: NDArray[np.float64]) -> Chains:
    """Return what comes after a call, given decayed sums.

    Args:
        values: (n_categories, n_arms, N_COLUMNS) in the columns of CHAINS.
    """
    sums = np.maximum(values, 0.0)
    calls = sums[..., C.CALLS]
    chains = calls - np.minimum(sums[..., C.REPEATS], calls)
    of_call, of_chain = 1 / (calls + PRIOR_N), 1 / (chains + PRIOR_N)
    return Chains(
        usd=(sums[..., C.MORE_NANO] * of_call + sums[..., C.AGAIN_NANO] * of_chain) / 1e9,
        seconds=(sums[..., C.MORE_MS] * of_call + sums[..., C.AGAIN_MS] * of_chain) / 1e3,
        links=sums[..., C.N_MORE] + sums[..., C.N_AGAIN],
        per_call=sums[..., C.N_MORE] * of_call + sums[..., C.N_AGAIN] * of_chain,
    )
