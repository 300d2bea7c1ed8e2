"""The trade in words: up to 20 % more than the incumbent costs, for 5 more successes in 100 calls.

It is said as a share of what the incumbent costs, so the money that a success is worth follows
from that cost, task by task: value = pay × cost of a call ÷ gain. On list prices and usual tokens
before any call, on the tokens seen as calls come.

What a group is worth then depends on how its cost *compares* with the incumbent's,
quality − cost ÷ incumbent's cost × gain ÷ pay, so what moves both, such as longer prompts, moves
nothing. What moves one of the two alone moves the trade; so a release weighs how uncertain both
costs are as well as quality, and must hold where the money between them counts a quarter more, and
where it counts a fifth less. An estimate that wavers by less takes no choice there and back, and
between reviews, at most one a day of what is certain aside, no estimate moves a choice at all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from bandit.posterior import Posterior
from bandit.utility import Objective

LEAST_VALUE_USD = 1e-12
"""Of a success where the incumbent costs nothing: then nothing that costs is worth it."""
SLACK = 1.25
"""How far the value may move, up or down, without taking a release back. UNVALIDATED."""


@dataclass(frozen=True, slots=True)
class Trade:
    """How much more may be paid, for how much better answers."""

    pay: float  # as a share of what the incumbent's call costs
    gain: float  # successes a call, above the incumbent's

    def value_usd(self, cost_usd: float) -> float:
        """Return what a success is worth where the incumbent's call costs this much."""
        return max(self.pay * cost_usd / self.gain, LEAST_VALUE_USD)


def with_trade(objective: Objective, trade: Trade, posterior: Posterior, arm: int) -> Objective:
    """Return the objective with the value of a success in every category.

    Args:
        arm: the incumbent.
    """
    costs = posterior.cost_usd[:, arm].tolist()
    values = tuple(trade.value_usd(cost) for cost in costs)
    return replace(objective, value_usd=None, values_usd=values, slack=SLACK)
