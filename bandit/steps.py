"""By which step of the law a unit was served, and on which side of a comparison that puts it. Pure.

A unit is on a side where chance alone decided between the two: in a trial, or beside a hold-out.
The order of the members is kept in the store: new ones come last.
"""

from __future__ import annotations

from enum import StrEnum


class Step(StrEnum):
    """Which step of the law chose."""

    HOLDOUT = "holdout"
    FLOOR = "floor"
    STAY = "stay"
    SAMPLE = "sample"
    FAILOVER = "failover"
    ONLY_ALLOWED = "only_allowed"
    TRIAL_INCUMBENT = "trial_incumbent"
    TRIAL_CHALLENGER = "trial_challenger"
    BESIDE_FLOOR = "beside_floor"  # the same as without, for a unit that is no hold-out's,
    BESIDE_STAY = "beside_stay"  # or in a trial of an app's whole map not the incumbent's
    BESIDE_SAMPLE = "beside_sample"

    @property
    def plain(self) -> Step:
        """What chose, whichever side the unit is on."""
        return _PLAIN.get(self, self)

    @property
    def is_assigned(self) -> bool:
        """Whether chance assigned the unit to a side."""
        return self in CONTROL or self in TREATED


CONTROL = frozenset({Step.HOLDOUT, Step.TRIAL_INCUMBENT})
"""The incumbent's side."""
KEPT = frozenset({*CONTROL, Step.TRIAL_CHALLENGER})
"""The endpoint itself is what chance assigned: no gain ends such a draw."""
_BESIDE = {
    Step.FLOOR: Step.BESIDE_FLOOR,
    Step.STAY: Step.BESIDE_STAY,
    Step.SAMPLE: Step.BESIDE_SAMPLE,
}
TREATED = frozenset({Step.TRIAL_CHALLENGER, *_BESIDE.values()})
"""The other one."""
_PLAIN = {beside: plain for plain, beside in _BESIDE.items()}


def beside(step: Step) -> Step:
    """Return a step of the law as it is of a unit on the other side than the incumbent's."""
    return _BESIDE.get(step, step)
