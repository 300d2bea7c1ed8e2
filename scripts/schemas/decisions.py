"""What would be decided of a call (a dry run's answer), and why it was (an explanation)."""

from __future__ import annotations

from bandit.steps import Step
from router.config.budgets import BudgetSpan, BudgetUnit, OnSpent
from router.config.entries import Fallback, Mode
from router.decision.preview import Side
from router.decision.shared_draws import DrawEnding
from router.decision.ways import DecisionWay
from router.policy.tasks import FoundBy
from scripts.schemas.shapes import (
    COUNT,
    NUMBER,
    PROBABILITY,
    TEXT,
    TEXTS,
    TRUTH,
    Schema,
    by_name,
    closed,
    exclusions,
    many,
    maybe,
    policy,
    words,
)

POLICY: Schema = {"$ref": "#/$defs/policy"}


def decision() -> Schema:
    """Return the schema of a dry run's answer."""
    return {
        "title": "Decision",
        "description": "What would be decided of a call: the answer to `x-router-dry-run: 1`",
        "anyOf": [_routed(), _passed_on()],
        "$defs": {"policy": policy()},
    }


def _routed() -> Schema:
    limits = {
        "latency": closed({"within_s": NUMBER, "probability": PROBABILITY, "hard": TRUTH}),
        "cost": closed({"usd": NUMBER, "hard": TRUTH}),
        "quality": closed({"floor": PROBABILITY, "hard": TRUTH}),
    }
    return closed(
        {
            "endpoint": TEXT,
            "model": TEXT,
            "task": TEXT,
            "found_by": words(FoundBy),
            "looks_like": maybe(TEXT),
            "warning": maybe(TEXT),
            "strategy": TEXT,
            "app": TEXT,
            "role": maybe(TEXT),
            "mode": words(Mode),
            "routed": TRUTH,
            "off": TRUTH,
            "learning_mode": TRUTH,
            "incumbent": maybe(TEXT),
            "propensity": PROBABILITY,
            "step": maybe(words(Step)),
            "follows_stored_draw": TRUTH,
            "stands_in_for": maybe(TEXT),
            "propensities": by_name(PROBABILITY),
            "trial": maybe(TEXT),
            "side": maybe(words(Side)),
            **_choice(),
            "limits": closed(limits, optional=limits),
            "relaxed": many(words(limits)),
            "outside_limits": TEXTS,
            "value_usd": maybe(NUMBER),
            "price_of_money": NUMBER,
            "then": TEXTS,
            "exclusions": exclusions(),
            "policy": POLICY,
            "translated": maybe(TEXT),
            "left_out": TEXTS,
            "posterior_version": COUNT,
            "fallback": words(Fallback),
            "budgets": many(_budget()),
        }
    )


def _budget() -> Schema:
    """Return the schema of how a budget of a call stands."""
    return closed(
        {
            "budget": TEXT,
            "scope": {"type": "object", "additionalProperties": TEXT},
            "note": TEXT,
            "per": words(BudgetSpan),
            "unit": words(BudgetUnit),
            **dict.fromkeys(("limit", "spent", "held", "left"), NUMBER),
            "resets_at": {"type": "string", "format": "date-time"},
            "may_come_to": maybe(NUMBER),
            "fits": maybe(TRUTH),
            "hard": TRUTH,
            "on_spent": words(OnSpent),
            "used_up": TRUTH,
        }
    )


def _choice() -> dict[str, Schema]:
    return {
        "decided_by": TEXT,
        "current": maybe(TEXT),
        "challengers": TEXTS,
        "room": maybe(NUMBER),
        "release_version": maybe(COUNT),
        "exploring": TRUTH,
        "note": TEXT,
    }


def _passed_on() -> Schema:
    """Return the schema of a call that goes to a provider as it is."""
    fields = {
        "endpoint": TEXT,
        "routed": {"const": False},
        "passthrough": {"const": True},
        "task": TEXT,
        "policy": POLICY,
        "budgets": many(_budget()),
    }
    return closed(fields, optional=["task", "policy", "budgets"])


def explanation() -> Schema:
    """Return the schema of `GET /v1/router/decisions/{id}`; others may stand beside its fields."""
    follows = closed({"decided_at_ms": COUNT, "posterior_version": COUNT})
    law = closed(
        {
            "learning_mode": TRUTH,
            "incumbent": maybe(TEXT),
            "current": maybe(TEXT),
            "challengers": TEXTS,
            "holdout": PROBABILITY,
            "floor": PROBABILITY,
            "stay": PROBABILITY,
        }
    )
    ended = closed(
        {
            "kind": {"enum": [DrawEnding.GAIN.value, DrawEnding.DOMINATED.value]},
            "from": TEXT,
            "better": TEXT,
            "p_better": PROBABILITY,
            "p_better_since": maybe(PROBABILITY),
            "gain_usd_per_call": maybe(NUMBER),
            "remaining": maybe(NUMBER),
            "cache_usd": maybe(NUMBER),
            "value_usd": maybe(NUMBER),
            "value_assumed": TRUTH,
        }
    )
    draw = {"type": "object", "properties": {"law": maybe(law), "candidates": many(_candidate())}}
    fields = {
        "decided_at_ms": COUNT,
        "app": TEXT,
        "task": TEXT,
        "strategy": TEXT,
        "posterior_version": COUNT,
        "routed": TRUTH,
        "drawn": TEXT,
        "answered_by": maybe(TEXT),
        "step": maybe(words(Step)),
        "propensity": PROBABILITY,
        "follows": maybe(follows),
        "draw_of": maybe({"type": "object"}),
        "stands_in_for": maybe(TEXT),
        "way": maybe(words(DecisionWay)),
        "ended": maybe(ended),
        "note": TEXT,
        "translated": maybe(TEXT),
        "left_out": TEXTS,
        "exclusions": maybe(exclusions()),
        "draw": maybe(draw),
    }
    return {
        "title": "Explanation",
        "description": "Why a decision fell as it did, with the numbers that it was made from",
        "type": "object",
        "properties": fields,
        "required": list(fields),
    }


def session() -> Schema:
    """Return the schema of `GET /v1/router/decisions?session=ID`."""
    row = closed(
        {
            "id": TEXT,
            "decided_at_ms": COUNT,
            "app": TEXT,
            "role": maybe(TEXT),
            "task": TEXT,
            "strategy": TEXT,
            "drawn": TEXT,
            "answered_by": TEXT,
            "propensity": PROBABILITY,
            "way": words(DecisionWay),
            "decided": words(DecisionWay),
            "why": maybe(TEXT),
        }
    )
    missing = {"draws": COUNT, "not_listed": COUNT, "damaged": COUNT, "unread": TEXTS}
    fields = {
        "session": TEXT,
        "since_ms": closed({"files": maybe(COUNT), "store": maybe(COUNT)}, optional=["store"]),
        "n": COUNT,
        "counts": closed({way.value: COUNT for way in DecisionWay}),
        "missing": closed(missing),
        "decisions": many(row),
    }
    return {
        "title": "Session",
        "description": "The decisions of a session or episode, in order, and how each came about",
        **closed(fields),
    }


def _candidate() -> Schema:
    known = ("quality", "quality_sd", "labels", "calls", "reliability", "cost_usd")
    fields = {"endpoint": TEXT, "propensity": PROBABILITY}
    fields |= {name: maybe(NUMBER) for name in known}
    more = {"utility": maybe(NUMBER)}  # of what was drawn from
    return {"type": "object", "properties": {**fields, **more}, "required": list(fields)}
