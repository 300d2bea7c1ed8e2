"""Derived labels: what the sidecar reads off calls by itself, held against what others say later.

A category's derived labels are calibrated on the decisions that have a stronger label as well.
Until there are enough of those pairs a derived label says whether an answer could be used: it
counts for reliability. From then on it counts for quality, at the reward that its like was given,
and only for as much as it explains. A signal that runs against the stronger labels is worth
nothing. Pure functions of sums, so that nothing has to be folded anew when a calibration moves.

Ref: Draper and Smith (1998), Applied Regression Analysis, §1 (least squares, adjusted R²).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bandit.cells import N_COLUMNS, D, Q

LEAST_PAIRS = 50
"""Pairs from which a category's derived labels are calibrated: R² is then known to about .1."""
VALID_PSEUDO_N = 10.0
"""Labels that the category's own share of usable answers is worth in that of an endpoint."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What derived labels are worth, by category; all (n_categories,)."""

    pairs: NDArray[np.float64]  # plain count of decisions with both labels
    base: NDArray[np.float64]  # expected reward where the derived label is 0
    gain: NDArray[np.float64]  # by how much it is higher at 1
    spread: NDArray[np.float64]  # variance of stronger labels
    worth: NDArray[np.float64]  # share of a stronger label's information; 0 while not calibrated

    @property
    def calibrated(self) -> NDArray[np.bool_]:
        """(n_categories,) whether derived labels count for quality there."""
        return self.pairs >= LEAST_PAIRS


def calibrate(derived: NDArray[np.float64]) -> Calibration:
    """Return what derived labels are worth, given (n_categories, n_arms, N_COLUMNS) evidence."""
    sums = derived.sum(axis=1)
    pairs = sums[:, D.PAIRS]
    n = np.maximum(sums[:, D.PAIR_N], 1e-9)
    d, s = sums[:, D.PAIR_D] / n, sums[:, D.PAIR_S] / n
    var_d = np.maximum(sums[:, D.PAIR_D2] / n - d**2, 0)
    var_s = np.maximum(sums[:, D.PAIR_S2] / n - s**2, 0)
    both = sums[:, D.PAIR_DS] / n - d * s
    useful = (pairs >= LEAST_PAIRS) & (var_d > 1e-6) & (var_s > 1e-6) & (both > 0)
    gain = np.divide(both, var_d, out=np.zeros_like(both), where=useful)
    explained = np.divide(gain * both, var_s, out=np.zeros_like(both), where=useful)
    freedom = np.maximum(pairs - 2, 1)
    adjusted = 1 - (1 - np.minimum(explained, 1)) * (freedom + 1) / freedom
    worth = np.where(useful, np.clip(adjusted, 0, 1), 0.0)
    return Calibration(pairs, s - gain * d, gain, var_s, worth)


def as_quality(derived: NDArray[np.float64], found: Calibration) -> NDArray[np.float64]:
    """Return what derived labels without a stronger one add to the evidence of quality.

    (n_categories, n_arms, N_COLUMNS) in the columns of QUALITY: as many labels as they are worth,
    at the reward that the calibration expects, with the spread of stronger labels.
    """
    n = derived[..., D.N]
    share = np.divide(derived[..., D.GOOD], n, out=np.zeros_like(n), where=n > 0)
    reward = np.clip(found.base[:, None] + found.gain[:, None] * share, 0, 1)
    worth = n * found.worth[:, None]
    out = np.zeros((*n.shape, N_COLUMNS))
    out[..., Q.LABELS] = out[..., Q.N] = worth
    out[..., Q.R] = worth * reward
    out[..., Q.R2] = worth * np.minimum(reward**2 + found.spread[:, None], reward)
    return out


def as_validity(
    derived: NDArray[np.float64], found: Calibration
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Beta parameters of the share of answers that could be used, (n_categories, n_arms).

    Shrunk to the category's own share. Where nothing was read off, or what was counts for quality
    already, the share is 1.
    """
    open_ = ~found.calibrated[:, None]
    n = derived[..., D.N] * open_
    good = np.minimum(derived[..., D.GOOD] * open_, n)
    total = n.sum(axis=1, keepdims=True)
    level = (good.sum(axis=1, keepdims=True) + 1) / (total + 1)
    prior = np.where(total > 0, VALID_PSEUDO_N, 0.0)
    good, bad = good + prior * level, n - good + prior * (1 - level)
    return np.where(total > 0, good, 1.0), np.where(total > 0, bad, 0.0)
