"""Streams of calls made from a table of recorded outcomes, and what may happen on the way.

A stream says for every call what *each* endpoint would have answered, so that all policies meet
the very same world. Its phases carry the true means that regret is counted against.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

DEGRADED = 0.6
"""Share of its rewards that a degraded endpoint keeps."""
OUTAGE_CALLS = 300
PRICE_RISE = 4.0
DELAY_CALLS = 200
LABELLED = 0.3
BIASED = (0.9, 0.3, 0.6)
"""Labelled shares of one endpoint's successes, of its failures, and of everybody else's calls."""
SUCCESS = 0.5
"""Reward from which on a graded answer counts as a success."""
MISTAKEN = 0.15
"""Share of calls whose category is drawn at random."""


class Scenario(StrEnum):
    """What happens to a stream."""

    STATIONARY = "stationary"
    DEGRADATION = "degradation"
    OUTAGE = "outage"
    NEWCOMER = "newcomer"
    PRICE = "price"
    DELAY = "delay"
    LABELS = "labels"
    BIASED_LABELS = "biased-labels"
    NO_LABELS = "no-labels"
    CATEGORY_NOISE = "category-noise"


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What every endpoint made of every prompt."""

    categories: list[str]
    endpoints: list[str]  # sorted
    category: NDArray[np.intp]  # (n_prompts,)
    quality: NDArray[np.float64]  # (n_prompts, n_arms), in [0, 1]
    cost_usd: NDArray[np.float64]
    latency_s: NDArray[np.float64] | None

    def means(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (n_categories, n_arms) means of (n_prompts, n_arms) values over all prompts."""
        out = np.zeros((len(self.categories), values.shape[1]))
        np.add.at(out, self.category, values)
        return out / np.bincount(self.category, minlength=len(self.categories))[:, None]


@dataclass(frozen=True, slots=True)
class Phase:
    """A span of calls in which the world stays as it is."""

    start: int
    quality: NDArray[np.float64]  # (n_categories, n_arms) true means
    cost_usd: NDArray[np.float64]  # (n_categories, n_arms)
    price: NDArray[np.float64]  # (n_arms,) factor on the recorded prices; known to everybody
    available: NDArray[np.bool_]  # (n_arms,)
    latency_s: NDArray[np.float64] | None = None  # (n_categories, n_arms)


@dataclass(frozen=True, slots=True)
class Stream:
    """All calls of one seed; row t is the t-th call."""

    prompt: NDArray[np.intp]  # (n_calls,)
    category: NDArray[np.intp]  # the true one
    seen: NDArray[np.intp]  # the one that policies are told
    at_ms: NDArray[np.int64]
    reward: NDArray[np.float64]  # (n_calls, n_arms)
    ok: NDArray[np.bool_]  # (n_calls, n_arms)
    cost_usd: NDArray[np.float64]  # (n_calls, n_arms)
    latency_s: NDArray[np.float64] | None
    labelled: NDArray[np.bool_]  # (n_calls, n_arms) whether the answer would be labelled
    delay: int  # calls until a label is known
    phases: list[Phase]
    phase: NDArray[np.intp]  # (n_calls,) index into phases
    profile: NDArray[np.intp]  # prompts that were graded beforehand, in no stream
    profiled: NDArray[np.bool_]  # (n_arms,) endpoints that took part
    changed: int | None  # the arm that the scenario is about

    def __len__(self) -> int:
        """Return the number of calls."""
        return len(self.prompt)


def make_stream(
    outcomes: Outcomes,
    *,
    seed: int,
    scenario: Scenario,
    best_single: int,
    median: int,
    profile: int = 0,
    repeat: int | None = None,
    at_ms: NDArray[np.int64] | None = None,
    calls_per_second: float = 1.0,
) -> Stream:
    """Return the stream of one seed.

    Args:
        best_single: the arm that the scenario changes.
        median: the arm of median mean quality, whose labels are biased in `biased-labels`.
        profile: prompts of each category that are graded beforehand, at most half of them.
        repeat: draw so many calls with replacement, instead of a permutation.
        at_ms: (n,) times of arrival, repeated from the start where there are too few.
    """
    rng = np.random.default_rng(seed)
    graded = _profile(outcomes, rng, profile)
    rest = np.setdiff1d(np.arange(len(outcomes.category)), graded)
    prompt = rng.permutation(rest) if repeat is None else rng.choice(rest, size=repeat)
    n, n_arms = len(prompt), len(outcomes.endpoints)
    category = outcomes.category[prompt]
    reward = outcomes.quality[prompt].copy()
    cost = outcomes.cost_usd[prompt].copy()
    ok = np.ones((n, n_arms), dtype=bool)
    phases = _phases(outcomes, n, scenario, best_single)
    phase = np.searchsorted([p.start for p in phases], np.arange(n), side="right") - 1
    luck = rng.random((n, 3))
    for number, p in enumerate(phases):
        cost[phase == number] *= p.price
    middle = phase == 1
    if scenario is Scenario.DEGRADATION:
        reward[middle, best_single] *= luck[middle, 0] < DEGRADED
    elif scenario is Scenario.OUTAGE:
        reward[middle, best_single] = 0.0
        ok[middle, best_single] = False
    seen = category.copy()
    if scenario is Scenario.CATEGORY_NOISE:
        wrong = luck[:, 1] < MISTAKEN
        seen[wrong] = rng.integers(len(outcomes.categories), size=wrong.sum())
    profiled = np.ones(n_arms, dtype=bool)
    if scenario is Scenario.NEWCOMER:
        profiled[best_single] = False
    return Stream(
        prompt=prompt,
        category=category,
        seen=seen,
        at_ms=_times(n, at_ms, calls_per_second),
        reward=reward,
        ok=ok,
        cost_usd=cost,
        latency_s=None if outcomes.latency_s is None else outcomes.latency_s[prompt],
        labelled=_labelled(reward, luck[:, 2], scenario, median),
        delay=DELAY_CALLS if scenario is Scenario.DELAY else 0,
        phases=phases,
        phase=phase,
        profile=graded,
        profiled=profiled,
        changed=best_single if len(phases) > 1 else None,
    )


def _profile(outcomes: Outcomes, rng: np.random.Generator, n: int) -> NDArray[np.intp]:
    parts = []
    for c in range(len(outcomes.categories)):
        members = np.flatnonzero(outcomes.category == c)
        parts.append(rng.choice(members, size=min(n, len(members) // 2), replace=False))
    return np.concatenate(parts).astype(np.intp)


def _phases(outcomes: Outcomes, n: int, scenario: Scenario, changed: int) -> list[Phase]:
    n_arms = len(outcomes.endpoints)
    quality, cost = outcomes.means(outcomes.quality), outcomes.means(outcomes.cost_usd)
    ones, everybody = np.ones(n_arms), np.ones(n_arms, dtype=bool)
    latency = None if outcomes.latency_s is None else outcomes.means(outcomes.latency_s)
    usual = Phase(0, quality, cost, ones, everybody, latency)
    third = n // 3
    one = np.arange(n_arms) == changed
    match scenario:
        case Scenario.DEGRADATION:
            worse = np.where(one, DEGRADED, 1.0) * quality
            return [
                usual,
                replace(usual, start=third, quality=worse),
                replace(usual, start=2 * n // 3),
            ]
        case Scenario.OUTAGE:
            dead = np.where(one, 0.0, 1.0) * quality
            return [
                usual,
                replace(usual, start=third, quality=dead),
                replace(usual, start=third + OUTAGE_CALLS),
            ]
        case Scenario.PRICE:
            rise = np.where(one, PRICE_RISE, 1.0)
            return [
                usual,
                replace(usual, start=third, cost_usd=cost * rise, price=rise),
                replace(usual, start=2 * n // 3),
            ]
        case Scenario.NEWCOMER:
            return [replace(usual, available=~one), replace(usual, start=third)]
        case _:
            return [usual]


def _labelled(
    reward: NDArray[np.float64], luck: NDArray[np.float64], scenario: Scenario, median: int
) -> NDArray[np.bool_]:
    share = np.ones(reward.shape)
    if scenario is Scenario.NO_LABELS:
        share[:] = 0.0
    elif scenario is Scenario.LABELS:
        share[:] = LABELLED
    elif scenario is Scenario.BIASED_LABELS:
        of_success, of_failure, of_others = BIASED
        share[:] = of_others
        share[:, median] = np.where(reward[:, median] >= SUCCESS, of_success, of_failure)
    return luck[:, None] < share


def _times(n: int, at_ms: NDArray[np.int64] | None, per_second: float) -> NDArray[np.int64]:
    if at_ms is None:
        return np.rint(np.arange(n) * (1000 / per_second)).astype(np.int64)
    rounds, place = np.divmod(np.arange(n), len(at_ms))
    return at_ms[place] - at_ms[0] + rounds * (at_ms[-1] - at_ms[0] + 1)
