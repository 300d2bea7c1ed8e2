"""Pacing: the shadow price that makes what is left of a budget last, of money or of lateness.

The price is solved anew from bank, costs, traffic and what is left, whenever the posterior is
inferred anew. So it has no step size and no memory: the same snapshot gives the same price.

Ref: Jasin and Kumar (2012), "A re-solving heuristic with bounded revenue loss", OR 60(4);
Agrawal and Devanur (2016), arXiv:1402.5758, for the dual view. What is spent is the actual cost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bandit.utility import Objective, Order

ITERATIONS = 22
"""Halvings of ln λ's range: to 5e-6, closer than two arms' slopes ever matter."""
SPAN = 1e5
"""λ is sought within this factor of 1 ÷ mean cost, so that it is free of scale."""
FREE = 0.0
STEP = 0.01
"""Of ln λ between prices that are gone by for long: what is worked out for one price serves again
when it returns, and a hundredth of a price moves nobody's place by more than its cost is known."""


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


def on_grid(
    price: Price,
    scores: NDArray[np.float64],
    use: NDArray[np.float64],
    traffic: NDArray[np.float64],
    *,
    target: float,
) -> Price:
    """Return the prices of a grid beside a solved one, mixed so that the next call uses `target`.

    Args:
        scores, use, traffic: as of `solve`, which found the price.
    """
    if price.high == FREE:
        return price
    low = float(np.exp(STEP * np.floor(np.log(price.low) / STEP)))
    high = float(np.exp(STEP * np.ceil(np.log(price.high) / STEP)))
    dear, cheap = (spend(at, scores, use, traffic) for at in (low, high))
    if dear <= target:
        return Price(low, high, 1.0)
    return Price(low, high, float(np.clip((target - cheap) / max(dear - cheap, 1e-15), 0.0, 1.0)))


def with_price(objective: Objective, price: float) -> Objective:
    """Return an objective under which money costs more: 1 ÷ value + price successes a USD.

    What waiting is worth in successes stays as it was. An order is the user's own, and stays.

    Raises:
        ValueError: the value of a success differs between categories; take one category's first.
    """
    if price <= 0 or objective.order is not Order.UTILITY:
        return objective
    if objective.values_usd is not None:
        raise ValueError("a price for an objective of several values; take that of one category")
    own = objective.value_usd
    if own is None:  # then waiting is worth nothing either
        return replace(objective, value_usd=1 / price, latency_usd_per_s=0.0)
    value = 1 / (1 / own + price)
    return replace(
        objective, value_usd=value, latency_usd_per_s=objective.latency_usd_per_s * value / own
    )


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
