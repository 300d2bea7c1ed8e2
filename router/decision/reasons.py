"""Why a call goes where it goes, in one word of a closed list. Pure, no I/O.

The word is what `x-router-reason` carries and what an explanation opens with. Words are only ever
added, and never change their meaning: then `REASONS_VERSION` rises.
"""

from __future__ import annotations

from enum import StrEnum

from bandit.steps import Step
from router.config.strategies import Exchangeable
from router.decision.decide import Decision
from router.decision.planner import Plan, server_of
from router.decision.shared_draws import DrawEnding
from router.endpoints.catalog import Endpoint
from router.errors import NoCandidates, Overloaded

REASONS_VERSION = 3
HALF = 0.5
"""Of the probability: in learning mode, which has no choice yet, whoever has as much is best."""


class Reason(StrEnum):
    """Why this endpoint: each word is how the opening sentence of an explanation begins."""

    PINNED = "pinned"  # call, app or what it goes on from names it
    INCUMBENT = "incumbent"
    BEST = "best so far"
    EXPLORING = "exploring"
    HOLDOUT = "hold-out"
    ONLY = "only one allowed"
    FAILOVER = "failover"  # whose turn it was cannot serve, or did not
    GAIN = "moved for gain"  # a session's draw ended by what its calls to come would gain
    DOMINATED = "moved from worse"  # a slot's ended, as another was shown to be better
    ANEW = "drawn anew"  # its endpoint is gone, or an alarm named it
    TRIAL = "trial"  # chance assigned its session to the incumbent's side or the challenger's


def reason_of(decision: Decision, answered: Endpoint | None = None) -> Reason:
    """Return why a call goes where it goes.

    Args:
        answered: who served it in the end, as far as that is known; another than the drawn
            endpoint is a failover, unless nobody but that one was allowed.
    """
    return in_the_end(why_drawn(decision), decision, answered)


def in_the_end(found: Reason, decision: Decision, answered: Endpoint | None) -> Reason:
    """Return the reason of a call, by why its endpoint was drawn and who served it."""
    if answered is None or answered.index == decision.plan.drawn.index or found is Reason.ONLY:
        return found
    return Reason.FAILOVER


def one_in(propensity: float) -> int:
    """Return the N of `exploring (1 in N)`: one draw of so many falls on this endpoint."""
    return max(round(1 / propensity), 2) if propensity > 0 else 2


def why_drawn(decision: Decision) -> Reason:
    """Return why a call goes where it goes, before it is known who answers."""
    context, plan = decision.context, decision.plan
    route, drawn = context.route, plan.drawn
    if decision.stands_in_for is not None:
        return Reason.FAILOVER
    if route.law is None:
        if drawn is route.first or route.first is None:
            is_pinned = route.by_name or context.strategy.exchange is Exchangeable.NONE
            return Reason.PINNED if is_pinned else Reason.INCUMBENT
        return _instead(decision)
    if plan.step is Step.FAILOVER or _is_passed_over(plan):
        return _instead(decision)
    if route.by_name and route.groups is not None:
        return Reason.PINNED  # to the hosts of the model that it names
    ended = decision.ended
    if ended is not None and ended.before.index != drawn.index:
        return Reason.GAIN if ended.kind is DrawEnding.GAIN else Reason.DOMINATED
    if decision.replaces:
        return Reason.ANEW
    return _by_law(decision)


def _is_passed_over(plan: Plan) -> bool:
    """Return whether another than the drawn endpoint has the turn: that one may not serve.

    Where nobody else may either, it is asked all the same.
    """
    if plan.eligibility.reasons[plan.drawn.index] is None:
        return False  # most often
    try:
        return server_of(plan) is not plan.drawn
    except (NoCandidates, Overloaded):
        return True


def _instead(decision: Decision) -> Reason:
    """Return why another serves than whose turn it is."""
    if decision.held is not None:
        return Reason.FAILOVER  # the stored draw stays
    return Reason.ONLY if decision.context.eligibility.mask.sum() == 1 else Reason.FAILOVER


def _by_law(decision: Decision) -> Reason:
    plan, law = decision.plan, decision.context.route.law
    match plan.step:
        case Step.HOLDOUT:
            return Reason.HOLDOUT
        case Step.TRIAL_INCUMBENT | Step.TRIAL_CHALLENGER:
            return Reason.TRIAL
        case Step.FLOOR | Step.BESIDE_FLOOR:
            return Reason.EXPLORING
        case Step.ONLY_ALLOWED:
            return Reason.ONLY
    group = plan.drawn.group
    if plan.drawing is not None and decision.context.eligibility.mask.sum() == 1:
        return Reason.ONLY
    if law is not None and law.incumbent == group:
        return Reason.INCUMBENT
    if plan.step in (Step.STAY, Step.BESIDE_STAY) or (law is not None and law.current == group):
        return Reason.BEST
    if law is not None and not law.is_learning:
        return Reason.EXPLORING
    if decision.context.eligibility.mask.sum() == 1:
        return Reason.ONLY
    drawing = plan.drawing
    share = float(drawing.table.shares[group]) if drawing is not None else plan.propensity
    return Reason.BEST if share >= HALF else Reason.EXPLORING
