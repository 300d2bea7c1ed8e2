"""Why a decision fell as it did: the numbers it was made from, as JSON. Pure, no I/O.

What is of one decision alone is a small row. What many share are *parts*, each named by a digest of
what it says and kept once: the frame (whose call, who was drawn and why, who was next), what the
draw was made from, why endpoints were excluded, and which endpoints the configuration lists.

No prompt, no answer, no user and no session is named: nothing that the token does not carry.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit.draws import Law
from bandit.utility import Objective, Order
from router.beliefs.review_keys import host_of
from router.config.compiled import Configuration
from router.decision.context import CallContext, why
from router.decision.decide import Decision
from router.decision.planner import limits_of
from router.decision.reasons import reason_of
from router.decision.ways import way_of
from router.endpoints.catalog import Endpoint
from router.explain.rows import NONCE_BYTES, SESSION_BYTES, UNIT_BYTES, DecisionRow

MOST_NEXT = 8
"""Fallbacks that are named; no call has more attempts."""


def row_of(
    decision: Decision, *, frame: bytes, draw: bytes, parts: tuple[bytes, ...]
) -> DecisionRow:
    """Return what is kept of this call alone; numbers are the token's own, unrounded.

    Args:
        frame, draw: digests of its parts; of `draw` empty where it has none of its own.
        parts: of all that these name.
    """
    held, context = decision.held, decision.context
    return DecisionRow(
        decision.nonce[:NONCE_BYTES],
        decision.decided_at_ms,
        frame,
        unit_of(decision),
        draw,
        decision.plan.propensity,
        context.beliefs.version,
        held.decided_at_ms if held is not None else 0,
        held.version if held is not None else 0,
        False,
        session_of(decision),
        parts,
    )


def unit_of(decision: Decision) -> bytes:
    """Return what is kept of the digest of its session or slot."""
    return decision.context.unit.session(decision.nonce)[:UNIT_BYTES]


def session_of(decision: Decision) -> bytes:
    """Return under what the decisions of its session are found; empty where it has none."""
    episode = decision.context.session.episode
    return session_name(episode) if episode else b""


def session_name(episode: int) -> bytes:
    """Return what is kept of an episode's digest."""
    return episode.to_bytes(8, "little")[:SESSION_BYTES]


def of_frame(decision: Decision, *, then: list[str], more: dict[str, str]) -> dict[str, Any]:
    """Return what a decision has in common with others.

    Args:
        then: who would have been tried next.
        more: by name, digests of further parts, in hexadecimal.
    """
    context, plan = decision.context, decision.plan
    return {
        "reason": reason_of(decision).value,
        "app": context.caller.app.name,
        "role": context.role.name if context.role else None,
        "task": context.task.name,
        "task_found_by": context.task.found_by.value,
        "decided_by": context.decided_by,
        "strategy": context.strategy.name,
        "objective": of_objective(context.strategy.objective),
        "routed": context.route.routed,
        "drawn": plan.drawn.id,
        "step": plan.step,
        "drawn_now": plan.drawn_now,
        "stands_in_for": decision.stands_in_for.id if decision.stands_in_for else None,
        "way": way_of(decision).value,
        "host": _host(decision),
        "then": then,
        "note": why(context),
        "translated": context.translations.told_of(plan.drawn),
        "left_out": context.translations.left_out(plan.drawn),
        "parts": more,
    }


def next_key(decision: Decision) -> tuple[object, ...]:
    """Return what the fallbacks depend on, among calls with the same beliefs."""
    context, drawn = decision.context, decision.plan.drawn
    reason = context.eligibility.reasons[drawn.index]
    mask, law = context.eligibility.mask.tobytes(), context.route.law
    fallback = context.route.fallback
    of_draw = (context.category, context.strategy.name, context.route.price, law)
    return (*of_draw, mask, drawn.index, reason, fallback)


def of_next(decision: Decision) -> list[str]:
    """Return who would be tried next, best first."""
    return [endpoint.id for endpoint in islice(decision.plan.then(), MOST_NEXT)]


def of_objective(objective: Objective) -> dict[str, Any]:
    """Return what a strategy maximises."""
    return {
        "order": objective.order.value,
        "value_usd": objective.value_usd,
        "latency_usd_per_s": objective.latency_usd_per_s,
    }


def of_configuration(configuration: Configuration) -> dict[str, Any]:
    """Return which endpoints the configuration lists, in its order, and by what it is known."""
    return {
        "version": f"{configuration.version:016x}",
        "endpoints": [
            [e.id, e.upstream_model, e.provider, e.region, e.group]
            for e in configuration.catalog.endpoints
        ],
    }


def _host(decision: Decision) -> dict[str, Any] | None:
    """Return by what one of several hosts of a group was chosen; None where there was no choice."""
    context, drawn, drawing = decision.context, decision.plan.drawn, decision.plan.drawing
    catalog, mask = context.beliefs.configuration.catalog, context.eligibility.mask
    hosts = [arm for arm in catalog.group_members[drawn.group] if mask[arm]]
    if len(hosts) < 2 or context.route.law is None:
        return None
    explores = drawing is not None and drawing.law.explores_hosts
    asked = drawing.table.asked_host(drawn.group) if drawing is not None and explores else None
    return {
        "hosts": [catalog.endpoints[arm].id for arm in hosts],
        "by": _host_rule(context.strategy.objective),
        "may_be_learning": asked == drawn.index,
    }


def _host_rule(objective: Objective) -> str:
    if objective.order is not Order.UTILITY:
        return objective.order.value
    priced = objective.latency_usd_per_s > 0 and objective.value_usd is not None
    return "value" if priced else "cost_then_latency"


def of_exclusions(decision: Decision) -> dict[str, str]:
    """Return the reason of every endpoint that could not serve, by its id."""
    context = decision.context
    if context.eligibility.mask.all():
        return {}  # most often
    return context.eligibility.exclusions(context.beliefs.configuration.catalog)


def of_ended(decision: Decision) -> dict[str, Any] | None:
    """Return why the draw of the unit ended that it had before; None where that did not end here.

    Of a call that follows what was drawn then, it is told with that draw.
    """
    return decision.ended.told() if decision.ended is not None else None


def of_draw(decision: Decision) -> dict[str, Any] | None:
    """Return the law of a draw and all that it knew, column by column.

    Of a call for which nothing is drawn, what is known of those that might serve it, and no law.
    None where it follows an earlier draw, or nobody may serve it.
    """
    context, drawing = decision.context, decision.plan.drawing
    if drawing is None:
        arms = np.flatnonzero(context.eligibility.mask)
        if decision.held is not None or not arms.size:
            return None
        return {"law": None, **_columns(context, arms, None, {})}
    arms, shares = np.flatnonzero(drawing.mask), decision.plan.shares()
    return {
        "law": _law(drawing.law, context),
        **limits_of(decision.plan),
        **_columns(context, arms, drawing.table.utility, shares),
    }


def _columns(
    context: CallContext,
    arms: NDArray[np.intp],
    utility: NDArray[np.float64] | None,
    shares: dict[str, float],
) -> dict[str, Any]:
    """Return what is known of some endpoints; each is named by its place in the configuration."""
    c, beliefs = context.category, context.beliefs
    posterior, task = beliefs.place(c)
    groups = posterior.arms.group[arms]
    columns = {
        "quality": beliefs.quality_mean[c, groups],
        "quality_sd": beliefs.quality_sd[c, groups],
        "labels": posterior.labels[task, arms],
        "calls": beliefs.traffic[task, arms],
        "reliability": posterior.reliability.mean[task, arms],
        "cost_usd": posterior.cost_usd[task, arms],
        "latency_s": posterior.seconds[task, arms],
        "latency_q99_s": beliefs.latency_q99_s[c, arms],
    }
    if utility is not None:
        columns["utility"] = utility[groups]  # -inf, which becomes null, where left out
    catalog = beliefs.configuration.catalog
    propensity = [shares.get(catalog.endpoints[arm].id, 0.0) for arm in arms.tolist()]
    return {
        "arms": arms.tolist(),
        "columns": {"propensity": propensity}
        | {name: column.tolist() for name, column in columns.items()},
    }


def drawing_key(decision: Decision) -> tuple[object, ...]:
    """Return what the draw's part depends on, among calls with the same beliefs."""
    context, drawing = decision.context, decision.plan.drawing
    if drawing is None:
        if decision.held is not None:
            return ()
        return (context.category, context.eligibility.mask.tobytes())
    names, mask = context.standing.permitted, drawing.mask.tobytes()
    eligibility, first = decision.plan.eligibility, context.route.first
    asked = (eligibility.limits, eligibility.mask.tobytes()) if eligibility.limits.asked else ()
    kind = (context.category, context.strategy.name, context.route.price, drawing.law)
    return (*kind, names, mask, asked, first)


def of_answer(endpoint: Endpoint) -> dict[str, str]:
    """Return the frame of a row that says who answered."""
    return {"answered_by": endpoint.id}


def _law(law: Law, context: CallContext) -> dict[str, Any]:
    standing, catalog = context.standing, context.beliefs.configuration.catalog

    def named(group: int | None) -> str | None:
        return None if group is None else host_of(standing, catalog, group)

    return {
        "learning_mode": law.is_learning,
        "incumbent": named(law.incumbent),
        "current": named(law.current),
        "challengers": [named(g) for g in law.challengers or ()],
        "holdout": law.holdout,
        "floor": law.floor,
        "stay": law.stay,
    }
