"""The incumbent's quality by propensities: doubly robust, or why that cannot be.

Where it was never drawn nothing corrects what was predicted, and no weight shows it. Such calls may
be few, and then widen the interval; of more the estimate is refused.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bandit import ope
from bandit.ope import Z95, ArmSums, Estimate

MOST_ALONE = 0.05
"""Share of the calls beside which the incumbent was never drawn; of more nothing is said."""
LEAST_DRAWABLE = 0.5
SD_ALONE = 0.25
"""Sd of its mean reward there about that of the others. UNVALIDATED; at the most it is .5."""


def incumbent_quality(rows: NDArray[np.void], days: range) -> Estimate | None:
    """Return the incumbent's mean reward over all calls of some days; None without any label.

    Calls without a label count as the labelled ones of their release key and choice.

    Args:
        rows: (n,) of SAVING_ROW.
        days: since the epoch.
    """
    mine = rows.compress((rows["day"] >= days.start) & (rows["day"] < days.stop))
    if not len(mine) or not mine["labelled_units"].any():
        return None
    sums, share = _strata(mine)
    found = ope.doubly_robust_of_arm(sums)
    if share > MOST_ALONE:
        refused = f"the incumbent was hardly ever drawn beside {share:.0%} of the calls"
        return replace(found, refused=refused)
    half = float(np.hypot((found.high - found.low) / 2, Z95 * SD_ALONE * share))
    return replace(found, low=found.value - half, high=found.value + half)


def _strata(mine: NDArray[np.void]) -> tuple[ArmSums, float]:
    """Return the sums by release key and choice, and of which share of calls it was never drawn."""
    keys, place = np.unique(mine[["release", "choice"]], return_inverse=True)
    own = mine["by_incumbent"]

    def total(name: str, of: NDArray[np.bool_] | bool = True) -> NDArray[np.float64]:
        values = np.where(of, mine[name], 0.0)
        return np.bincount(place, values, minlength=len(keys)).astype(np.float64)

    calls, units, drawn = total("calls"), total("labelled_units"), total("labelled_units", own)
    # Σ 1/p of its draws comes to as many units as it could be drawn for: of much fewer, the others
    # had no chance of it.
    alone = (total("weight", own) <= LEAST_DRAWABLE * units) & (calls > 0)
    share = float(calls[alone].sum() / calls.sum())
    predicted = total("predicted", own) / np.maximum(drawn, 1.0)
    usual = float(predicted @ drawn) / max(float(drawn.sum()), 1.0)
    predicted = np.where(drawn > 0, predicted, usual)
    per_unit = np.divide(calls, units, where=units > 0, out=np.zeros(len(units)))
    sums = ArmSums(
        calls,
        predicted,
        total("weight", own) * per_unit,
        total("weight2", own) * per_unit**2,
        total("weight_reward", own) * per_unit,
        total("weight2_reward", own) * per_unit**2,
        total("weight2_reward2", own) * per_unit**2,
    )
    return sums, share
