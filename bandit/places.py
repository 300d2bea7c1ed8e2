"""Places: where the values of rows belong in evidence, and what adds up there.

Where rows go follows from their keys: it is found once, and read at every look. Values of one place
are added one by one in the order of the rows, so that the same rows give the same floats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandit.families import N_COLUMNS, Family


class RowPlaces(NamedTuple):
    """Where rows belong, in the order in which they are added up."""

    rows: NDArray[np.intp]  # (n,) which
    into: NDArray[np.intp]  # (n * N_COLUMNS,) where in the evidence each of their values goes
    units: NDArray[np.float64]  # (n,) what one in each stands for


class FadingPlaces(NamedTuple):
    """The same of rows of families that fade, one family after the other."""

    rows: NDArray[np.intp]  # (n,)
    into: NDArray[np.intp]  # (n * N_COLUMNS,) of each family its own part of the evidence
    units: NDArray[np.float64]  # (n,)
    landmark_ms: NDArray[np.int64]  # (n,) when its window began
    half_life_ms: NDArray[np.int64]  # (n,)
    ends: tuple[tuple[Family, int], ...]  # of each family, where in these its rows end

    @classmethod
    def joined(cls, parts: Sequence[FadingPlaces], size: int) -> FadingPlaces:
        """Return the places of several families together.

        Args:
            size: numbers in the evidence of one family.
        """
        rows, into, units, landmark_ms, half_life_ms, _ = zip(*parts, strict=True)
        ends = np.cumsum([len(part) for part in rows]).tolist()
        families = [family for part in parts for family, _ in part.ends]
        return cls(
            np.concatenate(rows),
            np.concatenate([part + i * size for i, part in enumerate(into)]),
            np.concatenate(units),
            np.concatenate(landmark_ms),
            np.concatenate(half_life_ms),
            tuple(zip(families, ends, strict=True)),
        )


def flat(category: NDArray[np.intp], arm: NDArray[np.intp], n_arms: int) -> NDArray[np.intp]:
    """Return where in (n_categories, n_arms, N_COLUMNS), laid out flat, the values of rows go.

    Args:
        category, arm: (n,) of each row.
    """
    first = (category * n_arms + arm) * N_COLUMNS
    return np.asarray((first[:, None] + np.arange(N_COLUMNS)).ravel())


def summed(
    values: NDArray[np.float64], into: NDArray[np.intp], shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return the sums of rows' values (n, N_COLUMNS) in evidence of this shape."""
    if not len(into):
        return np.zeros(shape)
    found = np.bincount(into, values.ravel(), minlength=math.prod(shape))
    return np.asarray(found, dtype=np.float64).reshape(shape)
