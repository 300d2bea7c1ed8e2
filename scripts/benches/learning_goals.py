"""What a row of `bench learning` is: what is played, what is told of it, what it has to show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scripts.benches.learning_cases import LearningRun


@dataclass(frozen=True, slots=True)
class Played:
    """A run, and what came of each of its streams."""

    run: LearningRun
    budget_usd: float | None
    found: Sequence[Any]  # `SeedFigures` or lists of `JudgedEstimate`, by seed


@dataclass(frozen=True, slots=True)
class RowFigures:
    """What a row tells; None where one does not apply."""

    value: float
    ci: float | None = None
    p90: float | None = None
    stuck: float | None = None


Figure = Callable[[Sequence[Played]], RowFigures]


@dataclass(frozen=True, slots=True)
class Goal:
    """What a row has to show: all of what is not None."""

    at_most: float | None = None
    at_least: float | None = None
    stretch: float | None = None  # told, not asked for
    p90_of_mean: float | None = None
    p90_at_most: float | None = None
    never_stuck: bool = False
    below: LearningRun | None = None  # mean regret less than this run's
    beyond_noise: bool = False  # missed only where the interval misses the bound as well

    def text(self) -> str | None:
        """Return the goal in words, None where there is none."""
        parts = []
        for sign, bound in (("≤", self.at_most), ("≥", self.at_least)):
            if bound is not None:
                stretch = "" if self.stretch is None else f" ({self.stretch:g})"
                noise = ", beyond noise" if self.beyond_noise else ""
                parts.append(f"{sign} {bound:g}{stretch}{noise}")
        if self.below is not None:
            parts.append("less than exact draws")
        if self.p90_of_mean is not None:
            parts.append(f"p90 ≤ {self.p90_of_mean:g} × mean")
        if self.p90_at_most is not None:
            parts.append(f"p90 ≤ {self.p90_at_most:g}")
        if self.never_stuck:
            parts.append("stuck 0")
        return ", ".join(parts) or None

    def kept(self, row: RowFigures, beside: float | None) -> bool | None:
        """Return whether a row shows it, None where there is no goal; no figure shows nothing.

        Args:
            beside: mean regret of `below`.
        """
        if self.text() is None:
            return None
        noise = (row.ci or 0.0) if self.beyond_noise else 0.0
        missed = [
            np.isnan(row.value),
            self.at_most is not None and row.value - noise > self.at_most,
            self.at_least is not None and row.value + noise < self.at_least,
            beside is not None and row.value >= beside,
            self.p90_of_mean is not None and _p90(row) > self.p90_of_mean * row.value,
            self.p90_at_most is not None and _p90(row) > self.p90_at_most,
            self.never_stuck and row.stuck != 0,
        ]
        return not any(missed)


@dataclass(frozen=True, slots=True)
class Experiment:
    """One row: what is played, what is told of it, and what it has to show."""

    name: str
    measure: str
    figure: Figure
    runs: tuple[LearningRun, ...]
    goal: Goal = field(default_factory=Goal)


@dataclass(frozen=True, slots=True)
class SoloExperiment:
    """One row that is no replay, and works its figure out by itself."""

    name: str
    measure: str
    figure: Callable[[], float]
    goal: Goal = field(default_factory=Goal)


def _p90(row: RowFigures) -> float:
    return np.inf if row.p90 is None else row.p90
