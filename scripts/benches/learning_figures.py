"""The figures of `bench learning`: from what was played, what one row tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bandit.replay.figures import SeedFigures, interval, summarise
from scripts.benches.learning_goals import Figure, Played, RowFigures

POINTS = 100.0
"""Points in a share of 1."""


def summary(played: Played) -> dict[str, float | None]:
    """Return what `replay` tells of a run, shares of a gap aside."""
    found = played.found
    return summarise(
        found, single=found, per_category=found, usual=None, budget_usd=played.budget_usd
    )


def of_streams(name: str) -> Figure:
    """Return a figure that is a stream's own, by its name: its mean over streams."""

    def figure(played: Sequence[Played]) -> RowFigures:
        values = [float(getattr(f, name)) for f in played[0].found]
        return RowFigures(float(np.mean(values)), interval(values))

    return figure


def unlucky(name: str) -> Figure:
    """Return the same with what the unlucky streams lose, and how many are stuck."""

    def figure(played: Sequence[Played]) -> RowFigures:
        told = summary(played[0])
        return replace(of_streams(name)(played), p90=told["regret_p90"], stuck=told["stuck_share"])

    return figure


def of_summary(name: str, scale: float = 1.0) -> Figure:
    """Return a figure that only all streams together have, by the name that `replay` gives it."""

    def figure(played: Sequence[Played]) -> RowFigures:
        value = summary(played[0])[name]
        return RowFigures(np.nan if value is None else scale * value)

    return figure


def end(played: Sequence[Played]) -> RowFigures:
    """Return the points that the incumbent law gained over the incumbent, at the end."""
    values = [POINTS * f.end for f in played[0].found]
    return RowFigures(float(np.mean(values)), interval(values))


def share_back(played: Sequence[Played]) -> RowFigures:
    """Return the changed endpoint's share after recovery ÷ before the change."""
    shares = [(f.share_before, f.share_recovered) for f in played[0].found]
    if any(part is None for pair in shares for part in pair):
        return RowFigures(np.nan)  # streams too short to tell
    before, after = np.array(shares).T
    if not before.any():
        return RowFigures(np.nan)
    ratio = float(after.mean() / before.mean())
    return RowFigures(ratio, interval(((after - ratio * before) / before.mean()).tolist()))


def share_moved(played: Sequence[Played]) -> RowFigures:
    """Return how far the favoured endpoint's share moved from the second run's, same streams."""
    biased, usual = played
    moved = [
        f.share_favoured - u.share_favoured for f, u in zip(biased.found, usual.found, strict=True)
    ]
    return RowFigures(float(np.mean(moved)), interval(moved))


def over_mix(played: Sequence[Played]) -> RowFigures:
    """Return the points of quality above `lp-mix`, mean over the budgets; ours come first."""
    half = len(played) // 2
    by_step = [
        [POINTS * (f.quality - m.quality) for f, m in zip(ours.found, mix.found, strict=True)]
        for ours, mix in zip(played[:half], played[half:], strict=True)
    ]
    values = np.mean(by_step, axis=0).tolist()
    return RowFigures(float(np.mean(values)), interval(values))


def worst_spend(played: Sequence[Played]) -> RowFigures:
    """Return spend ÷ budget of the stream that spent most, over all budgets."""
    worst = [summary(p)["spend_over_budget_worst"] for p in played]
    return RowFigures(max(w for w in worst if w is not None))


def subsets_ahead(played: Sequence[Played]) -> RowFigures:
    """Return in how many subsets our mean regret is the least of all policies'; ours come first."""
    by_case: dict[Any, list[float]] = {}
    ours: list[SeedFigures] = []
    for p in played:
        by_case.setdefault(p.run.case, []).append(float(np.mean([f.regret for f in p.found])))
        if p.run.policy == "pointsman":
            ours += p.found
    ahead = sum(regrets[0] < min(regrets[1:]) for regrets in by_case.values())
    return RowFigures(float(ahead), stuck=float(np.mean([f.stuck for f in ours])))


def judged(target: str, kind: str) -> Figure:
    """Return error (RMSE), coverage or refusals of the doubly robust estimate of a target."""

    def figure(played: Sequence[Played]) -> RowFigures:
        found = [
            j for log in played[0].found for j in log if (j.target, j.estimator) == (target, "dr")
        ]
        given = [j for j in found if not j.refused]
        if kind == "refused":
            values = [float(j.refused) for j in found]
        elif kind == "covered":
            values = [float(j.covered) for j in given]
        else:
            error = float(np.sqrt(np.mean([j.error**2 for j in given]))) if given else np.nan
            # The standard error of a root mean square of normal errors.
            return RowFigures(error, 1.96 * error / np.sqrt(2 * max(len(given), 1)))
        return RowFigures(float(np.mean(values)) if values else np.nan, interval(values))

    return figure
