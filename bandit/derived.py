"""Derived labels: what the sidecar reads off calls by itself, held against what others say later.

A derived label says whether an answer could be used. A call on which no check found fault counts
as usable, and the share is over all calls that were read. A category's derived labels are
calibrated on the decisions that have a stronger label as well: they count for quality at the
reward that their like was given, and only for as much as they are sure to explain. As stronger
labels tell what faults cost, the usable share fades from reliability: it would count twice. All
of it is continuous: no single label turns anything on or off. A signal that runs against the
stronger labels is worth nothing. Pure functions of sums, so that nothing has to be folded anew
when a calibration moves.

Ref: Draper and Smith (1998), Applied Regression Analysis, §1 (least squares); Fisher (1921), "On
the 'probable error' of a coefficient of correlation", Metron 1, for the bound of a correlation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bandit.families import N_COLUMNS, D, Q

MADE_UP_PAIRS = 20.0
"""Pairs without any relation, added to those that were found: one odd pair explains nothing."""
MADE_UP_VAR_D, MADE_UP_VAR_S = 0.25, 0.05
"""Their variances: of a coin, and of the more even ones among judges' scores."""
Z = 1.645
"""Of the correlation the one-sided lower bound of 95 % counts."""
GRADED_FAULTS = 25.0
"""Faulty answers with a stronger label at which the usable share counts half."""
LIKE_OTHERS_N = 8.0
"""Quality labels that all derived ones of a cell together are worth, at most, where they explain
little. They say what answers like these earn over all endpoints of the category; how far one
endpoint's own differ from that, a sd of about .15 where single rewards have .4, no number of
derived labels tells. Where they explain more, less is left to differ."""
VALID_PSEUDO_N = 100.0
"""Calls that the category's own share of usable answers is worth in that of an endpoint, and that
a clean record is worth in the category's: as much as reliability's prior. Three faults in ten
calls then cost an endpoint two points; a hundred in a thousand all ten."""
VALID_PSEUDO_FAULTS = 1.0
"""The category's share is worth at least as many calls as have one fault among them. Where faults
are rare an endpoint is then held worse than three clean ones, with .95, from the fourth or fifth
fault on; without this from the first, since a share never seen to fail would be drawn as sure."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What derived labels are worth, by category; all (n_categories,)."""

    pairs: NDArray[np.float64]  # plain count of decisions with both labels
    base: NDArray[np.float64]  # expected reward where the derived label is 0
    gain: NDArray[np.float64]  # by how much it is higher at 1
    spread: NDArray[np.float64]  # variance of stronger labels
    worth: NDArray[np.float64]  # share of a stronger label's information
    fading: NDArray[np.float64]  # for how much of it the usable share counts for reliability


def calibrate(derived: NDArray[np.float64]) -> Calibration:
    """Return what derived labels are worth, given (n_categories, n_arms, N_COLUMNS) evidence.

    The worth of a label is the square of what the correlation of both kinds surely exceeds.
    """
    sums = derived.sum(axis=1)
    pairs = sums[:, D.PAIRS]
    # Decayed pairs tell less than their number says; heavy ones no more than it.
    heard = np.minimum(pairs, sums[:, D.PAIR_N])
    n = np.maximum(sums[:, D.PAIR_N], 1e-9)
    d, s = sums[:, D.PAIR_D] / n, sums[:, D.PAIR_S] / n
    var_d = np.maximum(sums[:, D.PAIR_D2] / n - d**2, 0)
    var_s = np.maximum(sums[:, D.PAIR_S2] / n - s**2, 0)
    both = np.maximum(sums[:, D.PAIR_DS] / n - d * s, 0)
    gain = np.divide(both, var_d, out=np.zeros_like(both), where=var_d > 1e-6)
    spread_d = heard * var_d + MADE_UP_PAIRS * MADE_UP_VAR_D
    spread_s = heard * var_s + MADE_UP_PAIRS * MADE_UP_VAR_S
    correlation = np.clip(heard * both / np.sqrt(spread_d * spread_s), 0, 1 - 1e-9)
    bound = np.arctanh(correlation) - Z / np.sqrt(heard + MADE_UP_PAIRS - 3)
    worth = np.tanh(np.maximum(bound, 0)) ** 2
    graded = np.maximum(sums[:, D.PAIR_N] - sums[:, D.PAIR_D], 0)
    fading = GRADED_FAULTS / (GRADED_FAULTS + graded)
    return Calibration(pairs, s - gain * d, gain, var_s, worth, fading)


def as_quality(derived: NDArray[np.float64], found: Calibration) -> NDArray[np.float64]:
    """Return what derived labels without a stronger one add to the evidence of quality.

    (n_categories, n_arms, N_COLUMNS) in the columns of QUALITY: as many labels as they are worth,
    at the reward that the calibration expects, with the spread of stronger labels. However many
    there are, they tell no more than the pairs from which that reward is known, nor than how much
    endpoints are alike in it.
    """
    n = derived[..., D.N]
    share = np.divide(derived[..., D.GOOD], n, out=np.zeros_like(n), where=n > 0)
    reward = np.clip(found.base[:, None] + found.gain[:, None] * share, 0, 1)
    worth = n * found.worth[:, None]
    unknown = 1 / LIKE_OTHERS_N + 1 / np.maximum(found.pairs, 1e-9)
    most = 1 / (np.maximum(1 - found.worth, 1e-9) * unknown)[:, None]
    worth = np.divide(worth * most, worth + most, out=np.zeros_like(worth), where=worth > 0)
    out = np.zeros((*n.shape, N_COLUMNS))
    out[..., Q.LABELS] = out[..., Q.N] = worth
    out[..., Q.R] = worth * reward
    out[..., Q.R2] = worth * np.minimum(reward**2 + found.spread[:, None], reward)
    return out


def usable(derived: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Beta parameters of the share of answers that could be used, (n_categories, n_arms).

    Shrunk to the category's own share, and that to 1, where it stays until a fault is found.
    """
    seen, faults = checked(derived)
    total = seen.sum(axis=1, keepdims=True)
    level = faults.sum(axis=1, keepdims=True) / (total + VALID_PSEUDO_N)
    rare = np.divide(VALID_PSEUDO_FAULTS, level, out=np.zeros_like(level), where=level > 1e-12)
    prior = VALID_PSEUDO_N + rare
    invalid = faults + np.where(rare > 0, prior * level, 0.0)
    return np.maximum(seen + prior - invalid, 1e-9), invalid


def as_validity(
    derived: NDArray[np.float64], found: Calibration
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what of `usable` counts for reliability: less, as stronger labels tell it already."""
    valid, invalid = usable(derived)
    told = (1 - found.fading)[:, None] * invalid
    return valid + told, invalid - told


def checked(
    derived: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how many calls were read, and how many were found at fault, (n_categories, n_arms).

    With a stronger label or without. Where rows do not say how many were read, or say less than
    there are labels (a caller may give some, too), it is the calls with a derived label.
    """
    said = derived[..., D.N] + derived[..., D.PAIR_N]
    faults = said - derived[..., D.GOOD] - derived[..., D.PAIR_D]
    seen = np.maximum(derived[..., D.SEEN], said)
    return seen, np.clip(faults, 0, seen)
