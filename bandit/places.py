"""Places: where the values of rows belong in evidence, and what adds up there.

Where rows go follows from their keys: it is found once, and read at every look. Values of one place
are added one by one in the order of the rows, so that the same rows give the same floats.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandit.families import N_COLUMNS


class RowPlaces(NamedTuple):
    """Where rows of a family belong, in the order in which they are added up."""

    rows: NDArray[np.intp]  # (n,) which
    into: NDArray[np.intp]  # (n * N_COLUMNS,) where in the evidence each of their values goes
    window: NDArray[np.int64]  # (n,)
    units: NDArray[np.float64]  # (n,) what one in each stands for


def flat(category: NDArray[np.intp], arm: NDArray[np.intp], n_arms: int) -> NDArray[np.intp]:
    """Return where in (n_categories, n_arms, N_COLUMNS), laid out flat, the values of rows go.

    Args:
        category, arm: (n,) of each row.
    """
    first = (category * n_arms + arm) * N_COLUMNS
    return np.asarray((first[:, None] + np.arange(N_COLUMNS)).ravel())


def summed(
    values: NDArray[np.float64], into: NDArray[np.intp], shape: tuple[int, int, int]
) -> NDArray[np.float64]:
    """Return the sums of rows' values (n, N_COLUMNS) in evidence of this shape."""
    if not len(into):
        return np.zeros(shape)
    found = np.bincount(into, values.ravel(), minlength=math.prod(shape))
    return np.asarray(found, dtype=np.float64).reshape(shape)
