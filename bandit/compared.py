"""Two sides that chance assigned, from their sums: by how much they differ, and how surely. Pure.

Sides are compared within blocks: a task's days, few of them together until each side has enough.
A task weighs as its calls; a day within it as its labels, so that labels that are still to come
cost no precision. A side's mean is that of its blocks by weights that both sides share; sides are
subtracted after that, so that a ratio is never taken of a block's few labels.

The error is by clusters: what all calls of a bucket of clusters, in all blocks and on both sides,
move the difference by, squared. Calls of a user that go together or against one another count so.
It holds for traffic like this: how much tasks happened to be asked for is part of the error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from bandit.sequences import FIRST_READ, effective_units
from bandit.strata import Blocks, block_weights, blocks_of

COMPARED = np.dtype(
    [
        ("sequence", "<u8"),  # digest of the trial, and of whether it is its hold-out
        ("task", "<u8"),
        ("day", "<i4"),  # since the epoch
        ("bucket", "<u2"),  # of clusters: a whole cluster is in one, by its digest
        ("is_control", "?"),  # served as the incumbent
        ("units", "<u4"),  # that began that day
        ("calls", "<u4"),  # with a price; those that ask the same again count with the first
        ("unpriced", "<u4"),  # calls of which nobody knows what they cost; their labels count
        ("labelled", "<u4"),  # calls with a quality label, or completed episodes
        ("reward", "<f8"),  # Σ over the labelled
        ("cost_usd", "<f8"),  # of all calls, with what came after them
        ("labelled_cost_usd", "<f8"),  # of the labelled alone
        ("wall_s", "<f8"),  # of completed episodes
    ]
)
"""Sums of one side of a stratum (task × day) and bucket of clusters; they add.

Of an app's trial that is judged by episodes each is one call, of task `EPISODES`.
"""
EPISODES = 0
"""In place of a task: an app's whole episodes."""
N_BUCKETS = 4096
SUMS = ("units", "calls", "labelled", "reward", "cost_usd", "labelled_cost_usd", "wall_s")
LEAST_CLUSTERS = 40
"""Equally large clusters that would tell as much, on each side. Of fewer nothing is read: then a
few users are all that there is, and what they do is not normal."""
MOST_RELATIVE = 1000.0
"""Of a relative difference, where one side costs nothing, or has no success."""


class Measure(StrEnum):
    """What two sides are compared by."""

    UTILITY = "utility"  # share of the value of a success
    QUALITY = "quality"  # mean reward, in [0, 1]
    COST_PER_SUCCESS = "cost per success"  # relative: -.12 is 12 % cheaper
    WALL_TIME = "wall time"  # relative


RELATIVE = frozenset({Measure.COST_PER_SUCCESS, Measure.WALL_TIME})
"""Worked out as differences of logarithms."""


@dataclass(frozen=True, slots=True)
class SideDifference:
    """The challenger's side less the incumbent's, with its standard error."""

    measure: Measure
    mean: float  # of RELATIVE measures, of logarithms
    error: float
    clusters: float  # equally large ones that would tell as much


@dataclass(frozen=True, slots=True)
class TwoSides:
    """What there is of both sides; each pair is of the incumbent's, then of the other."""

    units: tuple[int, int]
    labelled: tuple[int, int]
    readable: tuple[int, int]  # units with a label, in blocks that are compared
    clusters: float  # on the side that has fewer
    differences: tuple[SideDifference, ...]  # empty where nothing may be read

    @property
    def effective(self) -> float:
        """Units of two equal halves that would tell as much: the sequence's time."""
        return effective_units(*self.readable)


def two_sides(
    rows: NDArray[np.void],
    measures: Sequence[Measure],
    *,
    value_usd: float | None = None,
    by_episode: bool = False,
) -> TwoSides:
    """Return how two sides differ by each measure.

    Args:
        rows: (n,) of COMPARED, of one sequence, in any order; several may be of one place.
        measures: what is asked for; one that was not measured is left out of the answer.
        value_usd: what a success is worth; UTILITY needs it.
        by_episode: labels are of whole episodes, so cost is by episode, too: of labelled ones, and
            not of calls, of which one side may make more.
    """
    side = (~rows["is_control"]).astype(np.intp)
    units, labelled = (
        np.bincount(side, rows[name].astype(float), 2).astype(int) for name in ("units", "labelled")
    )
    blocks = blocks_of(rows, side)
    if (is_out := blocks.of_row < 0).any():
        rows, side = rows.compress(~is_out), side.compress(~is_out)
        blocks = blocks._replace(of_row=blocks.of_row.compress(~is_out))
    sums = _BlockSums.of(rows, side, blocks)
    readable = sums.readable.sum(axis=0)
    clusters = sums.clusters("labelled")
    found: tuple[SideDifference, ...] = ()
    if readable.min() >= FIRST_READ and clusters >= LEAST_CLUSTERS:
        found = tuple(_differences(sums, measures, value_usd, by_episode=by_episode))
    return TwoSides(
        units=(int(units[0]), int(units[1])),
        labelled=(int(labelled[0]), int(labelled[1])),
        readable=(int(readable[0]), int(readable[1])),
        clusters=clusters,
        differences=found,
    )


@dataclass(frozen=True, slots=True)
class _BlockSums:
    """Columns of rows, and sums of both sides of each block, which are (n_blocks, 2)."""

    columns: dict[str, NDArray[np.float64]]  # (n,) each
    side: NDArray[np.intp]  # (n,)
    cell: NDArray[np.intp]  # (n,) block × 2 + side
    bucket: NDArray[np.intp]  # (n,)
    task: NDArray[np.intp]  # (n_blocks,)
    labelled: NDArray[np.float64]
    readable: NDArray[np.float64]  # units with a label, at most
    by_calls: NDArray[np.float64]  # (n_blocks,) weights, 1 together
    by_labels: NDArray[np.float64]

    @classmethod
    def of(cls, rows: NDArray[np.void], side: NDArray[np.intp], blocks: Blocks) -> _BlockSums:
        cell = blocks.of_row * 2 + side
        columns = {name: rows[name].astype(np.float64) for name in SUMS}

        def total(name: str) -> NDArray[np.float64]:
            found = np.bincount(cell, columns[name], 2 * len(blocks.task))
            return np.asarray(found.reshape(-1, 2))

        calls, labelled = total("calls"), total("labelled")
        readable = np.minimum(total("units"), labelled)
        weights = block_weights(blocks.task, calls.sum(axis=1), labelled.sum(axis=1))
        bucket = rows["bucket"].astype(np.intp)
        return cls(columns, side, cell, bucket, blocks.task, labelled, readable, *weights)

    def mean(self, column: str, per: str, weights: NDArray[np.float64]) -> _Moved:
        """Return each side's mean, and how far each row moves it.

        A row moves its own side's mean of its block, and how much its task weighs on both sides:
        what is said is of traffic like this, and not of these very calls.
        """
        y, x, size = self.columns[column], self.columns[per], self.labelled.size
        below = np.maximum(np.bincount(self.cell, x, size), 1.0)
        ratio = np.bincount(self.cell, y, size) / below
        k = np.maximum(self.readable.ravel(), 2.0)
        factor = np.repeat(weights, 2) / below * np.sqrt(k / (k - 1))
        own = factor[self.cell] * (y - ratio[self.cell] * x)
        share = self.columns["calls"] / max(float(self.columns["calls"].sum()), 1.0)
        means, moves = np.empty(2), np.empty((2, len(own)))
        for at, of_block in enumerate(ratio.reshape(-1, 2).T):
            means[at] = weights @ of_block
            whole = np.maximum(np.bincount(self.task, weights), 1e-300)
            of_task = np.bincount(self.task, weights * of_block) / whole
            apart = of_task[self.task] - means[at]
            moves[at] = share * apart[self.cell // 2] + np.where(self.side == at, own, 0.0)
        return _Moved(means, moves, self.clusters(column if "cost" in column else per))

    def clusters(self, column: str) -> float:
        """Return how many equally large buckets would tell as much, on the side with fewer.

        Ref: Kish (1965), effective sample size by weights.
        """
        at = self.side * N_BUCKETS + self.bucket
        mass = np.bincount(at, self.columns[column], 2 * N_BUCKETS).reshape(2, N_BUCKETS)
        squares = (mass**2).sum(axis=1)
        is_there = squares > 0  # of nothing at all there is nothing to be unsure of
        return float(min(mass.sum(axis=1)[is_there] ** 2 / squares[is_there], default=0.0))

    def variance(self, moves: NDArray[np.float64]) -> float:
        """Return the variance of what rows move so far, by buckets.

        Args:
            moves: (2, n) as `_Moved` has them.
        """
        per = np.bincount(self.bucket, moves[1] - moves[0], N_BUCKETS)
        return float(per @ per)


@dataclass(frozen=True, slots=True)
class _Moved:
    """Both sides' means of one thing, and how far each row moves them."""

    means: NDArray[np.float64]  # (2,)
    moves: NDArray[np.float64]  # (2, n)
    clusters: float  # equally large ones that would tell as much
    extra: float = 0.0  # variance of the difference that no row shows

    def logarithm(self, least: NDArray[np.float64] | None = None) -> _Moved:
        """Return the same of the logarithm.

        Args:
            least: (2,) what a mean of 0 is taken for, the logarithm having variance 1, as that of
                a count of one has. Without it, the other side's ÷ MOST_RELATIVE.
        """
        is_none = self.means <= 0
        floor = np.full(2, self.means.max() / MOST_RELATIVE) if least is None else least
        means = np.where(is_none, floor, self.means)
        extra = 0.0 if least is None else float(is_none.sum())
        return _Moved(np.log(means), self.moves / means[:, np.newaxis], self.clusters, extra)


def _differences(
    sums: _BlockSums,
    measures: Sequence[Measure],
    value_usd: float | None,
    *,
    by_episode: bool,
) -> list[SideDifference]:
    """Return what was measured, of what is asked for."""
    quality = sums.mean("reward", "labelled", sums.by_labels)
    if by_episode:
        spent = sums.mean("labelled_cost_usd", "labelled", sums.by_labels)
    else:
        spent = sums.mean("cost_usd", "calls", sums.by_calls)
    out = []
    for measure in measures:
        parts: list[tuple[float, _Moved]] = []
        if measure is Measure.QUALITY:
            parts = [(1.0, quality)]
        elif measure is Measure.UTILITY:
            parts = [(1.0, quality), (-1.0 / _above_zero(value_usd), spent)]
        elif measure is Measure.COST_PER_SUCCESS and spent.means.any():
            one = 1.0 / np.maximum(sums.labelled.sum(axis=0), 1.0)
            parts = [(1.0, spent.logarithm()), (-1.0, quality.logarithm(one))]
        elif measure is Measure.WALL_TIME:
            wall = sums.mean("wall_s", "labelled", sums.by_labels)
            parts = [(1.0, wall.logarithm())] if wall.means.any() else []
        if parts:
            out.append(_difference(measure, parts, sums))
    return out


def _above_zero(value_usd: float | None) -> float:
    if value_usd is None or value_usd <= 0:
        raise ValueError(f"value_usd is {value_usd}; utility needs one above 0")
    return value_usd


def _difference(
    measure: Measure, parts: Sequence[tuple[float, _Moved]], sums: _BlockSums
) -> SideDifference:
    """Return the difference of a sum of things, each times a factor.

    Ref: Welch (1947) and Satterthwaite (1946): of how many clusters a sum of variances is known.
    """
    mean = sum(factor * float(part.means[1] - part.means[0]) for factor, part in parts)
    moves = np.sum([factor * part.moves for factor, part in parts], axis=0)
    extra = sum(factor**2 * part.extra for factor, part in parts)
    clusters = parts[0][1].clusters
    if len(parts) > 1:
        alone = [factor**2 * sums.variance(part.moves) for factor, part in parts]
        pairs = zip(alone, parts, strict=True)
        spread = sum(v**2 / max(part.clusters, 1.0) for v, (_, part) in pairs)
        clusters = sum(alone) ** 2 / spread if spread > 0 else clusters
    return SideDifference(measure, mean, float(np.sqrt(sums.variance(moves) + extra)), clusters)
