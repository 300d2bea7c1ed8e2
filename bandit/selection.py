"""Labels that are not given at random: successes of one endpoint labelled more often than failures.

Where every call is as likely to be labelled as any other, nothing is to be done. Where one
endpoint's calls are labelled more often than the others' in the same categories, something draws
the labels. Its share of labels ρ_e, beside the others' ρ, then tells how: with P(label) = ρ + δ for
a success and ρ − δ for a failure, a = (ρ + δ)q and b = (ρ − δ)(1 − q) labelled successes and
failures a call give q as the root of 2ρq² + (b − a − 2ρ)q + a = 0, and with it δ. Each label then
counts for ρ ÷ P(label): Horvitz and Thompson (1952). That selection is symmetric is an assumption.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIGNIFICANT = 2.0
"""Standard errors by which an endpoint's share of labels must stand above the others'."""
ALL = 0.97
"""Where this share of its calls is labelled there is nothing left to select."""
MOST_SELECTED = 0.95
"""δ as a share of ρ, at most: no failure counts for more than twenty."""


def weights(
    calls: NDArray[np.float64], labels: NDArray[np.float64], reward: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what a labelled success and a labelled failure of each group count for, (n_groups,).

    Args:
        calls, labels, reward: (n_categories, n_groups) counts of calls and labels, Σ reward.
    """
    success, failure = np.ones(calls.shape[1]), np.ones(calls.shape[1])
    if labels.sum() >= ALL * calls.sum():
        return success, failure
    known = np.minimum(labels, calls)
    others_calls = calls.sum(axis=1, keepdims=True) - calls
    others = known.sum(axis=1, keepdims=True) - known
    usual = np.divide(others, others_calls, out=np.zeros_like(calls), where=others_calls > 0)
    usable = np.where(others_calls > 0, calls, 0.0)
    n = usable.sum(axis=0)
    expected = (usable * usual).sum(axis=0)
    spread = np.sqrt(
        (usable * usual * (1 - usual) * (1 + usable / np.maximum(others_calls, 1))).sum(0)
    )
    above = (known * (others_calls > 0)).sum(axis=0) - expected
    flagged = (above > SIGNIFICANT * np.maximum(spread, 1e-9)) & (known.sum(0) < ALL * calls.sum(0))
    for g in np.flatnonzero(flagged & (expected >= 1)):
        rho = expected[g] / n[g]
        a, b = reward[:, g].sum() / n[g], (labels - reward)[:, g].sum() / n[g]
        half = (2 * rho + a - b) / 2
        root = np.sqrt(max(half**2 - 2 * rho * a, 0.0))
        roots = [(half - root) / (2 * rho), (half + root) / (2 * rho)]
        # Of two roots the one at which successes are preferred, as more labels than usual mean.
        q = min((r for r in roots if 0 < r < 1), default=a / max(a + b, 1e-9))
        delta = float(np.clip(a / max(q, 1e-9) - rho, 0, MOST_SELECTED * rho))
        success[g], failure[g] = rho / (rho + delta), rho / (rho - delta)
    return success, failure
