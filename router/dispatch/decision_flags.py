"""What token and outcomes say of how a decision fell."""

from __future__ import annotations

from bandit.steps import CONTROL, TREATED, Step
from router.decision.decide import Decision
from router.decision.planner import Plan
from router.decision.shared_draws import DrawEnding
from telemetry.events import Flag

# As plain values: arithmetic on enum members costs a microsecond an operation.
ROUTED, BY_INCUMBENT, DRAWN_NOW = int(Flag.ROUTED), int(Flag.BY_INCUMBENT), int(Flag.DRAWN_NOW)
RATED, PROFILE = int(Flag.RATED), int(Flag.PROFILE)
STAND_IN, FAILOVER = int(Flag.STAND_IN), int(Flag.FAILOVER)
DRAWN_ANEW, EXPLORED = int(Flag.DRAWN_ANEW), int(Flag.EXPLORED)
TO_LEARN = (Step.FLOOR, Step.SAMPLE, Step.BESIDE_FLOOR, Step.BESIDE_SAMPLE)
SIDES = {
    **dict.fromkeys(TREATED, int(Flag.ASSIGNED)),
    **dict.fromkeys(CONTROL, int(Flag.ASSIGNED | Flag.CONTROL)),
}
"""By step: chance assigned the unit to a side. A call that follows carries its draw's."""
ENDINGS = {
    None: 0,
    DrawEnding.GAIN: int(Flag.GAIN_ENDING),
    DrawEnding.DOMINATED: int(Flag.DOMINATED_ENDING),
}


def flags_of(decision: Decision) -> int:
    """Return what token and outcomes say of how a decision fell."""
    plan, context = decision.plan, decision.context
    by_profile = context.hints.profile
    return (
        (ROUTED if plan.route.routed else 0)
        | (BY_INCUMBENT if plan.by_incumbent else 0)
        | (DRAWN_NOW if plan.drawn_now else 0)
        | (RATED if context.caller.app.entry.raters and not by_profile else 0)
        | (PROFILE if by_profile else 0)
        | (FAILOVER if plan.step is Step.FAILOVER else 0)
        | (STAND_IN if decision.stands_in_for is not None else 0)
        | (DRAWN_ANEW if decision.replaces else 0)
        | (EXPLORED if plan.step in TO_LEARN and _is_no_choice(plan) else 0)
        | (0 if by_profile or decision.assigned_by is None else SIDES.get(decision.assigned_by, 0))
        | ENDINGS[decision.ending]
    )


def _is_no_choice(plan: Plan) -> bool:
    """Return whether another group was drawn than the choice; learning mode has none."""
    current = plan.route.law.current if plan.route.law is not None else None
    return current is not None and current != plan.drawn.group
