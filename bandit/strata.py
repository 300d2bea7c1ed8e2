"""Strata of a comparison, task × day, joined to blocks that have enough of both sides. Pure."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEAST_IN_BLOCK = 30
"""Units with a label on each side of a block: its mean is subtracted from its own rewards, which
hides a thirtieth of their spread, and that is put back. A task's days are joined until there are so
many. Tasks that have fewer in all are joined with one another, or, if that is still too little,
with the last block of the others. What is joined is compared as one, which favours no side: chance
assigned them alike on all days and in all tasks. A task without any label is left out."""


class Blocks(NamedTuple):
    """The blocks of a comparison."""

    of_row: NDArray[np.intp]  # (n,), -1 of what is left out
    task: NDArray[np.intp]  # (n_blocks,) blocks of one task have one number


def blocks_of(rows: NDArray[np.void], side: NDArray[np.intp]) -> Blocks:
    """Return the block of each row, and each block's task."""
    tasks, days = np.unique(rows["task"]), np.unique(rows["day"])
    stratum = np.searchsorted(tasks, rows["task"]) * len(days)
    stratum += np.searchsorted(days, rows["day"])
    n, size = len(tasks), len(tasks) * len(days) * 2
    counts = np.stack(
        [
            np.bincount(stratum * 2 + side, rows[name].astype(float), size).reshape(n, len(days), 2)
            for name in ("units", "labelled")
        ],
        axis=-1,
    )
    block_of = np.full((n, len(days)), -1, dtype=np.intp)
    task: list[int] = []
    small: list[int] = []
    for at in range(n):
        own, many = _joined(counts[at])
        if many:
            block_of[at] = own + len(task)
            task += [at] * many
        elif counts[at, :, :, 1].any():
            small.append(at)  # a task without any label says nothing
    if small and _is_enough(counts[small].sum(axis=(0, 1))):
        block_of[small] = len(task)
        task.append(small[0])
    elif small and task:
        block_of[small] = len(task) - 1
    return Blocks(block_of.ravel()[stratum], np.array(task, dtype=np.intp))


def _joined(counts: NDArray[np.float64]) -> tuple[NDArray[np.intp], int]:
    """Return (n_days,) the block of each day of one task, and how many blocks there are.

    Args:
        counts: (n_days, 2, 2) by day and side: units, labels.
    """
    out = np.zeros(len(counts), dtype=np.intp)
    at, since = 0, np.zeros((2, 2))
    so_far = counts.cumsum(axis=0)
    for day, is_large in enumerate((counts.min(axis=(1, 2)) >= LEAST_IN_BLOCK).tolist()):
        out[day] = at
        if is_large or _is_enough(so_far[day] - since):
            at, since = at + 1, so_far[day]
    out[out == at] = max(at - 1, 0)  # the last days, with too little of their own
    return out, at


def _is_enough(counts: NDArray[np.float64]) -> bool:
    return bool(counts.min() >= LEAST_IN_BLOCK)


def block_weights(
    task: NDArray[np.intp], calls: NDArray[np.float64], labelled: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (n_blocks,) weights by calls alone, and by labels among a task's blocks."""
    n = int(task.max(initial=0)) + 1
    per_label = np.bincount(task, calls, n) / np.maximum(np.bincount(task, labelled, n), 1.0)
    whole = max(float(calls.sum()), 1.0)
    return calls / whole, per_label[task] * labelled / whole
