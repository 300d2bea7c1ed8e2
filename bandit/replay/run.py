"""Replay: policies meet recorded outcomes, call by call, and what they chose is kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bandit.ope import Log
from bandit.replay import baselines
from bandit.replay.baselines import Policy
from bandit.replay.loop import Loop, Rules
from bandit.replay.scenarios import Outcomes, Stream
from bandit.utility import priced

Clock = Callable[[], float]


@dataclass(slots=True)
class Trace:
    """What one policy did on one stream."""

    arm: NDArray[np.intp]  # (n_calls,)
    propensity: NDArray[np.float64]  # (n_calls,) NaN where a policy knows none
    decide_s: NDArray[np.float64]
    update_s: NDArray[np.float64]
    at_current: NDArray[np.bool_]  # (n_calls,) served by the choice of the day
    alarms: list[tuple[int, int]] = field(default_factory=list)  # (call, arm)
    releases: int = 0
    log: Log | None = None


class Pointsman:
    """The loop as a policy of replays."""

    def __init__(self, loop: Loop, stream: Stream) -> None:
        self.loop = loop
        self._stream = stream

    def choose(self, call: int, category: int, available: NDArray[np.bool_]) -> int:
        """Return the arm that serves the call."""
        stream = self._stream
        price = stream.phases[stream.phase[call]].price
        self.loop.set_time(int(stream.at_ms[call]), price)
        return self.loop.choose(call, category, available)

    def answered(self, call: int, category: int, arm: int) -> None:
        """Note what a sidecar would see of the call."""
        stream = self._stream
        self.loop.answered(
            category,
            arm,
            ok=bool(stream.ok[call, arm]),
            cost_usd=float(stream.cost_usd[call, arm]),
            latency_s=None if stream.latency_s is None else float(stream.latency_s[call, arm]),
        )

    def judged(self, call: int, category: int, arm: int, reward: float) -> None:
        """Note a label."""
        self.loop.judged(call, category, arm, reward, int(self._stream.at_ms[call]))


def run(policy: Policy, stream: Stream, clock: Clock, *, logged: bool = False) -> Trace:
    """Return what a policy does on a stream.

    A label of call t is known before call t + 1 is decided, or as much later as the stream says.

    Args:
        clock: returns seconds, to time decisions and updates by.
        logged: keep what an off-policy evaluation needs; of the loop only.
    """
    n = len(stream)
    shape = stream.reward.shape if logged else (0, 0)
    propensity, predicted = np.zeros(shape), np.zeros(shape)
    trace = Trace(
        arm=np.zeros(n, dtype=np.intp),
        propensity=np.full(n, np.nan),
        decide_s=np.zeros(n),
        update_s=np.zeros(n),
        at_current=np.ones(n, dtype=bool),
    )
    loop = policy.loop if isinstance(policy, Pointsman) else None
    waiting: deque[int] = deque()
    for call in range(n):
        began = clock()
        while waiting and waiting[0] + 1 + stream.delay <= call:
            past = waiting.popleft()
            arm = int(trace.arm[past])
            policy.judged(past, int(stream.seen[past]), arm, float(stream.reward[past, arm]))
        trace.update_s[call] = clock() - began
        available = stream.phases[stream.phase[call]].available
        category = int(stream.seen[call])
        began = clock()
        arm = policy.choose(call, category, available)
        trace.decide_s[call] = clock() - began
        trace.arm[call] = arm
        if loop is not None and loop.last is not None:
            trace.propensity[call] = loop.last.propensity
            trace.at_current[call] = loop.law.current in (None, loop.last.group)
            if logged:
                propensity[call] = loop.propensities()
                predicted[call] = loop.posterior.quality.mean[category]
        policy.answered(call, category, arm)
        if stream.labelled[call, arm]:
            waiting.append(call)
    if loop is not None:
        trace.alarms = loop.alarms
        trace.releases = len(loop.releases)
    if logged:
        reward = stream.reward[np.arange(n), trace.arm]
        trace.log = Log(stream.seen, trace.arm, reward, propensity, predicted)
    return trace


@dataclass(frozen=True, slots=True)
class Hindsight:
    """What full knowledge of all selected prompts would choose; ties by name."""

    quality: NDArray[np.float64]  # (n_categories, n_arms)
    cost_usd: NDArray[np.float64]
    price: NDArray[np.float64]  # the same with priced latency, in successes; 0 without a value
    value: NDArray[np.float64]  # (n_categories, n_arms) what the objective ranks by
    overall: NDArray[np.float64]  # (n_arms,) the same over all prompts
    overall_cost_usd: NDArray[np.float64]
    allowed: NDArray[np.bool_]  # (n_categories, n_arms) keep the latency limit
    allowed_single: NDArray[np.bool_]  # (n_arms,)

    @property
    def ranking(self) -> list[int]:
        """Arms, best single endpoint first."""
        return [int(a) for a in np.argsort(-self.overall, kind="stable")]


def hindsight(outcomes: Outcomes, rules: Rules) -> Hindsight:
    """Return what full knowledge would choose."""
    price = priced(outcomes.cost_usd, outcomes.latency_s, rules.objective)
    value = outcomes.quality - price
    allowed = np.ones((len(outcomes.categories), len(outcomes.endpoints)), dtype=bool)
    single = allowed[0].copy()
    limit = rules.limits.latency_s
    if limit is not None and outcomes.latency_s is not None:
        fast = (outcomes.latency_s <= limit).astype(float)
        share, overall = outcomes.means(fast), fast.mean(axis=0)
        allowed = share >= np.minimum(rules.limits.latency_prob, share.max(axis=1, keepdims=True))
        single = overall >= min(rules.limits.latency_prob, overall.max())
    return Hindsight(
        quality=outcomes.means(outcomes.quality),
        cost_usd=outcomes.means(outcomes.cost_usd),
        price=outcomes.means(price),
        value=outcomes.means(value),
        overall=value.mean(axis=0),
        overall_cost_usd=outcomes.cost_usd.mean(axis=0),
        allowed=allowed,
        allowed_single=single,
    )


def fixed_policy(
    name: str, known: Hindsight, budget_usd: float | None, rng: np.random.Generator
) -> Policy | None:
    """Return one of the policies of hindsight, or None where the name means none."""
    if name == "best-per-category":
        return baselines.Fixed(np.where(known.allowed, known.value, -1e9))
    single = np.where(known.allowed_single, known.overall, -1e9)
    if name == "best-single" or (name == "lp-mix" and budget_usd is None):
        return baselines.Fixed(np.repeat(single[None, :], len(known.value), axis=0))
    if name == "lp-mix" and budget_usd is not None:
        pair = baselines.time_share(known.overall_cost_usd, known.overall, budget_usd)
        return baselines.Mix(*pair, rng)
    return None
