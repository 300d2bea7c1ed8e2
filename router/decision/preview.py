"""What would be decided of a call, and why, as JSON: the answer of a dry run."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct

from bandit.steps import CONTROL, Step
from router.decision import planner
from router.decision.context import CallContext, choice_of
from router.decision.planner import Plan
from router.endpoints.catalog import Endpoint
from router.policy.telling import told


class Foreseen(Struct, frozen=True):
    """Who would serve a call now."""

    plan: Plan
    fresh: Plan  # what would be drawn, whatever the unit was given
    follows: bool  # a stored draw
    stands_in_for: Endpoint | None


class Side(StrEnum):
    """Of what chance compares."""

    INCUMBENT = "incumbent"
    CHALLENGER = "challenger"  # of a task's trial
    ROUTED = "routed"  # beside a hold-out, or in a trial of a whole app


def _side(context: CallContext, step: Step | None) -> dict[str, Any]:
    """Return in which trial, or beside whose hold-out, a call is, and on which side; else None."""
    assignment = context.route.assignment
    if step is None or not step.is_assigned:
        return {"trial": None, "side": None}
    other = Side.CHALLENGER if step is Step.TRIAL_CHALLENGER else Side.ROUTED
    return {
        "trial": assignment.trial if assignment is not None else None,  # it is over: not known
        "side": Side.INCUMBENT if step in CONTROL else other,
    }


def told_of(context: CallContext, foreseen: Foreseen, *, off: bool) -> dict[str, Any]:
    """Return what would be decided of a call.

    Args:
        off: routing is switched off for everybody.
    """
    catalog, route, plan = context.beliefs.configuration.catalog, context.route, foreseen.plan
    drawn, instead_of = plan.drawn, foreseen.stands_in_for
    return {
        "endpoint": drawn.id,
        "model": drawn.upstream_model,
        "task": context.task.name,
        "found_by": context.task.found_by.value,
        "looks_like": context.task.looks_like,
        "warning": "; ".join(context.warnings) or None,
        "strategy": context.strategy.name,
        "app": context.caller.app.name,
        "role": context.role.name if context.role else None,
        "mode": context.caller.app.entry.mode.value,
        "routed": route.routed,
        "off": off,
        "learning_mode": route.law is not None and route.law.incumbent is None,
        "incumbent": route.first.id if route.first else None,
        "propensity": plan.propensity,
        "step": plan.step,
        "follows_stored_draw": foreseen.follows,
        "stands_in_for": instead_of.id if instead_of else None,
        "propensities": foreseen.fresh.shares(),
        **_side(context, plan.step),
        **choice_of(context),
        **planner.limits_of(foreseen.fresh),
        "then": [e.id for e in plan.then()],
        "exclusions": context.eligibility.exclusions(catalog),
        "policy": told(context.policy),
        "translated": context.translations.told_of(drawn),
        "left_out": context.translations.left_out(drawn),
        "posterior_version": context.beliefs.version,
        "fallback": route.fallback.value,
    }
