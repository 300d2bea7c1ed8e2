"""How soon a worse host of a group is split off, and how often an equal one is by chance.

Labels come one by one, all runs side by side, with the code that compares hosts live and looked at
more often than live. Who serves is chosen as the law does: the host that is first by cost, or
either where both cost the same, and for a tenth the least labelled one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit.families import N_COLUMNS, Q
from bandit.hosts import HOST_EXPLORED, HOST_LABELS, compare

Measured = dict[str, Any]
LEVEL = 0.8
"""Mean reward of a sound host."""
POINTS = 0.05
"""By how much the worse one is below it."""
N_TASKS = 4
LOOK_EVERY = 10
"""Labels between two looks: more of them than a minute brings most groups."""
MOST_LABELS = 40_000
"""Of a run in which nobody was split off until then."""
EQUAL_LABELS = 20_000
EQUAL_RUNS = 100
"""The goal of equal hosts is in runs of so many."""


def labels_until_split(runs: int, seed: int) -> list[Measured]:
    """Return how many labels a group has when its host that is worse and cheaper is split off.

    It serves all but what is explored, and every call is labelled.
    """
    at, who = _first_splits(
        np.array([LEVEL - POINTS, LEVEL]), runs, seed, n_labels=MOST_LABELS, is_cheaper=True
    )
    experiment = "a host 5 points worse at half the price"
    median = float(np.median(np.where(np.isfinite(at), at, MOST_LABELS)))
    return [
        _row(experiment, "labels of the group until it is split off, median", median, 8000),
        _row(experiment, "runs in which the better one was", int((who == 1).sum()), 0),
    ]


def equal_hosts_split(runs: int, seed: int) -> list[Measured]:
    """Return in how many of `runs` one of two equal hosts was split off within 20,000 labels."""
    rows = []
    for prices, is_cheaper in (("of equal prices", False), ("one at half the price", True)):
        at, _ = _first_splits(
            np.array([LEVEL, LEVEL]), runs, seed, n_labels=EQUAL_LABELS, is_cheaper=is_cheaper
        )
        measure = f"runs of {runs} in which one is split off"
        split = int(np.isfinite(at).sum())
        rows.append(_row(f"equal hosts, {prices}", measure, split, 2 * runs / EQUAL_RUNS))
    return rows


def run_bench(runs: int = EQUAL_RUNS, seed: int = 1) -> Measured:
    """Return all rows."""
    return {"rows": [*labels_until_split(runs, seed), *equal_hosts_split(runs, seed)]}


def print_table(measured: Measured) -> None:
    """Print a line for each row."""
    for row in measured["rows"]:
        kept = "kept" if row["kept"] else "missed"
        print(f"{row['experiment']}: {row['measure']}: {row['value']} (≤ {row['goal']}: {kept})")


def _row(experiment: str, measure: str, value: float, goal: float) -> Measured:
    return {
        "experiment": experiment,
        "measure": measure,
        "value": value,
        "goal": goal,
        "kept": value <= goal,
    }


def _first_splits(
    quality: NDArray[np.float64], runs: int, seed: int, *, n_labels: int, is_cheaper: bool
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return (runs,) at which label the first host was split off, inf where none was, and which.

    Args:
        quality: (2,) mean rewards; each run is a group of two arms.
        is_cheaper: the first host serves all but what is explored; else both serve as many.
    """
    rng = np.random.default_rng(seed)
    group, first = np.repeat(np.arange(runs), 2), 2 * np.arange(runs)
    sums = np.zeros((N_TASKS, 2 * runs, N_COLUMNS))
    at, who = np.full(runs, np.inf), np.full(runs, -1)
    for label in range(1, n_labels + 1):
        task = rng.integers(0, N_TASKS, runs)
        n = sums[task[:, None], first[:, None] + np.arange(2), Q.N]
        host = np.zeros(runs, dtype=np.intp) if is_cheaper else rng.integers(0, 2, runs)
        explored = (rng.random(runs) < HOST_EXPLORED) & (n.sum(axis=1) >= HOST_LABELS)
        host = np.where(explored, n.argmin(axis=1), host)
        reward = (rng.random(runs) < quality[host]).astype(float)
        cell = task, first + host
        sums[(*cell, Q.LABELS)] += 1
        sums[(*cell, Q.N)] += 1
        sums[(*cell, Q.R)] += reward
        sums[(*cell, Q.R2)] += reward
        if label % LOOK_EVERY == 0:
            is_split = compare(sums, group).is_split.reshape(runs, 2)
            new = is_split.any(axis=1) & np.isinf(at)
            at[new], who[new] = label, is_split[new].argmax(axis=1)
            if np.isfinite(at).all():
                break
    return at, who
