"""Off-policy evaluation: what another policy would have earned, from a log of ours.

A log carries the exact propensity of every endpoint at each decision and the predictions that were
in force, never later ones. An estimate without enough overlap is refused instead of printed.

Ref: Horvitz and Thompson (1952) for IPS; Swaminathan and Joachims (2015), NeurIPS, for SNIPS;
Dudík, Langford, Li (2011), ICML, for DR. We deviate by stratifying over categories, and by taking
the larger of the seen and the foreseen variance. Weights that stabilise the variance (Bibaut et
al., 2021, arXiv:2106.00418) were tried: on adaptive logs they are biased by about a point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_ESS = 200.0
"""Effective decisions below which an estimate is refused."""
Z95 = 1.96
PREDICTION_RANGE = (0.01, 0.99)
NOISE_FLOOR = 1e-3
LEAST_PROPENSITY = 1e-6


@dataclass(frozen=True, slots=True)
class Log:
    """Decisions as they were made; row t is call t."""

    category: NDArray[np.intp]  # (n_calls,)
    arm: NDArray[np.intp]  # (n_calls,)
    reward: NDArray[np.float64]  # (n_calls,)
    propensity: NDArray[np.float64]  # (n_calls, n_arms), 0 where it could not be chosen
    predicted: NDArray[np.float64]  # (n_calls, n_arms) mean reward, as believed at the decision


@dataclass(frozen=True, slots=True)
class Estimate:
    """A policy's mean reward with a 95 % interval, or why there is none."""

    value: float
    low: float
    high: float
    ess: float
    refused: str | None


def effective_sample_size(log: Log, target: NDArray[np.float64]) -> float:
    """Return the lesser of the realised and the predictable effective sample size.

    Realised: (Σw)²/Σw² of the decisions made. Predictable: T² ÷ ΣₜΣₐ π²/p, which is known before
    any endpoint is drawn: one that the target wants and the log could never choose makes it 0,
    though no weight ever shows it.

    Args:
        target: (n_calls, n_arms) the target policy's probabilities at each call.
    """
    rows = np.arange(len(log.arm))
    weight = target[rows, log.arm] / log.propensity[rows, log.arm]
    square = float((weight**2).sum())
    realised = float(weight.sum() ** 2 / square) if square else 0.0
    ratio = np.where(target > 0, target**2 / np.maximum(log.propensity, 1e-9), 0.0).sum(axis=1)
    return min(realised, float(len(target) / ratio.mean()))


def doubly_robust(log: Log, target: NDArray[np.float64]) -> Estimate:
    """Return the doubly robust estimate of a target, stratified by category.

    φ = Σₐ π·q̂ + (π/p)(r − q̂); its variance is the larger of the seen one and of what Σₐ π²/p·q̂(1−q̂)
    foresees, since rare large weights may not have come up yet.
    """
    rows = np.arange(len(log.arm))
    predicted = np.clip(log.predicted, *PREDICTION_RANGE)
    weight = target[rows, log.arm] / log.propensity[rows, log.arm]
    phi = (target * predicted).sum(axis=1) + weight * (log.reward - predicted[rows, log.arm])
    noise = predicted * (1 - predicted) + NOISE_FLOOR
    possible = log.propensity > LEAST_PROPENSITY
    ratio = np.where(possible, target**2 / np.maximum(log.propensity, LEAST_PROPENSITY), 0.0)
    foreseen = (ratio * noise).sum(axis=1)
    value = variance = 0.0
    for c in np.unique(log.category):
        at = log.category == c
        mean = float(phi[at].mean())
        seen = float(((phi[at] - mean) ** 2).sum())
        value += float(at.sum()) * mean
        variance += max(seen, float(foreseen[at].sum()))
    n = len(log.arm)
    return _estimate(log, target, value / n, variance / n**2)


@dataclass(frozen=True, slots=True)
class ArmSums:
    """What a log comes to for a target that is one arm, by stratum, (n_strata,) each.

    n and q̂ are of all decisions; w = 1 ÷ propensity and r of those that drew the arm.
    """

    n: NDArray[np.float64]
    predicted: NDArray[np.float64]  # of the arm, one for the stratum
    weight: NDArray[np.float64]  # Σ w
    weight2: NDArray[np.float64]  # Σ w²
    weight_reward: NDArray[np.float64]  # Σ w·r
    weight2_reward: NDArray[np.float64]  # Σ w²·r
    weight2_reward2: NDArray[np.float64]  # Σ w²·r²


def doubly_robust_of_arm(sums: ArmSums) -> Estimate:
    """Return what `doubly_robust` would of one arm, by sums: no decision need be kept.

    What Σ 1/p of all decisions foresees is estimated by Σ w² of those that drew the arm.
    """
    q = np.clip(sums.predicted, *PREDICTION_RANGE)
    off = sums.weight_reward - q * sums.weight  # Σ w·(r − q̂)
    off2 = sums.weight2_reward2 - 2 * q * sums.weight2_reward + q**2 * sums.weight2
    n = float(sums.n.sum())
    seen = np.maximum(off2 - off**2 / np.maximum(sums.n, 1.0), 0.0)
    foreseen = sums.weight2 * (q * (1 - q) + NOISE_FLOOR)
    variance = float(np.maximum(seen, foreseen).sum())
    weight, weight2 = float(sums.weight.sum()), float(sums.weight2.sum())
    ess = weight**2 / weight2 if weight2 else 0.0
    if not n:
        return Estimate(0.5, 0.0, 1.0, 0.0, _too_few(0.0))
    value, half = float((sums.n * q + off).sum()) / n, Z95 * variance**0.5 / n
    return Estimate(value, value - half, value + half, ess, _too_few(ess))


def inverse_propensity(log: Log, target: NDArray[np.float64], *, normalised: bool) -> Estimate:
    """Return the IPS estimate, or with `normalised` the self-normalised one."""
    rows = np.arange(len(log.arm))
    weight = target[rows, log.arm] / log.propensity[rows, log.arm]
    n = len(weight)
    if not normalised:
        terms = weight * log.reward
        return _estimate(log, target, float(terms.mean()), float(terms.var(ddof=1) / n))
    total = float(weight.sum())
    if total <= 0:
        return _estimate(log, target, 0.5, 1.0)
    value = float((weight * log.reward).sum() / total)
    variance = float((weight**2 * (log.reward - value) ** 2).sum()) / total**2
    return _estimate(log, target, value, variance)


def _estimate(log: Log, target: NDArray[np.float64], value: float, variance: float) -> Estimate:
    ess = effective_sample_size(log, target)
    half = Z95 * variance**0.5
    return Estimate(value, value - half, value + half, ess, _too_few(ess))


def _too_few(ess: float) -> str | None:
    return f"effective sample size {ess:.0f} < {MIN_ESS:.0f}" if ess < MIN_ESS else None
