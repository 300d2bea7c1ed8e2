"""The law while chance assigns units to two sides: in a trial, or beside a hold-out. Pure.

    trial of a task       ½ the incumbent, ½ one challenger; ε = 0
    trial of an app       ½ the incumbent, ½ what the law gives without it
    hold-out              h the incumbent, 1 − h what the law gives without it

Where a side has nobody to serve, the law is as without any of it, and the unit is on no side:
mass that moved from one side to the other would make them differ in more than who serves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from bandit.draws import Law, Uniforms
from bandit.steps import Step, beside

HALF = 0.5
"""Share of the incumbent's side in a trial."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """By what a unit comes to a side."""

    trial: str  # id; of a hold-out that of the trial which it follows
    control: float  # share of units that are the incumbent's
    is_trial: bool
    challenger: int | None = None  # group that the others get; None: what the law gives
    by_episode: bool = False  # all that an episode draws is on one side


def law_under(
    assignment: Assignment | None, law: Law, eligible: Callable[[int], bool]
) -> Law | None:
    """Return the law of a unit that chance assigns to a side; None where it cannot be.

    Args:
        law: as it is without a trial or hold-out.
        eligible: says of a group whether any of its hosts may serve.
    """
    if assignment is None or law.incumbent is None or not eligible(law.incumbent):
        return None
    challenger = assignment.challenger
    if challenger is None:
        return replace(law, holdout=assignment.control)
    if challenger == law.incumbent or not eligible(challenger):
        return None
    return Law(
        law.incumbent,
        challenger,
        (),
        holdout=assignment.control,
        stay=1.0,
        explores_hosts=law.explores_hosts,
        is_exact=law.is_exact,
    )


def numbers_under(numbers: Uniforms) -> Uniforms:
    """Return the numbers of a unit by which its arm decides the side."""
    return replace(numbers, holdout=numbers.arm)


def step_under(assignment: Assignment, step: Step) -> Step:
    """Return the step of a unit that was assigned, with its side.

    Args:
        step: by which `law_under` served it.
    """
    if step is Step.HOLDOUT:
        return Step.TRIAL_INCUMBENT if assignment.is_trial else step
    if assignment.challenger is not None:
        return Step.TRIAL_CHALLENGER
    return beside(step)
