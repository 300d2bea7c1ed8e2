"""What prompts that all endpoints answered say: figures of each cell, and one advice.

The advice is to pin one endpoint, to route tasks by a map, or that it cannot be told yet. What is
right of it holds with odds of about 19 to 1, though endpoint and map were chosen by looking.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from math import ceil, isfinite

import numpy as np
from numpy.typing import NDArray

from bandit.contrasts import Estimates, against, allowed_lead
from bandit.intervals import Interval
from bandit.profile_answers import Answers, amounts, logarithm, qualities, utilities
from bandit.profile_cells import Cell, cell, odds_of_best, overall
from bandit.taskmap import Gain, Scores, best_map, gain_of
from bandit.utility import FLOOR_SHARE, LEAST_QUALITY, Objective, Order

MIN_GRADED = 5
"""Graded answers in a task, of each endpoint, under which nothing is said by it."""
MIN_SHARE = 0.5
"""Of the prompts of a task, which an endpoint must have answered to be compared."""
LEAST_GAIN = 0.001
"""Less is no reason to route: it is printed as 0."""
MOST_LEAD = 0.10
"""A pin is advised while nothing can be better by more: successes a call, or a tenth of a cost."""
MOST_LEAD_OF_ORDER = 0.25
"""The same of costs and seconds, as a share: they vary more than successes do."""


class AdviceKind(StrEnum):
    """What is advised."""

    PIN = "pin"
    ROUTE = "route"
    UNCLEAR = "unclear"  # more prompts would tell
    NONE = "none"  # nothing to compare


@dataclass(frozen=True, slots=True)
class BesideIncumbent:
    """What is advised beside the endpoint in use."""

    quality: Interval  # difference, 90 %
    cost_ratio: float | None
    cost_ratio_interval: Interval | None


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do; `lead` and `gain` in what is judged: see `unit` of `judged_by`."""

    kind: AdviceKind
    reason: str = ""  # of NONE: nothing_graded, few_prompts, one_endpoint, none_everywhere
    pin: int | None = None
    lead: float | None = None  # nothing is truly better than `pin` by more
    map: tuple[int, ...] = ()  # (n_tasks,) endpoint of each task; −1: not judged
    gain: Gain | None = None  # of the map over the pin
    more_prompts: int = 0  # a task, until it can be told
    compared: tuple[int, ...] = ()
    tasks: tuple[int, ...] = ()  # which were judged by
    below_floor: tuple[int, ...] = ()  # under an order: shown to be below .9 of the best quality
    beside_incumbent: BesideIncumbent | None = None


@dataclass(frozen=True, slots=True)
class Profiled:
    """All that is shown of a profile."""

    cells: list[list[Cell]]  # by task, then endpoint
    overall: list[Cell]  # weighted over the tasks that are judged by
    advice: Advice


def profiled(
    answers: Answers, objective: Objective, incumbent: int | None, rng: np.random.Generator
) -> Profiled:
    """Return figures and advice; the order of prompts and endpoints settles ties alone."""
    tasks, compared, reason = comparable(answers)
    cells = []
    for t in range(len(answers.weight)):
        odds = odds_of_best(answers, t, objective, rng)
        cells.append([cell(answers, t, k, odds[k]) for k in range(answers.n_arms)])
    if reason:
        advice = Advice(AdviceKind.NONE, reason, tasks=tuple(tasks), compared=tuple(compared))
    else:
        part = answers.part(tasks, compared)
        place = compared.index(incumbent) if incumbent in compared else None
        advice = _placed(_advice(part, objective, place, rng), answers, tasks, compared)
    judged = answers.part(tasks or range(len(answers.weight)), np.arange(answers.n_arms))
    return Profiled(cells, [overall(judged, k) for k in range(answers.n_arms)], advice)


def comparable(answers: Answers) -> tuple[list[int], list[int], str]:
    """Return tasks and endpoints that can be compared, and why if there are too few.

    An endpoint has to have been graded in every task that is judged by; a task that no two
    endpoints share prompts enough in is judged by nobody.
    """
    graded = answers.counts(np.isfinite(answers.quality))
    if not graded.any():
        return [], [], "nothing_graded"
    n_prompts = answers.counts(np.ones_like(answers.quality, dtype=bool))[:, 0]
    enough = (graded >= MIN_GRADED) & (graded >= MIN_SHARE * n_prompts[:, None])
    tasks = np.flatnonzero(enough.any(axis=1)).tolist()
    if not tasks:
        return [], [], "few_prompts"
    arms = np.flatnonzero(enough[tasks].all(axis=0)).tolist()
    if not arms:
        return tasks, [], "none_everywhere"
    return tasks, arms, "one_endpoint" if len(arms) == 1 else ""


def _advice(
    answers: Answers, objective: Objective, incumbent: int | None, rng: np.random.Generator
) -> Advice:
    quality = qualities(answers)
    if objective.order is not Order.UTILITY:
        advice = _by_order(answers, objective, quality, rng)
    else:
        advice = _by_utility(answers, objective, rng)
    if incumbent is None or advice.pin is None:
        return advice
    beside: BesideIncumbent | None
    if advice.kind is AdviceKind.ROUTE:
        beside = _map_beside(answers, advice, incumbent, rng)
    else:
        beside = _pin_beside(answers, quality, advice.pin, incumbent, rng)
    return replace(advice, beside_incumbent=beside)


def _by_utility(answers: Answers, objective: Objective, rng: np.random.Generator) -> Advice:
    score = utilities(answers, objective)
    estimates = answers.estimates(score)
    pin = first_best(estimates.value, answers)
    lead = allowed_lead(estimates, pin, rng)
    everyone = tuple(range(answers.n_arms))
    scores = Scores(answers.task, score, answers.weight)
    chosen = best_map(scores, pin)
    gain = gain_of(scores, chosen, pin, pin, rng)
    departs = bool((chosen != pin).any())
    kind = AdviceKind.ROUTE if departs and gain.low >= LEAST_GAIN else AdviceKind.PIN
    if kind is AdviceKind.PIN and lead > MOST_LEAD:
        kind = AdviceKind.UNCLEAR
    return Advice(
        kind,
        pin=pin,
        lead=lead,
        map=tuple(chosen.tolist()),
        gain=gain if departs else None,
        more_prompts=_more(answers, lead, MOST_LEAD) if kind is AdviceKind.UNCLEAR else 0,
        compared=everyone,
    )


def _by_order(
    answers: Answers, objective: Objective, quality: Estimates, rng: np.random.Generator
) -> Advice:
    """Pin the least cost a success, or wait, of those that are not shown to be below the floor."""
    below = below_floor(quality)
    allowed = np.flatnonzero(~below)
    if objective.order is Order.CHEAPEST:
        figure = amounts(answers, answers.cost_usd)
        estimates = logarithm(figure, -1.0, quality, LEAST_QUALITY)
    else:
        estimates = logarithm(amounts(answers, answers.latency_s), -1.0)
    estimates = estimates.of(allowed)
    best = first_best(estimates.value, answers.part(range(len(answers.weight)), allowed))
    lead = float(np.expm1(allowed_lead(estimates, best, rng)))
    unclear = lead > MOST_LEAD_OF_ORDER
    return Advice(
        AdviceKind.UNCLEAR if unclear else AdviceKind.PIN,
        pin=int(allowed[best]),
        lead=lead / (1 + lead),  # a share of its own cost or seconds
        compared=tuple(allowed.tolist()),
        below_floor=tuple(np.flatnonzero(below).tolist()),
        more_prompts=_more(answers, lead, MOST_LEAD_OF_ORDER) if unclear else 0,
    )


def below_floor(quality: Estimates) -> NDArray[np.bool_]:
    """Return (n_arms,) who is shown to be below .9 of the best quality."""
    value, influence = quality.value, quality.influence
    product = influence.T @ influence
    own = np.diag(product)
    square = FLOOR_SHARE**2 * own + own[:, None] - 2 * FLOOR_SHARE * product  # (below, best)
    deviation = np.sqrt(np.maximum(square, 0) + quality.least_variance)
    reach = quality.critical(len(value)) * deviation
    return np.asarray((FLOOR_SHARE * value - value[:, None] - reach > 0).any(axis=1))


def first_best(value: NDArray[np.float64], answers: Answers) -> int:
    """Return the highest; between equals the cheaper, then the first."""
    tied = np.flatnonzero(value >= value.max() - 1e-9)
    cost = [float(np.nansum(answers.cost_usd[:, k])) for k in tied]
    return int(tied[int(np.argmin(cost))])


def _more(answers: Answers, lead: float, target: float) -> int:
    """Return how many more prompts a task bring a bound down to a target: it falls with √n."""
    n = len(answers.task) / len(answers.weight)
    if not isfinite(lead):
        return ceil(3 * n)
    return max(ceil(n * ((lead / target) ** 2 - 1)), 1)


def _pin_beside(
    answers: Answers, quality: Estimates, pin: int, incumbent: int, rng: np.random.Generator
) -> BesideIncumbent | None:
    if pin == incumbent:
        return None
    low, high = against(quality, incumbent, rng)
    cost = amounts(answers, answers.cost_usd)
    interval = _of_shares(float(low[pin]), float(high[pin]))
    if cost.value[incumbent] <= 0:
        return BesideIncumbent(interval, None, None)
    ratio = float(cost.value[pin] / cost.value[incumbent])
    if ratio <= 0:
        return BesideIncumbent(interval, 0.0, (0.0, 0.0))
    least, most = against(logarithm(cost, 1.0), incumbent, rng)
    return BesideIncumbent(interval, ratio, (float(np.exp(least[pin])), float(np.exp(most[pin]))))


def _map_beside(
    answers: Answers, advice: Advice, incumbent: int, rng: np.random.Generator
) -> BesideIncumbent:
    assert advice.pin is not None
    chosen = np.array(advice.map, dtype=np.intp)
    scores = Scores(answers.task, answers.quality, answers.weight)
    gain = gain_of(scores, chosen, advice.pin, incumbent, rng)
    by_task = answers.means(answers.cost_usd)
    usd = float(answers.weight @ by_task[np.arange(len(chosen)), chosen])
    now = float(answers.weight @ by_task[:, incumbent])
    interval = _of_shares(gain.low, gain.high)
    return BesideIncumbent(interval, usd / now if now > 0 else None, None)


def _of_shares(low: float, high: float) -> Interval:
    """Return bounds of a difference between two qualities, each of which is in [0, 1]."""
    return max(low, -1.0), min(high, 1.0)


def _placed(advice: Advice, answers: Answers, tasks: list[int], compared: list[int]) -> Advice:
    """Return an advice on part of the tasks and endpoints in the places that all have."""
    found = [-1] * len(answers.weight)
    for task, arm in zip(tasks, advice.map, strict=False):
        found[task] = compared[arm]
    return replace(
        advice,
        pin=None if advice.pin is None else compared[advice.pin],
        map=tuple(found) if advice.map else (),
        compared=tuple(compared[k] for k in advice.compared),
        below_floor=tuple(compared[k] for k in advice.below_floor),
        tasks=tuple(tasks),
    )
