"""What the books of a review key say: what others than the incumbent served, and the rate of calls.

Books are plain sums over all time, so a rate is what they hold over the age of the key.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bandit.cells import Terms, read_plain
from bandit.families import B, Family
from bandit.incumbent import Books
from bandit.posterior import Posterior
from router.endpoints.catalog import Catalog

DAY_MS = 86_400_000
LEAST_AGE_MS = 60_000
"""A key younger than this counts as so old: what its first seconds bring is no rate."""


def read_books(
    release_keys: NDArray[np.uint64],
    places: Sequence[int],
    rows: Terms,
    posterior: Posterior,
    catalog: Catalog,
    inc: int,
) -> Books:
    """Return the books as the law wants them; a label that came before its call counts once.

    Calls of hosts that were split off from the incumbent's group are none of exploring: it served
    them when they came.

    Args:
        release_keys: (n,) digests.
        places: (n,) the row by which each one's task is decided, which alone has its calls.
        inc: the incumbent's group.
    """
    found = read_plain(
        rows,
        Family.BOOKS,
        names=release_keys,
        endpoints=catalog.digests,
    )
    sound = np.nan_to_num(found)
    calls, labelled, reward = (
        _by_row(posterior.arms.by_group(sound[..., column]), places, len(posterior.damaged))
        for column in (B.CALLS, B.LABELLED, B.REWARD)
    )
    routed = calls.sum(axis=1)
    for of_others in (calls, labelled, reward):
        of_others[:, list(catalog.kin[inc])] = 0.0
    return Books(routed, labelled, reward, np.maximum(calls - labelled, 0.0))


def _by_row(values: NDArray[np.float64], places: Sequence[int], n_rows: int) -> NDArray[np.float64]:
    out = np.zeros((n_rows, values.shape[1]))
    np.add.at(out, list(places), values)
    return out


def calls_a_day(books: Books, *, age_ms: int) -> NDArray[np.float64]:
    """Return (n_tasks,) calls that a day brings, by the mean since the key began.

    One made-up call in each task: a rare one would else never be worth its first trial. A key that
    is younger than a day is taken to go on as it began.
    """
    return (books.routed + 1) * DAY_MS / max(age_ms, LEAST_AGE_MS)
