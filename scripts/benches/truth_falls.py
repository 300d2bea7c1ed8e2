"""One endpoint falls after a calm stretch: when it is told, and what else moves.

Eight endpoints from .62 to .92, eight tasks, 150 calls a second, 40 % of them labelled, most of
them in units that follow a stored draw. What fell is the best endpoint, or one in the middle.
"""

from __future__ import annotations

import math
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandit.drift import AlarmKind
from scripts.benches.truth_setting import Setting
from scripts.benches.truth_world import SimulatedWorld

SETTING = Setting(8, 0.4, units=True, equal=False)
CALLS_A_SECOND, LOOK_S = 150.0, 0.5
"""The keeper looks at alarms twice a second."""
PLACES = {"middle": 4, "best": 7}
DEPTHS = (0.1, 0.3)
CALM_LABELS = 20_000
LONGEST_S, MOST_LABELS = 900.0, 4000
"""What was not told by then, after so many of the endpoint's labels, counts as never told."""
QUICK_LONGEST_S, QUICK_LOOK_S = 300.0, 2.0
"""Of a quick run: that, and a look once a fall is told, when nobody waits for an alarm."""
SETTLING_S, WATCHED_S = 60.0, 30.0
"""Calls are counted a minute after the alarm, for so long."""
LEAST_LABELS = 200
"""Endpoints with fewer before the fall are still being learned: their beliefs move anyway."""


class Fall(NamedTuple):
    """What came of one fall; None: it was not told."""

    labels: int | None  # of the endpoint, from the onset to the alarm
    seconds: float | None
    share: float | None  # of the calls, a minute after the alarm
    moved: float  # the largest move of another endpoint's belief since the onset
    others: int  # other alarms since the onset


def run_falls(
    *, n_calm: int, seed: int, calm_labels: int = CALM_LABELS, quick: bool = False
) -> list[dict[str, Any]]:
    """Return a row for each place and depth; each has a run after each calm stretch."""
    longest_s, look_s = (QUICK_LONGEST_S, QUICK_LOOK_S) if quick else (LONGEST_S, LOOK_S)
    found: dict[tuple[str, float], list[Fall]] = {}
    for run in range(n_calm):
        calm = _calm(calm_labels, [seed, 1, run])
        for place, arm in PLACES.items():
            for depth in DEPTHS:
                world = calm.fork([seed, 2, run, arm, round(100 * depth)])
                told = fall(world, arm, depth, longest_s=longest_s, look_s=look_s)
                found.setdefault((place, depth), []).append(told)
    return [{"place": p, "depth": d, **summary(runs)} for (p, d), runs in found.items()]


def fall(
    world: SimulatedWorld,
    arm: int,
    depth: float,
    *,
    longest_s: float = LONGEST_S,
    look_s: float = LOOK_S,
) -> Fall:
    """Let an endpoint fall in all tasks, and return what comes of it.

    Args:
        look_s: between two looks once it is told.
    """
    weight = world.labels.copy()
    known, before = weight.sum(axis=0), _believed(world, weight)
    world.truth[:, arm] -= depth
    n_raised, began_ms = len(world.raised), world.now_ms
    labels = seconds = share = None
    past_s, heard = 0.0, 0
    while past_s < longest_s and heard < MOST_LABELS:
        world.step(LOOK_S)
        heard = int(world.labels[:, arm].sum() - known[arm])
        past_s = (world.now_ms - began_ms) / 1000
        if (arm, AlarmKind.DOWN) in [(r.arm, r.kind) for r in world.raised[n_raised:]]:
            labels, seconds, share = heard, past_s, _share_later(world, arm, look_s)
            break
    others = np.flatnonzero((known >= LEAST_LABELS) & (np.arange(len(known)) != arm))
    moved = np.abs(_believed(world, weight) - before)[others]
    n_others = len(world.raised) - n_raised - (labels is not None)
    return Fall(labels, seconds, share, float(moved.max(initial=0.0)), n_others)


def summary(runs: list[Fall]) -> dict[str, Any]:
    """Return medians and the worst of some runs; a fall that was never told counts as endless."""
    labels = median([math.inf if r.labels is None else r.labels for r in runs])
    shares = [r.share for r in runs if r.share is not None]
    seconds = [r.seconds for r in runs if r.seconds is not None]
    return {
        "runs": len(runs),
        "told": len(seconds),
        "labels": labels if math.isfinite(labels) else None,
        "seconds": median(seconds) if seconds else None,
        "share": median(shares) if shares else None,
        "worst_share": max(shares, default=None),
        "moved": median([r.moved for r in runs]),
        "worst_moved": max(r.moved for r in runs),
        "other_alarms": sum(r.others for r in runs),
    }


def _calm(n_labels: int, seed: list[int]) -> SimulatedWorld:
    """Return a world in which nothing has happened for so many labels."""
    span_s = n_labels / (CALLS_A_SECOND * SETTING.labelled)
    world = SimulatedWorld(SETTING, calls_a_second=CALLS_A_SECOND, span_s=span_s, seed=seed)
    while world.labels.sum() < n_labels:
        world.step(LOOK_S)
    return world


def _share_later(world: SimulatedWorld, arm: int, look_s: float) -> float:
    """Return the endpoint's share of the calls, units included, once the alarm is a minute old."""
    for _ in range(round(SETTLING_S / look_s)):
        world.step(look_s)
    before = world.calls.copy()
    for _ in range(round(WATCHED_S / look_s)):
        world.step(look_s)
    since = world.calls - before
    return float(since[:, arm].sum() / since.sum())


def _believed(world: SimulatedWorld, weight: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (n_endpoints,) each one's believed mean over tasks, by the labels that it had."""
    mean = world.beliefs.quality_mean[: len(weight)]
    return np.asarray((mean * weight).sum(axis=0) / np.maximum(weight.sum(axis=0), 1))
