"""Observations as sums by side, stratum and bucket of clusters, and how sums add. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bandit.compared import COMPARED

PLACES = ("sequence", "task", "day", "bucket", "is_control")
"""What rows of COMPARED are told apart by."""
SUMS = tuple(name for name in COMPARED.names or () if name not in PLACES)


def added(rows: NDArray[np.void]) -> NDArray[np.void]:
    """Return one row a place of the rows of COMPARED, sorted by place.

    Args:
        rows: (n,) in any order; sums of one observation each, or of many.
    """
    order = np.lexsort([rows[name] for name in PLACES[::-1]])
    sorted_rows = rows.take(order)
    is_first = np.ones(len(rows), dtype=bool)
    is_first[1:] = False
    for name in PLACES:
        is_first[1:] |= sorted_rows[name][1:] != sorted_rows[name][:-1]
    first = np.flatnonzero(is_first)
    out = sorted_rows.take(first)
    for name in SUMS if len(first) else ():
        out[name] = np.add.reduceat(sorted_rows[name], first)
    return out


def coarser(rows: NDArray[np.void], *, before_day: int, span_days: int) -> NDArray[np.void]:
    """Return rows of which old days are joined to spans, each named by its first day.

    A side is drawn with the same share on every day of a span, so a span is a stratum like a day.
    """
    out = rows.copy()
    is_old = out["day"] < before_day
    out["day"][is_old] -= out["day"][is_old] % span_days
    return added(out)


def fewer_buckets(rows: NDArray[np.void], n_buckets: int) -> NDArray[np.void]:
    """Return rows in fewer buckets: clusters of one bucket stay in one."""
    out = rows.copy()
    out["bucket"] %= n_buckets
    return added(out)
