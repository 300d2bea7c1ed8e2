"""The guarded law: an incumbent keeps the traffic until another is shown better.

What exploring may cost is bounded by a room in successes; it is kept as additive integers and
worked out on reading, so that neither order nor grouping of records matters. Nothing here is
remembered between calls but the standings, which change by a release.

Ref: Wu et al. (2016), "Conservative bandits", ICML. We deviate by a one-sided bound on what was
really earned, and by pooling the room over all tasks of an app.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bandit.draws import Law
from bandit.posterior import Posterior
from bandit.special import expit, log_ndtr, ndtr
from bandit.utility import Objective, may_judge, mean_utility

ALLOWANCE = 0.01
"""Share of the incumbent's successes that exploring may cost."""
LEAST_CALLS = 300
"""The room starts as if so many calls had been routed."""
BOUND_Z = 1.65
"""One-sided 95 %: chance gains are not spent."""
RESERVE = 2.0
"""Successes that are never spent."""
VARIANCE_RANGE = (0.01, 0.25)
BETTER = 0.9
"""P(utility above the choice's) that a release takes."""
SURE = 0.98
"""P(better) with which a choice stays although the room is spent."""
CERTAIN = 0.999
CERTAIN_LABELS = 200
"""P(better rather than equal), and labels in this task on each side, that a release takes between
reviews. Asked at every look, so P must be such that chance hardly reaches it at any."""
TELLING = 0.1
"""Sd of the differences that those odds are laid on. They hold at every look whatever it is; near
the differences that matter they are reached soonest."""
SURELY = "certain"
"""The reason of such a release."""
LEAST_HEADROOM = 0.01
TIE_BREAK = 1e-6
"""Groups of which nothing is known gain alike; among them the given order decides."""
STAY_AT_INCUMBENT = 0.4
"""Below .5 only while trials are running: with .55 winners wait longer for their traffic."""
STAY_AT_RELEASED = 0.97
FLOOR = 0.02
N_CHALLENGERS = 2
FOCUS = 0.9
"""While room is short, a task is explored if traffic × expected improvement is this share of the
best task's."""


@dataclass(frozen=True, slots=True)
class Books:
    """Sums of whole calls by (task, group), of calls that the incumbent did not serve."""

    routed: NDArray[np.float64]  # (n_tasks,) all routed calls, the incumbent's too
    labelled: NDArray[np.float64]  # (n_tasks, n_groups)
    reward: NDArray[np.float64]  # (n_tasks, n_groups) Σ over the labelled
    unlabelled: NDArray[np.float64]  # (n_tasks, n_groups)


@dataclass(frozen=True, slots=True)
class Standings:
    """What the release keys of one app, strategy and role stand at; row c is task c."""

    incumbent: int
    current: NDArray[np.intp]  # (n_tasks,)
    challengers: tuple[tuple[int, ...], ...]
    version: int = 0


@dataclass(frozen=True, slots=True)
class Release:
    """A choice that changed, with its evidence."""

    task: int
    before: int
    after: int
    p_better: float
    gain: float  # posterior mean difference in utility
    reason: str


def begin(incumbent: int, n_tasks: int) -> Standings:
    """Return the standings before anything is known: the incumbent everywhere."""
    return Standings(incumbent, np.full(n_tasks, incumbent), ((),) * n_tasks)


def room(books: Books, posterior: Posterior, objective: Objective, incumbent: int) -> float:
    """Return what exploring may still cost, in successes.

    room = a·max(n, 300) + G − 1.65·√V − 2, with G = Σ (reward − m) over calls not served by the
    incumbent and m its present posterior mean in the call's task. A call without a label enters
    with what its endpoint is expected to lose, never with a gain.
    """
    utility = mean_utility(posterior, objective)
    price = posterior.quality.mean - utility  # what of it is cost, known without labels
    mine = utility[:, [incumbent]]
    gained = books.reward - books.labelled * (price + mine)
    lost = books.unlabelled * np.minimum(utility - mine, 0)
    m = posterior.quality.mean[:, [incumbent]]
    spread = np.clip(m * (1 - m), *VARIANCE_RANGE) * (books.labelled + books.unlabelled)
    n = float(books.routed.sum())
    total = float(gained.sum() + lost.sum())
    return ALLOWANCE * max(n, LEAST_CALLS) + total - BOUND_Z * float(spread.sum()) ** 0.5 - RESERVE


def contrast(
    posterior: Posterior, objective: Objective, task: int, reference: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and sd of each group's utility less that of `reference`, each (n_groups,)."""
    utility = mean_utility(posterior, objective)
    _, sd = posterior.quality.difference(task, reference)
    return utility[task] - utility[task, reference], sd


def p_better(mean: NDArray[np.float64], sd: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return P(difference > 0) of normals; 0 where there is no difference to be had."""
    return np.where(sd > 0, ndtr(mean / np.maximum(sd, 1e-12)), 0.0)


def p_lasting(
    mean: NDArray[np.float64], sd: NDArray[np.float64], n_rivals: int
) -> NDArray[np.float64]:
    """Return P(better rather than equal), which between equals hardly ever comes near 1.

    Of equals that are looked at all the time somebody is better with P = .999 sooner or later, as
    long as that is weighed against "worse". Odds against "equal" reach 999 at any look of all in
    at most one of 999 runs; divided by how many it might have been, for whoever it is:
    odds = 2·P(difference > 0)·(sd ÷ TELLING)·exp(z²/2) ÷ n_rivals.

    Ref: Robbins (1970), "Statistical methods related to the law of the iterated logarithm", the
    one-sided mixture; its value is the ratio of prior to posterior density at 0 (Dickey, 1971).
    We deviate by the sd, which is that of the pooled posterior.
    """
    z = mean / np.maximum(sd, 1e-12)
    ln_odds = log_ndtr(z) + z**2 / 2 + np.log(2 * np.maximum(sd, 1e-12) / TELLING / n_rivals)
    return np.where((sd > 0) & (mean > 0), expit(ln_odds), 0.0)


def expected_gain(
    posterior: Posterior, objective: Objective, task: int, reference: int
) -> NDArray[np.float64]:
    """Return E[max(difference, 0)] of each group's utility to `reference`'s: what it may improve.

    A reward is at most 1, so where the reference has .97 there is .03 to be had, whatever a
    Gaussian says of the unknown: the expectation is of the difference clipped to that.
    """
    mean, sd = contrast(posterior, objective, task, reference)
    most = max(1 - float(posterior.quality.mean[task, reference]), LEAST_HEADROOM)
    return np.where(sd > 0, _positive_part(mean, sd) - _positive_part(mean - most, sd), 0.0)


def _positive_part(mean: NDArray[np.float64], sd: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return E[max(x, 0)] of normals."""
    z = mean / np.maximum(sd, 1e-12)
    return mean * ndtr(z) + sd * np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)


def review(
    standings: Standings,
    posterior: Posterior,
    objective: Objective,
    available: NDArray[np.bool_],
) -> tuple[Standings, list[Release]]:
    """Return the standings after a review of all tasks, and what was released.

    Args:
        available: (n_groups,) groups that may serve at all, or (n_tasks, n_groups).
    """
    judged = may_judge(posterior)
    return _release(standings, posterior, objective, judged, available, "better")


def certain(
    standings: Standings,
    posterior: Posterior,
    objective: Objective,
    available: NDArray[np.bool_],
    asked: NDArray[np.bool_],
) -> tuple[Standings, list[Release]]:
    """Return the standings after what need not wait for a review, and what was released.

    Args:
        available: (n_groups,) groups that may serve at all, or (n_tasks, n_groups).
        asked: (n_tasks,) tasks that had no such release within a day.
    """
    judged = posterior.arms.by_group(posterior.labels) >= CERTAIN_LABELS
    judged &= asked[:, None]
    return _release(standings, posterior, objective, judged, available, SURELY)


def _release(
    standings: Standings,
    posterior: Posterior,
    objective: Objective,
    judged: NDArray[np.bool_],
    available: NDArray[np.bool_],
    reason: str,
) -> tuple[Standings, list[Release]]:
    """Return the standings after each task went to the best of those that are better.

    Args:
        judged: (n_tasks, n_groups) whose labels suffice; the choice's must, too.
    """
    current = standings.current.copy()
    released = []
    every = judged & available
    for task, now in enumerate(standings.current):
        able = every[task].copy()
        able[now] = False
        if not judged[task, now] or not able.any():
            continue
        mean, sd = contrast(posterior, objective, task, int(now))
        better = p_better(mean, sd)
        sound = able
        for extreme in objective.extremes():
            least, spread = contrast(posterior, extreme, task, int(now))
            spread = np.hypot(spread, price_sd(posterior, extreme, task, int(now)))
            if reason == SURELY:
                sound = sound & (p_lasting(least, spread, int(able.sum())) >= CERTAIN)
            else:
                sound = sound & (p_better(least, spread) >= BETTER)
        if not sound.any():
            continue
        best = int(np.where(sound, mean, -np.inf).argmax())
        current[task] = best
        gain, p = float(mean[best]), float(better[best])
        released.append(Release(task, int(now), best, p, gain, reason))
    if released:
        standings = replace(standings, current=current, version=standings.version + 1)
    return standings, released


def price_sd(
    posterior: Posterior, objective: Objective, task: int, reference: int
) -> NDArray[np.float64] | float:
    """Return (n_groups,) sd of each group's price less that of `reference`, in successes.

    0 where nobody says that costs waver; else that of each group's cheapest host.
    """
    value = objective.at(task).value_usd
    if objective.slack == 1 or value is None:
        return 0.0
    price, group = posterior.cost_usd[task] / value, posterior.arms.group
    dearest_first = np.argsort(-price, kind="stable")
    of_group = np.zeros(posterior.arms.n_groups)
    of_group[group[dearest_first]] = (price * posterior.cost_ln_sd[task])[dearest_first]
    return np.hypot(of_group, of_group[reference])


def choose_challengers(
    standings: Standings,
    posterior: Posterior,
    objective: Objective,
    available: NDArray[np.bool_],
    order: NDArray[np.float64],
) -> Standings:
    """Return the standings with the two groups that may improve each task most as challengers.

    A challenger that disappoints is outranked at once by one that was never tried: with a few
    dozen trials to spend, holding on to the first two would find nobody.

    Args:
        available: (n_groups,) groups that may serve at all, or (n_tasks, n_groups).
        order: (n_groups,) who comes first among the unknown; any numbers below 1000.
    """
    chosen = []
    every = np.broadcast_to(available, (len(standings.current), available.shape[-1]))
    for task, cur in enumerate(standings.current):
        gain = expected_gain(posterior, objective, task, int(cur)) * (1 + TIE_BREAK * order)
        gain = np.where(every[task], gain, -1.0)
        gain[[int(cur), standings.incumbent]] = -1.0
        best = np.argsort(-gain, kind="stable")[:N_CHALLENGERS]
        chosen.append(tuple(int(g) for g in best if gain[g] > 0))
    if tuple(chosen) == standings.challengers:
        return standings
    return replace(standings, challengers=tuple(chosen), version=standings.version + 1)


def expected_loss(
    standings: Standings, posterior: Posterior, objective: Objective
) -> NDArray[np.float64]:
    """Return (n_tasks,) successes that a call costs where it is explored, rather too many.

    (1 − (1 − ε)·s)·E[max(choice − other, 0)], for the worst other of C: as if every call that the
    choice does not keep went there, and gains made up for nothing. By losses of means trials spread
    early, and whoever is better is found later.
    """
    out = np.zeros(len(standings.current))
    for task, cur in enumerate(standings.current):
        others = sorted({standings.incumbent, *standings.challengers[task]} - {int(cur)})
        if others:
            mean, sd = contrast(posterior, objective, task, int(cur))
            worst = float(_positive_part(-mean, sd)[others].max())
            out[task] = (1 - (1 - FLOOR) * _stay(standings, task)) * worst
    return out


def explored_tasks(
    standings: Standings,
    posterior: Posterior,
    objective: Objective,
    calls_a_day: NDArray[np.float64],
    *,
    room: float,
) -> NDArray[np.bool_]:
    """Return (n_tasks,) where exploring pays.

    Everywhere that somebody promises a gain, once the room covers what a day of that is expected
    to lose; until then where traffic × expected improvement is largest.

    Args:
        calls_a_day: (n_tasks,) routed.
        room: what exploring may still cost, in successes.
    """
    enough = may_judge(posterior)
    worth = np.zeros(len(standings.current))
    for task, cur in enumerate(standings.current):
        if not enough[task, cur] or not standings.challengers[task]:
            continue
        gain = expected_gain(posterior, objective, task, int(cur))
        worth[task] = calls_a_day[task] * gain[list(standings.challengers[task])].max()
    pays = worth > 0
    lost = calls_a_day * expected_loss(standings, posterior, objective)
    if room >= float(lost[pays].sum()):
        return pays
    return pays & (worth >= FOCUS * worth.max())


def _stay(standings: Standings, task: int) -> float:
    at_incumbent = standings.current[task] == standings.incumbent
    return STAY_AT_INCUMBENT if at_incumbent else STAY_AT_RELEASED


def law(
    standings: Standings,
    posterior: Posterior,
    objective: Objective,
    task: int,
    *,
    room: float,
    explored: bool,
    floor: float = FLOOR,
    holdout: float = 0.0,
) -> Law:
    """Return the law of a task's next draw.

    Args:
        room: what exploring may still cost, in successes.
        explored: whether this task is among those worth exploring.
    """
    inc, cur = standings.incumbent, int(standings.current[task])
    if room <= 0 and cur != inc:
        mean, sd = contrast(posterior, objective, task, inc)
        if p_better(mean, sd)[cur] < SURE:
            cur = inc
    if room <= 0 or not explored:
        return Law(inc, cur, (), holdout=holdout, stay=1.0)
    stay = _stay(standings, task)
    return Law(inc, cur, standings.challengers[task], holdout=holdout, floor=floor, stay=stay)
