"""What is measured of a replay: one set of figures a seed, then their summary over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bandit.replay.loop import Rules
from bandit.replay.run import Trace
from bandit.replay.scenarios import Stream
from bandit.utility import Objective, priced

TRUE_ALARM_CALLS = 2_000
"""An alarm later than this after a change is a false one."""
ONSET_CALLS = 1_000
BEFORE_ONSET_CALLS = 1_000
RECOVERED = (1_500, 2_000)
"""Calls after a recovery over which its share is taken."""
LEAST_PREFIX = 300
WORST_PERCENTILE = 5
WORST_TENTH = 90
"""Percentile of regret that says how the unlucky fare: a mean hides one lost stream in sixteen."""
STUCK_GAP = 0.05
"""A stream is stuck with what is further than this below the best of its task: learning that is
merely not done yet ends closer, since what is closer costs too much to tell apart."""
STUCK_SHARE = 0.5
ROUNDING = 1e-9
"""Means that are 5 points apart are not "more than" that by the last bit of a float."""
LEAST_GAP = 0.005
"""Below this gap between best single and best per category a share of it means nothing."""
CURVE_POINTS = 200


@dataclass(frozen=True, slots=True)
class SeedFigures:
    """The figures of one policy on one stream; None where one does not apply."""

    quality: float
    quality_second_half: float
    regret: float
    stuck: bool  # most of its last third went to what is far below the best
    utility: float
    usd: float  # mean a call
    slo_violations: float | None
    alarms: int | None
    false_alarms: int | None
    onset_regret: float | None
    detect_delay: float | None
    share_before: float | None  # of the changed arm, before onset
    share_recovered: float | None
    share_favoured: float  # of the arm whose labels a scenario favours
    explored: float | None
    incumbent_kept: float | None
    worst_prefix: float | None
    end: float | None
    n_calls: int
    decide_us: tuple[float, float]  # p50, p99
    update_us: float
    curve: NDArray[np.float64]  # (CURVE_POINTS,) regret so far


def measure(
    stream: Stream, trace: Trace, rules: Rules, *, favoured: int, learned: bool
) -> SeedFigures:
    """Return the figures of one seed.

    Args:
        favoured: the arm whose share is reported.
        learned: whether the policy watches for change, and has a choice to explore around.
    """
    n = len(stream)
    rows = np.arange(n)
    arm = trace.arm
    reward = stream.reward[rows, arm]
    cost = stream.cost_usd[rows, arm]
    utility = stream.reward - priced(stream.cost_usd, stream.latency_s, rules.objective)
    gained = utility[rows, arm]
    regret = _regret(stream, arm, rules.objective)
    curve = np.cumsum(regret)
    inc = rules.incumbent
    worst = end = None
    if inc is not None:
        so_far = np.cumsum(gained - utility[:, inc]) / (rows + 1)
        worst, end = float(so_far[min(LEAST_PREFIX, n) - 1 :].min()), float(so_far[-1])
    limit = rules.limits.latency_s
    slow = None
    if limit is not None and stream.latency_s is not None:
        slow = float((stream.latency_s[rows, arm] > limit).mean())
    onset = stream.phases[1].start if len(stream.phases) > 1 else None
    n_false, delay = _alarms(stream, trace)
    before, recovered = _shares(stream, arm)
    return SeedFigures(
        quality=float(reward.mean()),
        quality_second_half=float(reward[n // 2 :].mean()),
        regret=float(regret.sum()),
        stuck=_is_stuck(regret),
        utility=float(gained.mean()),
        usd=float(cost.mean()),
        slo_violations=slow,
        alarms=len(trace.alarms) if learned else None,
        false_alarms=n_false if learned else None,
        onset_regret=None if onset is None else float(regret[onset : onset + ONSET_CALLS].sum()),
        detect_delay=delay if learned else None,
        share_before=before,
        share_recovered=recovered,
        share_favoured=float((arm == favoured).mean()),
        explored=float(1 - trace.at_current.mean()) if inc is not None and learned else None,
        incumbent_kept=None if inc is None else float((arm == inc).mean()),
        worst_prefix=worst,
        end=end,
        n_calls=n,
        decide_us=(
            float(np.percentile(trace.decide_s, 50) * 1e6),
            float(np.percentile(trace.decide_s, 99) * 1e6),
        ),
        update_us=float(np.percentile(trace.update_s, 50) * 1e6),
        curve=curve[np.linspace(0, n - 1, CURVE_POINTS).astype(np.intp)],
    )


def _regret(stream: Stream, arm: NDArray[np.intp], objective: Objective) -> NDArray[np.float64]:
    """Return (n_calls,) gap of true means, in the state in force, in the true category."""
    out = np.zeros(len(stream))
    for number, phase in enumerate(stream.phases):
        now = stream.phase == number
        value = phase.quality - priced(phase.cost_usd, phase.latency_s, objective)
        best = np.where(phase.available, value, -np.inf).max(axis=1)
        c = stream.category[now]
        out[now] = best[c] - value[c, arm[now]]
    return out


def _is_stuck(regret: NDArray[np.float64]) -> bool:
    """Return whether more than half of the last third lies further below the best than a gap."""
    last = regret[2 * len(regret) // 3 :]
    return bool((last > STUCK_GAP + ROUNDING).mean() > STUCK_SHARE)


def _alarms(stream: Stream, trace: Trace) -> tuple[int, float | None]:
    """Return the number of false alarms, and calls from onset to the first true one."""
    changes = [p.start for p in stream.phases[1:]]
    n_false, delay = 0, None
    for call, arm in trace.alarms:
        true = arm == stream.changed and any(0 <= call - c <= TRUE_ALARM_CALLS for c in changes)
        n_false += not true
        if true and delay is None and len(stream.phases) > 2 and call < stream.phases[2].start:
            delay = float(call - changes[0])
    if delay is None and len(stream.phases) > 2:
        delay = float(stream.phases[2].start - stream.phases[1].start)
    return n_false, delay


def _shares(stream: Stream, arm: NDArray[np.intp]) -> tuple[float | None, float | None]:
    if len(stream.phases) < 3:
        return None, None
    onset, back = stream.phases[1].start, stream.phases[2].start
    chosen = arm == stream.changed
    before = chosen[max(onset - BEFORE_ONSET_CALLS, 0) : onset]
    after = chosen[back + RECOVERED[0] : back + RECOVERED[1]]
    if not len(before) or not len(after):
        return None, None
    return float(before.mean()), float(after.mean())


def summarise(
    found: Sequence[SeedFigures],
    *,
    single: Sequence[SeedFigures],
    per_category: Sequence[SeedFigures],
    usual: Sequence[SeedFigures] | None,
    budget_usd: float | None,
) -> dict[str, float | None]:
    """Return the summary over seeds.

    Args:
        single, per_category: the policies of hindsight on the same streams.
        usual: the same policy on the stationary streams of the same seeds.
    """
    gap = _mean([p.quality - s.quality for p, s in zip(per_category, single, strict=True)])
    lead = _mean([f.quality - s.quality for f, s in zip(found, single, strict=True)])
    spend = [f.usd / budget_usd for f in found] if budget_usd else None
    calls = sum(f.n_calls for f in found)
    moved = None
    if usual is not None:
        pairs = zip(found, usual, strict=True)
        moved = _mean([f.share_favoured - u.share_favoured for f, u in pairs])
    before, after = _optional(found, "share_before"), _optional(found, "share_recovered")
    worst, false = _values(found, "worst_prefix"), _values(found, "false_alarms")
    end = _optional(found, "end")
    return {
        "quality": _mean([f.quality for f in found]),
        "quality_ci": interval([f.quality for f in found]),
        "quality_second_half": _mean([f.quality_second_half for f in found]),
        "regret": _mean([f.regret for f in found]),
        "regret_ci": interval([f.regret for f in found]),
        "regret_p90": float(np.percentile([f.regret for f in found], WORST_TENTH)),
        "stuck_share": _mean([float(f.stuck) for f in found]),
        "usd_per_1k": _mean([f.usd for f in found]) * 1000,
        "utility": _mean([f.utility for f in found]),
        "utility_ci": interval([f.utility for f in found]),
        "gap_share": lead / gap if gap >= LEAST_GAP else None,
        "slo_violations": _optional(found, "slo_violations"),
        "spend_over_budget": _mean(spend) if spend else None,
        "spend_over_budget_worst": max(spend) if spend else None,
        "alarms": _optional(found, "alarms"),
        "false_alarms_per_10k": sum(false) / calls * 1e4 if false else None,
        "onset_regret": _optional(found, "onset_regret"),
        "detect_delay_calls": _median(_values(found, "detect_delay")),
        "recovered_share": after / before if before and after is not None else None,
        "share_moved": moved,
        "explored": _optional(found, "explored"),
        "incumbent_kept": _optional(found, "incumbent_kept"),
        "incumbent_loss": None if end is None else -end * calls / len(found),
        "incumbent_worst_prefix": float(np.percentile(worst, WORST_PERCENTILE)) if worst else None,
        "incumbent_end": end,
        "decide_us_p50": _mean([f.decide_us[0] for f in found]),
        "decide_us_p99": _mean([f.decide_us[1] for f in found]),
        "update_us_p50": _mean([f.update_us for f in found]),
    }


def _values(found: Sequence[SeedFigures], name: str) -> list[float]:
    values = [getattr(f, name) for f in found]
    return [float(v) for v in values if v is not None]


def _optional(found: Sequence[SeedFigures], name: str) -> float | None:
    values = _values(found, name)
    return _mean(values) if values else None


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


def interval(values: Sequence[float]) -> float | None:
    """Return the half-width of a 95 % interval of the mean, None for a single seed."""
    if len(values) < 2:
        return None
    return float(1.96 * np.std(values, ddof=1) / np.sqrt(len(values)))
