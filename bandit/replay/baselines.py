"""Policies that ours is measured against. Each is what it is called, and nothing more.

The learning ones keep Σr and n per (category, arm); a profile's mean m₀ counts as 25 labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

EPSILON = 0.1
UCB_WIDTH = 0.5
UNTRIED = 1e9
AT_RANDOM = 2e9
"""Scores from here on are pure chance: no price moves them."""
PROFILE_N = 25.0
PROFILE_RANGE = (0.02, 0.98)
"""A profile's mean is clipped, so that a Beta prior has mass on both sides."""


class Policy(Protocol):
    """What a replay asks of a policy."""

    def choose(self, call: int, category: int, available: NDArray[np.bool_]) -> int:
        """Return the arm that serves the call."""

    def answered(self, call: int, category: int, arm: int) -> None:
        """Learn that the call was served: what the sidecar sees by itself."""

    def judged(self, call: int, category: int, arm: int, reward: float) -> None:
        """Learn a label, perhaps late."""


@dataclass(slots=True)
class Fixed:
    """An arm for each category, chosen beforehand; where it is away the next best."""

    value: NDArray[np.float64]  # (n_categories, n_arms) what it ranks by

    def choose(self, call: int, category: int, available: NDArray[np.bool_]) -> int:
        """Return the best available arm of the category."""
        return int(np.where(available, self.value[category], -np.inf).argmax())

    def answered(self, call: int, category: int, arm: int) -> None:
        """Learn nothing."""

    def judged(self, call: int, category: int, arm: int, reward: float) -> None:
        """Learn nothing."""


@dataclass(slots=True)
class Mix:
    """Two fixed arms, the second for a share of the calls."""

    first: int
    second: int
    share: float
    rng: np.random.Generator

    def choose(self, call: int, category: int, available: NDArray[np.bool_]) -> int:
        """Return one of the two; whichever is there if the other is away."""
        arm = self.second if self.rng.random() < self.share else self.first
        if available[arm]:
            return arm
        other = self.first if arm == self.second else self.second
        return other if available[other] else int(available.argmax())

    def answered(self, call: int, category: int, arm: int) -> None:
        """Learn nothing."""

    def judged(self, call: int, category: int, arm: int, reward: float) -> None:
        """Learn nothing."""


Score = Callable[["Learning", int], NDArray[np.float64]]


@dataclass(slots=True)
class Learning:
    """A policy that scores the arms of a category from Σr and n, ties at random."""

    score: Score
    rng: np.random.Generator
    known: NDArray[np.float64] | None  # (n_categories, n_arms) profile means, NaN where unknown
    shape: tuple[int, int]
    price: NDArray[np.float64] | None = None  # (n_categories, n_arms) mean cost ÷ value
    n: NDArray[np.float64] = field(init=False)
    total: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        """Begin with nothing."""
        self.n, self.total = np.zeros(self.shape), np.zeros(self.shape)

    def choose(self, call: int, category: int, available: NDArray[np.bool_]) -> int:
        """Return the arm of the best score."""
        score = self.score(self, category)
        if self.price is not None and score.max() < AT_RANDOM:
            score = score - self.price[category]
        score = np.where(available, score, -np.inf)
        best = np.flatnonzero(score == score.max())
        return int(best[0] if len(best) == 1 else self.rng.choice(best))

    def answered(self, call: int, category: int, arm: int) -> None:
        """Learn nothing from an answer that nobody judged."""

    def judged(self, call: int, category: int, arm: int, reward: float) -> None:
        """Count the label."""
        self.n[category, arm] += 1
        self.total[category, arm] += reward

    def prior(self, category: int) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Return the profile's clipped means and where they are known, or None without one."""
        if self.known is None:
            return None
        mean = self.known[category]
        seen = np.isfinite(mean)
        return np.clip(np.where(seen, mean, 0.5), *PROFILE_RANGE), seen


def mean_score(self: Learning, category: int) -> NDArray[np.float64]:
    """Score by (Σr + 1)/(n + 1), with a profile (Σr + 25 m₀)/(n + 25)."""
    n, total = self.n[category], self.total[category]
    cold = (total + 1) / (n + 1)
    if (prior := self.prior(category)) is None:
        return cold
    return np.where(prior[1], (total + PROFILE_N * prior[0]) / (n + PROFILE_N), cold)


def epsilon_score(self: Learning, category: int) -> NDArray[np.float64]:
    """Score as `mean_score` does, but at random for a tenth of the calls."""
    if self.rng.random() < EPSILON:
        return random_score(self, category)
    return mean_score(self, category)


def ucb_score(self: Learning, category: int) -> NDArray[np.float64]:
    """Score by mean + ½√(ln N ÷ 2n); an arm that was never tried comes first."""
    n, total = self.n[category], self.total[category]
    if (prior := self.prior(category)) is not None:
        extra = PROFILE_N * prior[1]
        n, total = n + extra, total + extra * prior[0]
    tried = np.maximum(n, 1)
    bound = total / tried + UCB_WIDTH * np.sqrt(np.log(max(n.sum(), 1)) / (2 * tried))
    return np.where(n > 0, bound, UNTRIED)


def beta_score(self: Learning, category: int) -> NDArray[np.float64]:
    """Draw from Beta(1 + Σr, 1 + n − Σr), with a profile Beta(25 m₀ + Σr, 25(1−m₀) + n − Σr)."""
    n, total = self.n[category], self.total[category]
    a, b = 1 + total, 1 + n - total
    if (prior := self.prior(category)) is not None:
        mean, seen = prior
        a = np.where(seen, PROFILE_N * mean + total, a)
        b = np.where(seen, PROFILE_N * (1 - mean) + n - total, b)
    return self.rng.beta(a, b)


def random_score(self: Learning, category: int) -> NDArray[np.float64]:
    """Score at random."""
    return AT_RANDOM + self.rng.random(self.shape[1])


LEARNERS: dict[str, Score] = {
    "random": random_score,
    "epsilon-greedy": epsilon_score,
    "greedy": mean_score,
    "ucb": ucb_score,
    "beta-ts": beta_score,
}


def time_share(
    cost: NDArray[np.float64], value: NDArray[np.float64], budget: float
) -> tuple[int, int, float]:
    """Return the two arms, and the second's share, of the best mean value at a mean cost.

    Args:
        cost, value: (n_arms,) means.
        budget: mean cost allowed; below the cheapest arm, that arm alone.
    """
    n = len(cost)
    affordable = [i for i in range(n) if cost[i] <= budget]
    if not affordable:
        cheapest = int(cost.argmin())
        return cheapest, cheapest, 0.0
    best = max(affordable, key=lambda i: value[i])
    found, top = (best, best, 0.0), float(value[best])
    for i in affordable:
        for j in range(n):
            if cost[j] > budget:
                share = (budget - cost[i]) / (cost[j] - cost[i])
                mixed = (1 - share) * value[i] + share * value[j]
                if mixed > top:
                    found, top = (i, j, float(share)), float(mixed)
    return found
