"""Why a decision fell as it did: the numbers it was made from, as JSON. Pure, no I/O.

An explanation has three parts. What the draw was made from is the same for all calls that share
posteriors, task, strategy, law and eligible endpoints; so is why endpoints were excluded. Both are
kept once and named by what they say; the decision itself is small.

No prompt, no answer, no user and no session is named: nothing that the token does not carry.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any

from bandit.draws import Law
from router import planner
from router.choices import host_of
from router.decide import Decision, Frame, why
from router.sessions import Given

Part = tuple[bytes, bytes]
"""Digest of the text, and the text."""


def packed(value: Any) -> Part:
    """Return a part as it is kept; equal numbers have one digest."""
    text = json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False).encode()
    return blake2b(text, digest_size=16).digest(), text


def of_decision(decision: Decision) -> dict[str, Any]:
    """Return what is said of this call alone; numbers are the token's own, unrounded."""
    frame, plan = decision.frame, decision.plan
    return {
        "decided_at_ms": decision.decided_at_ms,
        "app": frame.caller.app.name,
        "task": frame.task.name,
        "strategy": frame.strategy.name,
        "posterior_version": frame.beliefs.version,
        "routed": frame.route.routed,
        "drawn": plan.drawn.id,
        "step": plan.step,
        "propensity": plan.propensity,
        "drawn_now": plan.drawn_now,
        "follows": _follows(decision.held),
        "note": why(frame),
    }


def _follows(held: Given | None) -> dict[str, int] | None:
    if held is None:
        return None
    return {"decided_at_ms": held.decided_at_ms, "posterior_version": held.version}


def of_exclusions(decision: Decision) -> dict[str, str]:
    """Return the reason of every endpoint that could not serve, by its id."""
    frame = decision.frame
    return frame.eligibility.exclusions(frame.beliefs.configuration.catalog)


def of_draw(decision: Decision) -> dict[str, Any] | None:
    """Return the law of a draw and all that it knew; None where this call drew nothing."""
    frame, plan = decision.frame, decision.plan
    law, beliefs = frame.route.law, frame.beliefs
    if law is None or not plan.drawn_now:
        return None
    catalog = beliefs.configuration.catalog
    inside = planner.within_scope(frame.route, frame.eligibility, catalog)
    table = beliefs.table(frame.category, frame.strategy.objective, law, inside.mask)
    if not frame.explore:
        law = planner.without_exploring(law, table)
    shares = planner.endpoint_shares(law, table, catalog)
    c, posterior = frame.category, beliefs.posterior
    candidates = []
    for e in catalog.endpoints:
        if not inside.mask[e.index]:
            continue
        candidates.append(
            {
                "endpoint": e.id,
                "propensity": shares.get(e.id, 0.0),
                "quality": float(beliefs.quality_mean[c, e.group]),
                "quality_sd": float(beliefs.quality_sd[c, e.group]),
                "labels": int(posterior.labels[c, e.index]),
                "calls": int(posterior.calls[c, e.index]),
                "reliability": float(posterior.reliability.mean[c, e.index]),
                "cost_usd": float(posterior.cost_usd[c, e.index]),
                "latency_q99_s": float(beliefs.latency_q99_s[c, e.index]),
                "utility": float(table.utility[e.group]),
            }
        )
    return {
        "law": _law(law, frame),
        "candidates": [{k: _finite(v) for k, v in row.items()} for row in candidates],
    }


def draw_key(decision: Decision) -> tuple[object, ...]:
    """Return what the draw's part depends on, among calls with the same beliefs."""
    frame = decision.frame
    scope = frame.route.scope
    mask = frame.eligibility.mask.tobytes()
    return (frame.category, frame.strategy.name, frame.route.law, frame.explore, scope, mask)


def _law(law: Law, frame: Frame) -> dict[str, Any]:
    catalog = frame.beliefs.configuration.catalog

    def named(group: int | None) -> str | None:
        return None if group is None else host_of(catalog, group)

    return {
        "learning_mode": law.is_learning,
        "incumbent": named(law.incumbent),
        "current": named(law.current),
        "challengers": [named(g) for g in law.challengers or ()],
        "holdout": law.holdout,
        "floor": law.floor,
        "stay": law.stay,
    }


def _finite(value: Any) -> Any:
    """JSON has no infinity: what is left out of an order has no utility."""
    infinite = isinstance(value, float) and value in (float("inf"), float("-inf"))
    return None if infinite else value
