"""What records add to chains: calls, their further attempts, and the same asked again. Pure.

All of it counts for the endpoint that a chain's first attempt went to, whoever answered in the end.
Records that do not say who that was are of before chains were counted, and add nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit.cells import Terms
from bandit.families import MOST, C, Family
from bandit.grouping import Grouping
from telemetry.events import RETRACTED

Columns = dict[int, NDArray[Any]]


def attempt_terms(
    outcomes: NDArray[np.void], batch: Grouping, owner: NDArray[np.uint64] | None = None
) -> list[Terms]:
    """Return what attempts add: a first one begins a call, a further one goes on with it.

    Args:
        batch: the outcomes by category and by who was asked: of a first attempt that is the same.
        owner: (n,) as of `cells.Terms`.
    """
    known = outcomes["first_endpoint"] > 0
    further = known & (outcomes["attempt"] > 1)
    calls: Columns = {C.CALLS: known & ~further}
    begun = batch.terms(Family.CHAINS, calls)
    if not further.any():
        return [begun]
    return [begun, _further(outcomes.compress(further), None if owner is None else owner[further])]


def _further(outcomes: NDArray[np.void], owner: NDArray[np.uint64] | None) -> Terms:
    token = outcomes["token"]
    grouping = Grouping.of(
        token["category"], outcomes["first_endpoint"], token["decided_at_ms"], owner=owner
    )
    columns: Columns = {
        C.N_MORE: np.ones(len(outcomes)),
        C.MORE_NANO: _nano(outcomes),
        C.MORE_MS: outcomes["added_ms"].astype(float),
    }
    return grouping.terms(Family.CHAINS, columns)


def repeat_terms(repeats: NDArray[np.void], owner: NDArray[np.uint64] | None = None) -> list[Terms]:
    """Return what repeats add to the chains that they are of, less those that were taken back.

    The same request is one task, so the call that asked again is in the category of the first.
    """
    if not len(repeats):
        return []
    token = repeats["token"]
    category, at_ms = token["category"], token["decided_at_ms"]
    sign = np.where(repeats["value_micro"] == RETRACTED, -1.0, 1.0)
    of_chain = Grouping.of(category, repeats["first_endpoint"], at_ms, owner=owner)
    of_call = Grouping.of(category, repeats["repeat_endpoint"], at_ms, owner=owner)
    columns: Columns = {
        C.N_AGAIN: sign,
        C.AGAIN_NANO: sign * _nano(repeats),
        C.AGAIN_MS: sign * repeats["added_ms"],
    }
    return [
        of_chain.terms(Family.CHAINS, columns),
        of_call.terms(Family.CHAINS, {C.REPEATS: sign}),
    ]


def _nano(records: NDArray[np.void]) -> NDArray[np.float64]:
    """Return (n,) costs; one that no call has (beyond `MOST`) is not known."""
    cost = records["cost_nano"]
    return np.where(cost <= MOST, cost, 0).astype(float)
