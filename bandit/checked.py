"""A comparison's difference in quality by another way: doubly robust, by logged propensities. Pure.

It decides nothing. Where it lies far from what was compared, propensities or sides are not what
they are taken for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bandit.ope import ArmSums, doubly_robust_of_arm

WEIGHTS = ("weight", "weight2", "weight_reward", "weight2_reward", "weight2_reward2")
HOST_POWER = {"weight": 1, "weight_reward": 1}
"""By which power of the number of hosts a sum is divided; the others are of squares."""


def checked_difference(rows: NDArray[np.void], *, control: float, is_pair: bool) -> float | None:
    """Return the other side's mean reward less the incumbent's; None where too little tells of it.

    Args:
        rows: (n,) of SAVING_ROW, of the units that chance assigned in one comparison.
        control: share of units that are the incumbent's.
        is_pair: all others are one challenger's. Else they are what routing gives, which may be
            the incumbent, too: what its own draws show is set against the mean of all.
    """
    tasks, place = np.unique(rows["task"], return_inverse=True)
    own, n = rows["by_incumbent"], len(tasks)

    def total(name: str, of: NDArray[np.bool_] | bool = True) -> NDArray[np.float64]:
        values = np.where(of, rows[name], 0.0)
        return np.bincount(place, values, minlength=n).astype(np.float64)

    units, labels = total("labelled_units"), total("labels")
    if not units.sum():
        return None
    incumbent = _value(rows, place, own, units)
    if incumbent is None:
        return None
    if is_pair:
        other = _value(rows, place, ~own, units)
        return None if other is None else other - incumbent
    mean = total("reward") / np.maximum(labels, 1.0)
    return (float(mean @ units / units.sum()) - incumbent) / (1 - control)


def _value(
    rows: NDArray[np.void],
    place: NDArray[np.intp],
    of: NDArray[np.bool_],
    units: NDArray[np.float64],
) -> float | None:
    """Return the mean reward of whom some rows drew, over all units; None where it is refused.

    Draws of several hosts have propensities of their own: together they are as many times too
    heavy as there are hosts.
    """
    n = len(units)
    mine = rows.compress(of)
    at = place[of]

    def total(name: str) -> NDArray[np.float64]:
        return np.bincount(at, mine[name], minlength=n).astype(np.float64)

    pairs = np.unique(np.stack([at.astype(np.uint64), mine["endpoint"]]), axis=1)
    hosts = np.maximum(np.bincount(pairs[0].astype(np.intp), minlength=n), 1).astype(float)
    drawn = total("labelled_units")
    if (drawn[units > 0] == 0).any():
        return None  # of a task where it was never drawn nothing is known
    sums = {name: total(name) / hosts ** HOST_POWER.get(name, 2) for name in WEIGHTS}
    found = doubly_robust_of_arm(
        ArmSums(n=units, predicted=total("predicted") / np.maximum(drawn, 1.0), **sums)
    )
    return None if found.refused else found.value
