"""What a strategy maximises, as scores over the rows of a bank: the higher, the better."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from bandit.posterior import N_DRAWS, Bank, Posterior
from bandit.reliability import upper_bound
from bandit.special import ndtr

FLOOR_SHARE = 0.9
"""An order strategy serves nothing below this share of the best known quality."""
TASK_LABELS, APP_LABELS = 20, 30
"""Labels in this task, or over all tasks of the app, without which there is no verdict: nothing is
explored beside an incumbent, and nobody falls below an order's floor."""
LEAST_ODDS = 0.3
"""P(quality ≥ floor) below which nobody is served under an order."""
FASTEST_OK_RATE = 0.95
FASTEST_LEVEL = 0.9
"""`fastest` leaves out endpoints whose answered share is below .95 with 90 % certainty."""
EQUAL_COST = 1.01
"""Hosts within 1 % of the least cost count as equally dear."""
MAX_REMEMBERED = 256
"""Objectives of which a bank or posterior remembers scores; a bound, as prices of money move."""
LEAST_QUALITY = 0.01
"""Cost per success divides by quality; below this an endpoint is as good as useless."""


def enough_labels(
    labels: NDArray[np.float64], *, once: NDArray[np.float64] | None = None
) -> NDArray[np.bool_]:
    """Return (n_tasks, n_groups) where (n_tasks, n_groups) labels suffice for a verdict.

    Args:
        once: the rows of them that hold each label once; None: all do.
    """
    total = (labels if once is None else once).sum(axis=0)
    return (labels >= TASK_LABELS) | (total >= APP_LABELS)


def may_judge(posterior: Posterior) -> NDArray[np.bool_]:
    """Return (n_categories, n_groups) where labels suffice for a verdict, each counted once."""
    labels = posterior.arms.by_group(posterior.labels)
    return enough_labels(labels, once=labels[posterior.is_top])


class Order(StrEnum):
    """How a strategy ranks: by belief in utility, or by the user's own order."""

    UTILITY = "utility"
    CHEAPEST = "cheapest"
    FASTEST = "fastest"


@dataclass(frozen=True, slots=True)
class Objective:
    """What a strategy wants; money in USD.

    `value_usd` is what one success is worth; None means that quality alone counts. Where it is
    worth something else in each category, `values_usd` says what.
    """

    order: Order = Order.UTILITY
    value_usd: float | None = None
    latency_usd_per_s: float = 0.0
    values_usd: tuple[float, ...] | None = None  # (n_categories,) instead of `value_usd`
    slack: float = 1.0  # a release must hold at so many times the value, and at that part of it;
    # where it is not 1, costs are no more certain than they are known

    @property
    def has_value(self) -> bool:
        """Whether cost counts: a success is worth some money."""
        return self.value_usd is not None or self.values_usd is not None

    def at(self, category: int) -> Objective:
        """Return the objective of one category: the same, unless values differ between them."""
        if self.values_usd is None:
            return self
        return Objective(self.order, self.values_usd[category], self.latency_usd_per_s)

    def extremes(self) -> tuple[Objective, ...]:
        """Return the objectives under which a release must hold: itself, unless it has slack."""
        if self.slack == 1 or not self.has_value:
            return (self,)
        return tuple(self._times(factor) for factor in (1 / self.slack, self.slack))

    def _times(self, factor: float) -> Objective:
        value = None if self.value_usd is None else self.value_usd * factor
        values = self.values_usd and tuple(v * factor for v in self.values_usd)
        return replace(self, value_usd=value, values_usd=values)


def priced(
    cost_usd: NDArray[np.float64], latency_s: NDArray[np.float64] | None, objective: Objective
) -> NDArray[np.float64]:
    """Return what cost and waiting take off a reward, in successes; 0 where none has a value.

    Args:
        latency_s: shape of `cost_usd`; None where it was not measured, and then is not priced.
        objective: with one value for all categories, or none.
    """
    if objective.value_usd is None:
        return np.zeros_like(cost_usd)
    spent = cost_usd if latency_s is None else cost_usd + latency_s * objective.latency_usd_per_s
    return spent / objective.value_usd


BALANCED = Objective(Order.UTILITY, value_usd=0.05, latency_usd_per_s=0.0005)
"""The strategy `balanced`, in the sidecar as in a replay. Guesses to be replaced by the user's own:
a success is worth five cents, and ten seconds of waiting a tenth of that. UNVALIDATED."""


def arm_scores(bank: Bank, objective: Objective) -> NDArray[np.float64]:
    """Return (n_draws, n_arms) scores; worked out once for each bank and objective.

    `utility` is value × reward − cost − priced latency, where an unanswered call earns nothing.
    Cost and latency are those of whole chains.
    """
    found = bank.memory.get(objective)
    if found is None:
        if len(bank.memory) >= MAX_REMEMBERED:
            bank.memory.clear()
        found = bank.memory[objective] = _scores(bank, objective).astype(np.float32)
    return found


def _scores(bank: Bank, objective: Objective) -> NDArray[np.float64]:
    objective = objective.at(bank.category)
    if objective.order is Order.CHEAPEST:
        labelled = bank.posterior.judged[bank.category].any()
        success = np.maximum(bank.quality, LEAST_QUALITY) if labelled else 1.0
        return -bank.spent_usd / (bank.ok * success)
    if objective.order is Order.FASTEST:
        return -bank.latency_s / bank.ok
    if objective.value_usd is None:
        return bank.ok * bank.quality
    scores = objective.value_usd * bank.ok * bank.quality - bank.drawn_usd
    if objective.latency_usd_per_s:
        scores = scores - objective.latency_usd_per_s * bank.latency_s
    return scores


def bank_utility(bank: Bank, objective: Objective) -> NDArray[np.float64]:
    """Return (n_groups,) posterior mean utility in the bank's category."""
    return mean_utility(bank.posterior, objective)[bank.category]


def bank_cost(bank: Bank) -> NDArray[np.float64]:
    """Return (n_groups,) expected USD a chain at each group's cheapest host, worked out once."""
    found = bank.memory.get("cost")
    if found is None:
        arms = bank.posterior.arms
        found = bank.memory["cost"] = np.full(arms.n_groups, np.inf)
        np.minimum.at(found, arms.group, bank.cost_usd)
    return found


def best_first(bank: Bank, values: NDArray[np.float64], name: object) -> list[int]:
    """Return groups in falling order of `values`, sorted once for each bank and name."""
    found = bank.rankings.get(name)
    if found is None:
        if len(bank.rankings) >= MAX_REMEMBERED:
            bank.rankings.clear()
        found = bank.rankings[name] = np.argsort(-values, kind="stable").tolist()
    return found


def mean_utility(posterior: Posterior, objective: Objective) -> NDArray[np.float64]:
    """Return (n_categories, n_groups) posterior mean utility at each group's best host.

    In successes where the objective has no value, else in units of that value; worked out once
    for each posterior and objective.
    """
    found = posterior.memory.get(objective)
    if found is None:
        if len(posterior.memory) >= MAX_REMEMBERED:
            posterior.memory.clear()
        found = posterior.memory[objective] = _mean_utility(posterior, objective)
    return found


def _mean_utility(posterior: Posterior, objective: Objective) -> NDArray[np.float64]:
    arms, at_host = posterior.arms, mean_at_hosts(posterior, objective)
    if arms.n_groups == len(arms.group):
        return at_host
    best = np.full((len(at_host), arms.n_groups), -np.inf)
    np.maximum.at(best.T, arms.group, at_host.T)
    return best


def mean_at_hosts(posterior: Posterior, objective: Objective) -> NDArray[np.float64]:
    """Return (n_categories, n_arms) posterior mean utility; units as of `mean_utility`."""
    arms = posterior.arms
    mean = posterior.quality.mean
    ok = posterior.reliability.mean
    if objective.has_value:
        values = objective.value_usd if objective.values_usd is None else objective.values_usd
        value = np.reshape(np.asarray(values, dtype=float), (-1, 1))
        price = posterior.cost_usd / value
        if objective.latency_usd_per_s:
            price = price + posterior.seconds * (objective.latency_usd_per_s / value)
    else:
        price = np.zeros_like(ok)
    return np.asarray(mean[:, arms.group] * ok - price)


def best_hosts(bank: Bank, objective: Objective, hosts: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return for each row the best of one group's hosts: cost, latency and reliability only.

    Under an order it is the first in it: `fastest` by drawn latency ÷ answered share, `cheapest` by
    cost ÷ answered share. Under a utility where latency has a price it is utility without quality;
    where it has none, the least drawn latency among the hosts within 1 % of the least drawn
    cost ÷ answered share. What is free is equally cheap, and the faster is taken.
    """
    if len(hosts) == 1:
        return np.full(N_DRAWS, hosts[0])
    objective = objective.at(bank.category)
    ok, seconds, usd = bank.ok[:, hosts], bank.latency_s[:, hosts], bank.drawn_usd[:, hosts]
    if objective.order is Order.FASTEST:
        return hosts[(seconds / ok).argmin(axis=1)]
    if objective.latency_usd_per_s > 0 and objective.value_usd is not None:
        score = objective.value_usd * ok - usd - objective.latency_usd_per_s * seconds
        return hosts[score.argmax(axis=1)]
    per_answer = usd / ok
    margin = 1.0 if objective.order is Order.CHEAPEST else EQUAL_COST
    fair = per_answer <= margin * per_answer.min(axis=1, keepdims=True)
    return hosts[np.where(fair, seconds, np.inf).argmin(axis=1)]


def admitted(
    posterior: Posterior, category: int, objective: Objective, eligible: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return (n_arms,) which eligible arms the objective's order may serve; all, if else none."""
    if objective.order is Order.UTILITY:
        return eligible
    fit = eligible & above_floor(posterior, category, eligible)[posterior.arms.group]
    if objective.order is Order.FASTEST:
        ok, failed = posterior.ok_calls[category], posterior.failed_calls[category]
        # Of an endpoint that was never called the bound is .9: who never failed is not left out.
        bound = upper_bound(ok, failed, level=FASTEST_LEVEL)
        never = failed == 0
        if posterior.marked is not None:  # nor is who failed nothing but checks
            never |= posterior.traffic_failures[category] == 0
        fit &= (bound >= FASTEST_OK_RATE) | never
    return fit if fit.any() else eligible


def above_floor(
    posterior: Posterior, category: int, eligible: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Return (n_groups,) groups that an order may serve: P(quality ≥ floor) ≥ .3.

    All, while nothing is labelled. At even odds those of whom nothing is known would be left out
    as soon as others are labelled, and so never be known.

    Args:
        eligible: (n_arms,) endpoints whose groups' best quality makes the floor; None is all.
    """
    return p_above_floor(posterior, category, eligible) >= LEAST_ODDS


def p_above_floor(
    posterior: Posterior, category: int, eligible: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Return (n_groups,) P(quality ≥ floor); 1 while nothing is labelled.

    It is asked of the difference to the best known: what is not known of that one counts as well,
    and how hard the category is cancels.
    """
    judged = posterior.judged[category]
    if eligible is not None:
        judged = judged & eligible
    known = np.bincount(posterior.arms.group, judged) > 0
    mean = posterior.quality.mean[category]
    if not known.any():
        return np.ones(len(mean))
    best = int(np.where(known, mean, -np.inf).argmax())
    margin = (1 - FLOOR_SHARE) * max(float(mean[best]), 0.0)
    difference, sd = posterior.quality.difference(category, best)
    z = (difference + margin) / np.maximum(sd, 1e-12)
    return np.where(sd > 0, ndtr(z), 1.0)
