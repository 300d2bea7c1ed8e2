"""Evidence: the decayed sums of cells as of some time, family by family."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bandit.families import FADING, N_COLUMNS, C, D, L, Q, U


@dataclass(frozen=True, slots=True)
class Evidence:
    """Decayed sums as of one moment: (n_categories, n_arms, N_COLUMNS) floats per family."""

    quality: NDArray[np.float64]
    usage: NDArray[np.float64]
    latency: NDArray[np.float64]
    reliability: NDArray[np.float64]
    derived: NDArray[np.float64]
    chains: NDArray[np.float64]

    @classmethod
    def empty(cls, n_categories: int, n_arms: int) -> Evidence:
        """Return no evidence at all."""
        return cls(*(np.zeros((n_categories, n_arms, N_COLUMNS)) for _ in FADING))

    def __add__(self, other: Evidence) -> Evidence:
        """Return both together."""
        return Evidence(
            self.quality + other.quality,
            self.usage + other.usage,
            self.latency + other.latency,
            self.reliability + other.reliability,
            self.derived + other.derived,
            self.chains + other.chains,
        )


MOST_PRIOR_N = 50.0
"""No prior is worth more observations than this."""
MOST_PRIOR_LATENCY_N = 10.0
"""Latencies of another run say less: of recorded endpoints one in six had moved by half."""
PRIOR_DRIFT_N = 60.0
"""Nor more than these, however large it was: between two runs cells move by an sd of .05 where
single rewards have .39, so that no number of old labels says more than .15 ÷ .0025 new ones."""


def discounted(prior: Evidence) -> Evidence:
    """Return another run's evidence as a prior: each cell scaled to what it still tells."""
    return Evidence(
        scaled_quality(prior.quality),
        scaled(prior.usage, prior.usage[..., U.N]),
        scaled(
            prior.latency,
            prior.latency[..., L.N] + prior.latency[..., L.N_CENSORED],
            most=MOST_PRIOR_LATENCY_N,
        ),
        scaled(prior.reliability, prior.reliability.sum(axis=-1)),
        scaled_derived(prior.derived),
        scaled(prior.chains, prior.chains[..., C.CALLS]),
    )


def scaled(
    values: NDArray[np.float64], n: NDArray[np.float64], most: float = MOST_PRIOR_N
) -> NDArray[np.float64]:
    """Return cells scaled to what they tell as a prior.

    Args:
        values: (..., N_COLUMNS) sums.
        n: (...) how many observations they are of.
    """
    worth = np.minimum(most, 1 / (1 / np.maximum(n, 1e-9) + 1 / PRIOR_DRIFT_N))
    return np.asarray(values * np.where(n > 0, worth / np.maximum(n, 1e-9), 0.0)[..., None])


def scaled_quality(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return labels, in the columns of QUALITY, scaled to what they tell as a prior."""
    return scaled(values, values[..., Q.N])


def scaled_derived(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the same of labels that were read off calls, in the columns of DERIVED."""
    return scaled(values, n_derived(values))


def n_derived(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (...) of how many calls the columns of DERIVED (..., N_COLUMNS) tell."""
    said = values[..., D.N] + values[..., D.PAIR_N]
    return np.asarray(np.maximum(said, values[..., D.SEEN]))
