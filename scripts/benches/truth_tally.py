"""What people are shown of a simulated world, held against its truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bandit import quality
from bandit.families import Q
from bandit.matrix import ReportRow
from router.report.views import report_rows
from scripts.benches.truth_world import SimulatedWorld

TENTHS = 10
BANDS = (1, 10, 100, 1000)
"""Labels of a cell from which on it counts in the next band of coverage."""
LEAST_LABELS = 1000
"""Of a cell whose error counts: its mean is then known to .013."""


@dataclass(slots=True)
class Tally:
    """What was shown in one world, held against the truth."""

    inside: list[int] = field(default_factory=lambda: [0] * TENTHS)  # cells whose interval holds it
    cells: list[int] = field(default_factory=lambda: [0] * TENTHS)
    by_labels: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)] * len(BANDS))
    worst_error: float | None = None  # of cells with enough labels
    moved: float | None = None  # between what is shown and what the labels alone say

    def note(self, tenth: int, world: SimulatedWorld) -> None:
        """Look at what `report` would show now."""
        inside, error = compare(shown(world), world)
        self.inside[tenth] += int(inside[world.labels > 0].sum())
        self.cells[tenth] += int((world.labels > 0).sum())
        band = np.searchsorted(BANDS, world.labels, side="right") - 1
        for k, (n_inside, n) in enumerate(self.by_labels):
            own = inside[band == k]
            self.by_labels[k] = n_inside + int(own.sum()), n + own.size
        known = error[world.labels >= LEAST_LABELS]
        if known.size:
            self.worst_error = max(self.worst_error or 0.0, float(known.max()))
        moved = moved_by_correction(world)
        if moved is not None:
            self.moved = max(self.moved or 0.0, moved)

    def coverage(self) -> list[float]:
        """Return the share of each tenth that has cells."""
        return [i / n for i, n in zip(self.inside, self.cells, strict=True) if n]


def shown(world: SimulatedWorld) -> list[ReportRow]:
    """Return the rows of `report`."""
    return report_rows(world.beliefs, "learn")


def compare(
    rows: Sequence[ReportRow], world: SimulatedWorld
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return (N_TASKS, n_endpoints) whether the interval shown holds the truth, and the error.

    False and NaN where nothing is shown.
    """
    inside, error = np.zeros(world.truth.shape, dtype=bool), np.full(world.truth.shape, np.nan)
    tasks, endpoints = world.configuration.task_index, world.configuration.catalog.by_id
    for row in rows:
        if row.quality is None or row.quality_low is None or row.quality_high is None:
            continue
        cell = tasks[row.category], endpoints[row.endpoint].index
        truth = world.truth[cell]
        inside[cell] = row.quality_low <= truth <= row.quality_high
        error[cell] = abs(row.quality - truth)
    return inside, error


def moved_by_correction(world: SimulatedWorld) -> float | None:
    """Return by how much a mean shown differs from what its labels say, each counted alike.

    The labels are those of the simulator's own books, under the same model; that all of them fade
    alike is no correction. None where derived labels or a regime count as well: they move what is
    shown, too.
    """
    if world.setting.derived or any(known.regimes.now for known in world.beliefs.known):
        return None
    found = world.beliefs.posterior
    n, wins = (np.zeros(found.quality.mean.shape) for _ in range(2))
    n[: len(world.labels)], wins[: len(world.wins)] = world.labels, world.wins
    if not n.any():
        return 0.0
    faded = found.evidence.quality[..., Q.N].sum() / n.sum()
    plain = quality.fit(n * faded, wins * faded, wins * faded, family=found.arms.family)
    return float(np.abs(plain.mean - found.quality.mean)[n > 0].max())
