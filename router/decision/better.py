"""Who is better than what a unit drew: by a bank, and by what came since the draw. Pure, no I/O."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bandit.dominance import SURE, p_better, p_better_on_labels
from bandit.draws import Uniforms, propensities
from bandit.utility import BALANCED, Order, arm_scores, mean_at_hosts
from router.beliefs.history import Snapshot, news_since
from router.decision import planner
from router.decision.context import CallContext
from router.decision.planner import Drawing
from router.endpoints.catalog import Endpoint

ASSUMED_USD = BALANCED.value_usd or 0.0
"""What a success is worth where quality alone counts."""
_ANY_LUCK = Uniforms(0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)


class Better(NamedTuple):
    """A group that is better than the drawn one by a bank."""

    group: int
    arm: int  # its best host
    p: float
    gain_usd: float  # a call, as expected now
    ok: float  # share of its calls that are answered
    drawn_ok: float  # the same of the drawn group


def best_group(context: CallContext) -> int | None:
    """Return the group that nobody is expected to be better than, whoever may serve the call.

    That is the one whose least useful host is expected to be more useful than all others' hosts.
    None where there is no such group, or an order ranks them otherwise.
    """
    beliefs, category = context.beliefs, context.category
    objective = planner.objective_of(context.route, beliefs, category)
    if objective.order is not Order.UTILITY:
        return None
    posterior, task = beliefs.place(category)
    expected, group = mean_at_hosts(posterior, objective)[task], posterior.arms.group
    best = int(group[expected.argmax()])
    others = expected[group != best]
    if others.size and expected[group == best].min() < others.max():
        return None
    return best


def find_better(context: CallContext, drawn: Endpoint) -> tuple[Better, ...]:
    """Return the groups that a fresh draw might give, and that are better than the drawn one.

    Args:
        drawn: an endpoint that may serve the call.
    """
    beliefs, category = context.beliefs, context.category
    objective = planner.objective_of(context.route, beliefs, category)
    if objective.order is not Order.UTILITY:
        return ()  # an order has rules of its own for when it moves
    plan = planner.plan(
        context.route,
        context.eligibility,
        beliefs,
        category=category,
        numbers=_ANY_LUCK,
        explore=context.explore,
    )
    return () if plan.drawing is None else _compare(plan.drawing, context, drawn)


def _compare(drawing: Drawing, context: CallContext, drawn: Endpoint) -> tuple[Better, ...]:
    posterior, task = context.beliefs.place(context.category)
    objective = drawing.table.objective
    group, eligible = posterior.arms.group, context.eligibility.mask
    groups = [drawn.group, *(g for g in _might_give(drawing) if g != drawn.group)]
    scores = arm_scores(drawing.table.bank, objective)
    mean = scores.mean(axis=0, dtype=np.float64)
    masks = [eligible, *[drawing.mask] * (len(groups) - 1)]
    hosts = [np.flatnonzero((group == g) & m) for g, m in zip(groups, masks, strict=True)]
    by_group = np.stack([scores[:, each].max(axis=1) for each in hosts], axis=1)
    p, expected = p_better(by_group, 0), by_group.mean(axis=0, dtype=np.float64)
    best = [int(each[mean[each].argmax()]) for each in hosts]
    ok = posterior.reliability.mean[task, best].tolist()
    usd = 1.0 if objective.has_value else ASSUMED_USD
    gain = ((expected - expected[0]) * usd).tolist()
    return tuple(
        Better(groups[i], best[i], float(p[i]), gain[i], ok[i], ok[0])
        for i in range(1, len(groups))
        if p[i] >= SURE and gain[i] > 0
    )


def _might_give(drawing: Drawing) -> list[int]:
    """Return the groups that a draw might give: where it samples, any that could win a row."""
    law, table = drawing.law, drawing.table
    might = propensities(law, table) > 0
    if law.stay < 1:
        might |= table.candidates
    return [int(g) for g in np.flatnonzero(might)]


def odds_since(
    better: tuple[Better, ...], snapshot: Snapshot, context: CallContext, drawn: Endpoint
) -> tuple[float, ...]:
    """Return how likely each is to be better by labels alone that came since a snapshot."""
    news = news_since(snapshot, context.beliefs, context.category)
    groups = [drawn.group, *(one.group for one in better)]
    return tuple(p_better_on_labels(news.n[groups], news.r[groups], 0)[1:].tolist())


def gains_since(
    better: tuple[Better, ...], snapshot: Snapshot, context: CallContext, drawn: Endpoint
) -> tuple[float, ...]:
    """Return in USD a call what each gains: of what is expected now, no more than came since."""
    rose = news_since(snapshot, context.beliefs, context.category).quality
    value_usd, _ = value_of(context)
    came = [one.ok * rose[one.group] - one.drawn_ok * rose[drawn.group] for one in better]
    return tuple(
        min(one.gain_usd, value_usd * float(each)) for one, each in zip(better, came, strict=True)
    )


def value_of(context: CallContext) -> tuple[float, bool]:
    """Return what a success is worth in USD, and whether that is assumed."""
    beliefs = context.beliefs
    objective = planner.objective_of(context.route, beliefs, context.category)
    _, task = beliefs.place(context.category)
    value_usd = objective.at(task).value_usd
    return (ASSUMED_USD, True) if value_usd is None else (value_usd, False)
