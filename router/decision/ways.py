"""In which way a call came to its endpoint, in one word of a closed list. Pure, no I/O."""

from __future__ import annotations

from enum import StrEnum

from bandit.steps import Step
from router.decision.decide import Decision


class DecisionWay(StrEnum):
    """Who decided: the call itself, a draw that was stored before, or what kept that from serving.

    Words are only ever added, and never change their meaning.
    """

    DREW = "drew"  # the first of its session and role, or it stands for itself
    ANEW = "drew anew"  # the endpoint of the stored draw is gone, or an alarm named it
    FOLLOWED = "followed"  # the stored draw
    FAILOVER = "failover"  # another answered than was drawn, or whose turn it was could not serve
    STAND_IN = "stand-in"  # drawn in an outage, for as long as that lasts
    GAIN_ENDING = "gain ending"  # the stored draw ended for what another gains, and it drew anew
    DOMINATED_ENDING = "dominated ending"  # or as another is better, by labels that came since
    NOT_ROUTED = "not routed"  # nothing was drawn: the call or its app names who serves


def way_of(decision: Decision) -> DecisionWay:
    """Return in which way a decision came about, before it is known who answers."""
    plan = decision.plan
    if decision.stands_in_for is not None:
        return DecisionWay.STAND_IN
    if decision.context.route.law is None:
        return DecisionWay.NOT_ROUTED
    if (ended := _ending_of(decision)) is not None:
        return ended
    if decision.held is not None:
        return DecisionWay.FOLLOWED
    if plan.step is Step.FAILOVER:
        return DecisionWay.FAILOVER
    return DecisionWay.ANEW if decision.replaces else DecisionWay.DREW


def way_in_the_end(way: str, *, drawn: str, answered_by: str | None) -> str:
    """Return the way of a call that was answered: by another than the drawn endpoint, a failover.

    Args:
        way: as it was decided.
        drawn, answered_by: ids of endpoints; None where nobody else is known to have answered.
    """
    return way if answered_by in (None, drawn) else DecisionWay.FAILOVER.value


def _ending_of(decision: Decision) -> DecisionWay | None:
    """Return which of the two endings a stored draw came to, if the decision says so."""
    ending = decision.ending
    return None if ending is None else DecisionWay(f"{ending.value} ending")
