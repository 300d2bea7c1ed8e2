"""One week under an order strategy: who was chosen, who served, what it cost beside the best."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bandit import incumbent
from bandit.draws import propensities, tabulate
from bandit.incumbent import Release, Standings
from bandit.orders import REVIEW_EVERY_S
from bandit.posterior import Posterior, infer
from bandit.utility import FLOOR_SHARE, Objective, Order
from scripts.benches.orders_rules import EVERYBODY, CalmRules, HastyRules, OrderRules
from scripts.benches.orders_world import (
    BEGAN_MS,
    HOUR_S,
    N_ENDPOINTS,
    N_TASKS,
    SPARSE,
    WEEK_S,
    OrderTraffic,
    OrderWorld,
)

LOOK_S = 900.0
"""Between two looks. Live there is one with every commit: what moves at every look is told here
rather too seldom."""
OUTAGE_S = 4 * HOUR_S
LOST_S = 600.0
AFTER_S = 24 * HOUR_S
"""Until so long after an outage moves from and to who was away are due to it."""


@dataclass(slots=True)
class OrderWeek:
    """What happened; times in seconds since the week began."""

    world: OrderWorld
    objective: Objective
    moves: list[tuple[float, Release]] = field(default_factory=list)
    calls: NDArray[np.float64] = field(default_factory=lambda: np.zeros((N_TASKS, N_ENDPOINTS)))
    chosen: NDArray[np.float64] = field(default_factory=lambda: np.zeros((N_TASKS, N_ENDPOINTS)))
    """Calls while each was the choice, whoever served them."""
    outage: tuple[float, int] = (0.0, 0)

    @property
    def price(self) -> NDArray[np.float64]:
        """What the order is after, truly: USD a success, or seconds an answer."""
        world = self.world
        if self.objective.order is Order.CHEAPEST:
            return world.usd / (world.ok * world.quality)
        return world.seconds / world.ok

    @property
    def shortfall(self) -> NDArray[np.float64]:
        """(n_tasks, n_endpoints) how far each quality is below the floor."""
        quality = self.world.quality
        floor = FLOOR_SHARE * quality.max(axis=1, keepdims=True)
        return np.asarray(np.maximum(floor - quality, 0.0))

    def is_of_outage(self, at_s: float, release: Release) -> bool:
        """Return whether a move is due to the outage."""
        began_s, who = self.outage
        during = began_s <= at_s < began_s + OUTAGE_S + AFTER_S
        return during and who in (release.before, release.after)

    def figures(self) -> dict[str, float]:
        """Return moves a task, shares below the floor, and what it cost over the best in hindsight.

        The best is each task's own, of those truly above the floor, over the week as a whole.
        """
        world, total = self.world, self.calls.sum()
        calm = [r for at_s, r in self.moves if not self.is_of_outage(at_s, r)]
        price = self.price
        best = np.where(world.is_above, price, np.inf).min(axis=1)[:, None]
        return {
            "moves": len(calm) / N_TASKS,
            "most_moves": max(sum(r.task == task for r in calm) for task in range(N_TASKS)),
            "outage_moves": (len(self.moves) - len(calm)) / N_TASKS,
            "below_floor": float((self.calls * ~world.is_above).sum() / total),
            "points_below": float((self.calls * self.shortfall).sum() / total),
            "choice_below_floor": float((self.chosen * ~world.is_above).sum() / total),
            "over_best": _over(self.calls, price, best),
            "choice_over_best": _over(self.chosen, price, best),
        }


def _over(
    calls: NDArray[np.float64], price: NDArray[np.float64], best: NDArray[np.float64]
) -> float:
    """Return by how much all calls together were dearer than at the best, as a share."""
    return float((calls * price).sum() / (calls * best).sum() - 1)


def play(
    seed: int, order: Order, rules_name: str, *, labelled: float = SPARSE, span_s: float = WEEK_S
) -> OrderWeek:
    """Return a week; the world and its luck are the same under both rules."""
    world = OrderWorld.draw(np.random.default_rng([seed, 0]))
    traffic = OrderTraffic(world, np.random.default_rng([seed, 1]), labelled=labelled)
    luck = np.random.default_rng([seed, 2])
    listed = luck.permutation(N_ENDPOINTS).astype(float)
    rules: OrderRules = CalmRules(listed) if rules_name == "after" else HastyRules(listed)
    week = OrderWeek(world, Objective(order))
    began_s = round(luck.uniform(0.3, 0.8) * span_s / LOOK_S) * LOOK_S
    standings = incumbent.begin(world.incumbent, N_TASKS)
    settled, hour = np.zeros(N_TASKS, dtype=bool), 0
    for look in range(round(span_s / LOOK_S)):
        at_s = look * LOOK_S
        if at_s == began_s:
            week.outage = (began_s, int(standings.current[0]))
        away = week.outage[1] if began_s <= at_s < began_s + OUTAGE_S else None
        lost = away if at_s - began_s >= LOST_S else None
        posterior = rules.posterior(infer(traffic.evidence(at_s), world.arms))
        if int(at_s // REVIEW_EVERY_S) != hour:
            hour, settled = int(at_s // REVIEW_EVERY_S), np.zeros(N_TASKS, dtype=bool)
        now_ms = BEGAN_MS + round(at_s * 1000)
        standings, released, new = rules.review(
            standings, posterior, week.objective, ~settled, lost, now_ms
        )
        settled |= new
        week.moves += [(at_s, r) for r in released]
        share = _shares(rules, standings, posterior, week.objective, away)
        calls = traffic.serve(share, at_s, LOOK_S, away)
        week.calls += calls
        week.chosen[np.arange(N_TASKS), standings.current] += calls.sum(axis=1)
    return week


def _shares(
    rules: OrderRules,
    standings: Standings,
    posterior: Posterior,
    objective: Objective,
    away: int | None,
) -> NDArray[np.float64]:
    """Return (n_tasks, n_endpoints) the probabilities of the next draws."""
    eligible = EVERYBODY & (np.arange(N_ENDPOINTS) != (-1 if away is None else away))
    out = []
    for task in range(N_TASKS):
        law = rules.law(standings, posterior, task)
        bank = posterior.bank(task, sharpness=1.0)
        table = tabulate(bank, objective=objective, law=law, eligible=eligible)
        out.append(propensities(law, table))
    return np.array(out)
