"""Cost: prices are configuration, tokens are learned; so a price change acts at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TOKENS_PRIOR_N = 3.0
"""A new endpoint is taken to use its category's mean tokens, worth three calls."""
TOKENS_DEFAULT = (500.0, 200.0)
"""Tokens in and out where nothing was ever called; only their ratio matters, and that little."""
MACHINE_PRIOR_S = 1.0
MACHINE_PRIOR_N = 3.0
"""A call is taken to have a machine of its own for a second, worth three calls: UNVALIDATED."""
Z90, Z95, Z99 = 1.2816, 1.6449, 2.3263
MAX_LN_VARIANCE = 1.0
"""Of a call's ln(tokens): two odd calls make no endpoint's cost a guess."""
TOKENS_DEFAULT_N = 0.001
"""So that the default yields to the first real call."""


def expected_tokens(
    n: NDArray[np.float64], tokens: NDArray[np.float64], *, default: float
) -> NDArray[np.float64]:
    """Return expected tokens a call, (n_categories, n_arms), shrunk to the category's mean.

    Args:
        n: (n_categories, n_arms) decayed calls with known usage.
        tokens: decayed sums of tokens over the same calls.
        default: tokens a call where the category has none.
    """
    weight = TOKENS_DEFAULT_N
    mean = (tokens.sum(axis=1) + weight * default) / (n.sum(axis=1) + weight)
    wordy = _wordiness(n, tokens, mean)
    typical = (tokens / np.maximum(wordy, 1e-9)).sum(axis=1) + weight * default
    expected = (typical / (n.sum(axis=1) + weight))[:, None] * wordy
    return (tokens + TOKENS_PRIOR_N * expected) / (n + TOKENS_PRIOR_N)


def bound_factor(
    n: NDArray[np.float64],
    ln: NDArray[np.float64],
    ln2: NDArray[np.float64],
    *,
    z: float = Z90,
) -> NDArray[np.float64]:
    """Return how many times its expected cost nine calls of ten stay below, (n_categories, n_arms).

    Tokens are taken as log-normal; their spread is shrunk to sd 1, worth three calls.

    Args:
        z: of another share of calls, `Z95` of nineteen in twenty.
    """
    variance = _ln_variance(n, ln, ln2)
    return np.asarray(np.exp(z * np.sqrt(variance) - variance / 2))


def relative_sd(
    n: NDArray[np.float64], ln: NDArray[np.float64], ln2: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how uncertain expected tokens are, as a share of them, (n_categories, n_arms).

    That of a mean of log-normals; .76 where nobody called, since endpoints differ in wordiness.
    """
    variance = np.minimum(_ln_variance(n, ln, ln2), MAX_LN_VARIANCE)
    return np.asarray(np.sqrt(np.expm1(variance) / (n + TOKENS_PRIOR_N)))


def _ln_variance(
    n: NDArray[np.float64], ln: NDArray[np.float64], ln2: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the variance of ln(tokens of a call), shrunk to 1, worth three calls."""
    mean = np.divide(ln, n, out=np.zeros_like(ln), where=n > 0)
    scatter = np.maximum(ln2 - n * mean**2, 0)
    return np.asarray((scatter + TOKENS_PRIOR_N) / (np.maximum(n - 1, 0) + TOKENS_PRIOR_N))


def expected_machine_cost(
    n: NDArray[np.float64], spent_usd: NDArray[np.float64], *, usd_per_s: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return expected USD a call of a machine's time, (n_categories, n_arms); 0 where it has none.

    How many calls share the machine is known from the books alone, so they are what is gone by.

    Args:
        n: (n_categories, n_arms) decayed calls with a known cost.
        spent_usd: decayed sums of it.
        usd_per_s: (n_arms,) of the machine.
    """
    seen = (spent_usd + MACHINE_PRIOR_N * MACHINE_PRIOR_S * usd_per_s) / (n + MACHINE_PRIOR_N)
    return np.where(usd_per_s > 0, seen, 0.0)


def machine_sd(n: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how uncertain a call's expected share of a machine is, as a part of it.

    That of a mean of calls whose shares vary as much as their mean: UNVALIDATED.

    Args:
        n: (n_categories, n_arms) decayed calls with a known cost.
    """
    return np.asarray(1 / np.sqrt(n + MACHINE_PRIOR_N))


def _wordiness(
    n: NDArray[np.float64], tokens: NDArray[np.float64], mean: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return (n_arms,) how many times the category's mean an arm uses, 1 where it is unknown."""
    usual = (n * mean[:, None]).sum(axis=0)
    prior = TOKENS_PRIOR_N * mean.mean()
    return (tokens.sum(axis=0) + prior) / np.maximum(usual + prior, 1e-300)


def expected_cost(
    tokens_in: NDArray[np.float64],
    tokens_out: NDArray[np.float64],
    *,
    input_usd_per_mtok: NDArray[np.float64],
    output_usd_per_mtok: NDArray[np.float64],
    machine_usd: NDArray[np.float64] | float = 0.0,
) -> NDArray[np.float64]:
    """Return expected USD a call, (n_categories, n_arms); an unpriced arm costs as the dearest.

    Pessimism is the point: a price that nobody wrote down must not attract traffic. Where no arm
    has a price all cost 0.

    Args:
        machine_usd: a call's share of a machine that is paid by the hour.
    """
    usd = (tokens_in * input_usd_per_mtok + tokens_out * output_usd_per_mtok) / 1e6 + machine_usd
    known = np.isfinite(usd)
    if not known.any():
        return np.zeros_like(usd)
    dearest = np.where(known, usd, 0.0).max(axis=1, keepdims=True)
    return np.where(known, usd, dearest)
