"""Pacing: the shadow price that makes what is left of a budget last, of money or of lateness.

The price is solved anew from bank, costs, traffic and what is left, whenever the posterior is
inferred anew. So it has no step size and no memory: the same snapshot gives the same price.

Ref: Jasin and Kumar (2012), "A re-solving heuristic with bounded revenue loss", OR 60(4);
Agrawal and Devanur (2016), arXiv:1402.5758, for the dual view. What is spent is the actual cost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ITERATIONS = 22
"""Halvings of ln λ's range: to 5e-6, closer than two arms' slopes ever matter."""
SPAN = 1e5
"""λ is sought within this factor of 1 ÷ mean cost, so that it is free of scale."""
FREE = 0.0


@dataclass(frozen=True, slots=True)
class Price:
    """λ in score units per unit of what is rationed: `low` with probability `p_low`, else `high`.

    The two meet at a breakpoint where one endpoint's place is taken by another's.
    """

    low: float = FREE
    high: float = FREE
    p_low: float = 1.0


def spend(
    price: float,
    scores: NDArray[np.float64],
    use: NDArray[np.float64],
    traffic: NDArray[np.float64],
) -> float:
    """Return what the next call is expected to use up at a price.

    Args:
        scores: (n_draws, n_categories, n_arms) of banks; -inf for whoever is not eligible.
        use: (n_categories, n_arms) expected of a call: USD, or the probability of a slow answer.
        traffic: (n_categories,) share of the calls, adding up to 1.
    """
    best = (scores - price * use).argmax(axis=2)
    return float(use[np.arange(len(use)), best].mean(axis=0) @ traffic)


def solve(
    scores: NDArray[np.float64],
    use: NDArray[np.float64],
    traffic: NDArray[np.float64],
    *,
    target: float,
) -> Price:
    """Return the least price at which the next call uses up `target`; free if that is enough."""
    if spend(FREE, scores, use, traffic) <= target:
        return Price()
    scale = 1.0 / max(float(use.mean()), 1e-12)
    low, high = np.log(scale / SPAN), np.log(scale * SPAN)
    for _ in range(ITERATIONS):
        middle = (low + high) / 2
        if spend(float(np.exp(middle)), scores, use, traffic) > target:
            low = middle
        else:
            high = middle
    at_low, at_high = float(np.exp(low)), float(np.exp(high))
    dear = spend(at_low, scores, use, traffic)
    cheap = spend(at_high, scores, use, traffic)
    p_low = (target - cheap) / max(dear - cheap, 1e-15)
    return Price(at_low, at_high, float(np.clip(p_low, 0.0, 1.0)))


def affordable(
    category: int,
    *,
    cost_usd: NDArray[np.float64],
    dearest_usd: NDArray[np.float64],
    traffic: NDArray[np.float64],
    left_usd: float,
    left_calls: float,
) -> NDArray[np.bool_]:
    """Return (n_arms,) who leaves the cheapest endpoints affordable for all calls to come.

    This guards the end of a window: the dearest call that an endpoint was ever seen to make must
    still fit. The cheapest endpoint is always allowed, since somebody has to answer.

    Args:
        cost_usd: (n_categories, n_arms) expected.
        dearest_usd: (n_arms,) the most that one call of each ever cost.
    """
    reserve = (left_calls - 1) * float(traffic @ cost_usd.min(axis=1))
    fits = np.maximum(cost_usd[category], dearest_usd) <= left_usd - reserve
    fits[cost_usd[category].argmin()] = True
    return np.asarray(fits)
