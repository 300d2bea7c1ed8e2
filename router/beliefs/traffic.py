"""Which calls are traffic: all that are measured, but those of a profile or a check. Pure, no I/O.

USAGE has both, as costs and times are what they are whoever asked; TEACHING counts apart what is no
traffic. So whatever is shown as calls is the difference.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from bandit.cells import Terms, positions
from bandit.families import T
from bandit.levels import pooled
from bandit.posterior import Marked
from bandit.teaching import read_profiled
from router.beliefs.levels import within_of
from router.beliefs.outlooks import Booked, Digests
from router.config.compiled import Configuration


def marked_calls(
    configuration: Configuration,
    rows: Terms,
    names: Mapping[int, str],
    *,
    apps: NDArray[np.uint64],
) -> Marked:
    """Return how many calls in USAGE are of a profile or a check, whoever's, by task and arm.

    Those of leaves count in both levels' rows, as all calls do.

    Args:
        names: what digests stand for that the configuration may not name; never changed in place.
        apps: as `levels.apps_of` has them.
    """
    calls = _read(configuration, rows, names, apps, T.PROFILED)
    if not calls.any():
        return Marked(calls, calls)  # most often
    return Marked(calls, _read(configuration, rows, names, apps, T.PROFILED_FAILED))


def _read(
    configuration: Configuration,
    rows: Terms,
    names: Mapping[int, str],
    apps: NDArray[np.uint64],
    column: T,
) -> NDArray[np.float64]:
    booked, tasks = configuration.derive(Booked).under(names)
    found = read_profiled(
        rows,
        apps=apps,
        categories=booked,
        endpoints=configuration.catalog.digests,
        column=column,
    )
    shared = configuration.derive(Digests.of).shared
    out = np.zeros((len(shared), found.shape[1]))
    if not found.any():
        return out  # most often
    np.add.at(out, positions(tasks, shared), found)
    return pooled(out, configuration.derive(within_of))
