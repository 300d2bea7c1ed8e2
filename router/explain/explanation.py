"""Why a decision fell as it did: the numbers it was made from, as JSON. Pure, no I/O.

An explanation has three parts. What the draw was made from is the same for all calls that share
posteriors, task, strategy, law and eligible endpoints; so is why endpoints were excluded. Both are
kept once and named by what they say; the decision itself is small.

No prompt, no answer, no user and no session is named: nothing that the token does not carry.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np

from bandit.draws import Law
from router.beliefs.review_keys import host_of
from router.decision.context import CallContext, why
from router.decision.decide import Decision
from router.decision.planner import Drawing, limits_of
from router.decision.shared_draws import StoredDraw

Part = tuple[bytes, bytes]
"""Digest of the text, and the text."""


def text_of(value: Any) -> bytes:
    """Return JSON, with every digit that a number has."""
    return msgspec.json.encode(value)


def packed(value: Any) -> Part:
    """Return a part as it is kept; equal numbers have one digest."""
    text = text_of(value)
    return blake2b(text, digest_size=16).digest(), text


def of_decision(decision: Decision) -> dict[str, Any]:
    """Return what is said of this call alone; numbers are the token's own, unrounded."""
    context, plan = decision.context, decision.plan
    return {
        "decided_at_ms": decision.decided_at_ms,
        "app": context.caller.app.name,
        "task": context.task.name,
        "found_by": context.task.found_by,
        "decided_by": context.decided_by,
        "strategy": context.strategy.name,
        "posterior_version": context.beliefs.version,
        "routed": context.route.routed,
        "drawn": plan.drawn.id,
        "step": plan.step,
        "propensity": plan.propensity,
        "drawn_now": plan.drawn_now,
        "follows": _follows(decision.held),
        "stands_in_for": decision.stands_in_for.id if decision.stands_in_for else None,
        "note": why(context),
        "translated": context.translations.told_of(plan.drawn),
        "left_out": context.translations.left_out(plan.drawn),
    }


def _follows(held: StoredDraw | None) -> dict[str, int] | None:
    if held is None:
        return None
    return {"decided_at_ms": held.decided_at_ms, "posterior_version": held.version}


def of_exclusions(decision: Decision) -> dict[str, str]:
    """Return the reason of every endpoint that could not serve, by its id."""
    context = decision.context
    if context.eligibility.mask.all():
        return {}  # most often
    return context.eligibility.exclusions(context.beliefs.configuration.catalog)


def of_draw(decision: Decision) -> dict[str, Any] | None:
    """Return the law of a draw and all that it knew; None where this call drew nothing."""
    drawing = decision.plan.drawing
    if drawing is None:
        return None
    law = _law(drawing.law, decision.context)
    return {
        "law": law,
        **limits_of(decision.plan),
        "candidates": _candidates(decision.context, drawing, decision.plan.shares()),
    }


def _candidates(
    context: CallContext, drawing: Drawing, shares: dict[str, float]
) -> list[dict[str, Any]]:
    c, beliefs = context.category, context.beliefs
    posterior, task = beliefs.place(c)
    arms = np.flatnonzero(drawing.mask)
    groups = posterior.arms.group[arms]
    columns = {
        "quality": beliefs.quality_mean[c, groups],
        "quality_sd": beliefs.quality_sd[c, groups],
        "labels": posterior.labels[task, arms],
        "calls": posterior.calls[task, arms],
        "reliability": posterior.reliability.mean[task, arms],
        "cost_usd": posterior.cost_usd[task, arms],
        "latency_q99_s": beliefs.latency_q99_s[c, arms],
        "utility": drawing.table.utility[
            groups
        ],  # -inf, which becomes null, where an order left it out
    }
    named = [beliefs.configuration.catalog.endpoints[arm].id for arm in arms.tolist()]
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [
        {"endpoint": name, "propensity": shares.get(name, 0.0)}
        | dict(zip(columns, row, strict=True))
        for name, row in zip(named, rows, strict=True)
    ]


def drawing_key(decision: Decision) -> tuple[object, ...]:
    """Return what the draw's part depends on, among calls with the same beliefs."""
    context, drawing = decision.context, decision.plan.drawing
    if drawing is None:
        return ()
    names, mask = context.standing.permitted, drawing.mask.tobytes()
    eligibility, first = decision.plan.eligibility, context.route.first
    asked = (eligibility.limits, eligibility.mask.tobytes()) if eligibility.limits.asked else ()
    return (context.category, context.strategy.name, drawing.law, names, mask, asked, first)


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
