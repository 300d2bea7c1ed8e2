"""Kinds of decisions: what many calls share in tokens, headers and explanations, worked out once.

Two decisions are of one kind where everything is the same that these are made from, but for what
is each call's own: its id, time, unit, propensity and posteriors' version. What is the same is told
by identity: what is made anew for each call is a kind of its own, which costs time and no truth.

Kinds go with the beliefs that their decisions fell under: banks of draws hang on them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from router.beliefs.beliefs import Beliefs
from router.decision.decide import Decision
from router.decision.reasons import HALF

T = TypeVar("T")
MAX_KINDS = 4096
"""Kinds remembered under the same beliefs."""


class DecisionKind:
    """What was worked out for decisions of one kind. For several threads."""

    __slots__ = ("_derived", "_held", "known")

    def __init__(self, held: tuple[object, ...] = ()) -> None:
        """Begin with nothing.

        Args:
            held: by whose identity the kind is known, so that nothing else may come to have it.
        """
        self._held = held
        self._derived: dict[object, Any] = {}
        self.known: dict[object, Any] = {}  # what others remember, by whatever tells it

    def derive(self, make: Callable[[Decision], T], decision: Decision) -> T:
        """Return what `make` makes of a decision of this kind; once."""
        known: T | None = self._derived.get(make)
        if known is None:
            known = self._derived[make] = make(decision)
        return known


class _Kinds:
    """The kinds under the same beliefs."""

    def __init__(self, _: Beliefs) -> None:
        self._known: dict[tuple[object, ...], DecisionKind] = {}
        self._followed: dict[tuple[object, ...], tuple[tuple[object, ...], DecisionKind]] = {}

    def of(self, decision: Decision) -> DecisionKind:
        """Return the kind of a decision that has no story of its own.

        One that follows a stored draw is known by its route as a whole, where that is not made
        for each call.
        """
        context, plan = decision.context, decision.plan
        route = plan.route
        if decision.held is None or plan.drawing is not None or context.claims:
            return self._of(decision)
        held = (
            *(route, context.caller.app, context.standing, context.policy, context.role),
            *(context.strategy, context.choices, context.eligibility, context.task.found_by),
            *(plan.eligibility, plan.step),
        )
        key = (
            *map(id, held),
            *(context.task.name, context.task_index, context.category, context.release),
            *(context.explore, context.hints.profile, plan.drawn.index, plan.propensity >= HALF),
        )
        found = self._followed.get(key)
        if found is None:
            if len(self._followed) >= MAX_KINDS:
                self._followed.clear()
            found = self._followed[key] = held, self._of(decision)
        return found[1]

    def _of(self, decision: Decision) -> DecisionKind:
        context, plan = decision.context, decision.plan
        route, drawing = plan.route, plan.drawing
        held = (
            context.caller.app,
            context.standing,
            context.policy,
            context.role,
            context.strategy,
            context.choices,
            context.eligibility,
            context.task.found_by,
            route.law,
            route.first,
            route.groups,
            route.listed,
            route.preferred,
            route.barred,
            route.fallback,
            plan.eligibility,
            plan.step,
            None if drawing is None else drawing.table,
            None if drawing is None else drawing.law,
        )
        key = (
            *map(id, held),
            *(context.task.name, context.task_index, context.category, context.release),
            *(context.explore, context.hints.profile, decision.held is None),
            *(route.routed, route.by_name, route.goes_on, route.price),
            *(plan.drawn.index, plan.propensity >= HALF),
        )
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= MAX_KINDS:
                self._known.clear()
            found = self._known[key] = DecisionKind(held)
        return found


def kind_of(decision: Decision) -> DecisionKind:
    """Return the kind of a decision; one that fell in an unusual way is alone of its kind."""
    context, plan = decision.context, decision.plan
    if (
        decision.stands_in_for is not None
        or decision.ended is not None
        or decision.replaces
        or decision.first_step is not None
        or context.held_to
        or context.ceilings is not None
        or context.maker is not None
        or plan.relaxed
        or plan.eligibility.limits.asked
        or context.eligibility.rests_until  # worked out for this call alone
        or plan.eligibility.reasons[plan.drawn.index] is not None
    ):
        return DecisionKind()
    return context.beliefs.derive(_Kinds).of(decision)
