"""What routing saved: money and quality against "the incumbent had served it all".

One function of state. Costs are as booked, of all attempts of a call; a call counts for whom it
was drawn, whoever served it in the end. What cannot be known is left out, and says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit.carried import Uncertain
from bandit.foretold import TokenPrices
from bandit.incumbent import ALLOWANCE, LEAST_CALLS
from bandit.incumbent_quality import incumbent_quality
from bandit.ope import Z95, Estimate
from bandit.saving_parts import Amount, SavingPart, Why, part_of

Figures = dict[str, Any]
SAID = {
    Why.NO_INCUMBENT: "no incumbent served any of these calls: none is set, or nothing was drawn",
    Why.FEW_CALLS: "the incumbent was drawn fewer than 20 times",
    Why.NO_PRICE: "the incumbent has no price",
    Why.NO_TOKENS: "no tokens are known of these calls, and the incumbent served none beside them",
    Why.NO_LABELS: "no quality signal",
    Why.FEW_LABELS: "fewer than 20 labelled draws on one side",
    Why.FEW_OF_CHOICE: "the choice was drawn fewer than 20 times",
}
DOUBLY_ROBUST, LABELS_ALONE = "doubly robust", "labels alone"
NOT_CHECKED = "propensities are compared by app"


@dataclass(frozen=True, slots=True)
class TaskSavings:
    """An app's task, all strategies and roles together."""

    app: int
    task: int
    part: SavingPart
    checked: Estimate | None  # the incumbent's mean reward by propensities; None: no label


@dataclass(frozen=True, slots=True)
class AppSavings:
    """An app, all tasks together."""

    app: int
    part: SavingPart
    checked: Estimate | None
    tasks: list[TaskSavings]
    limit: float  # successes that learning may cost at most, beside what it gained
    limit_usd: float | None  # the same in money; None where a success has no value


def savings(
    rows: NDArray[np.void],
    *,
    days: range,
    values_usd: Mapping[int, float | None] | None = None,
    prices: TokenPrices | None = None,
) -> list[AppSavings]:
    """Return what routing saved, by app and task.

    Args:
        rows: (n,) of `saving_sums.SAVING_ROW`.
        days: since the epoch, that are asked about; those before and after tell of the incumbent.
        values_usd: what a success is worth, by the strategy's digest.
        prices: of endpoints; of one that is not there its booked calls tell.
    """
    values, prices = values_usd or {}, prices or {}
    out = []
    for app in np.unique(rows["app"]).tolist():
        mine = rows.compress(rows["app"] == app)
        tasks = [
            _task(app, task, mine.compress(mine["task"] == task), days, values, prices)
            for task in np.unique(mine["task"]).tolist()
        ]
        tasks = [task for task in tasks if task.part.counts["routed"]]
        if not tasks:
            continue
        part = SavingPart()
        for task in tasks:
            part.add(task.part)
        limit, limit_usd = _limits(mine, days, values)
        out.append(AppSavings(app, part, incumbent_quality(mine, days), tasks, limit, limit_usd))
    return out


def _task(
    app: int,
    task: int,
    rows: NDArray[np.void],
    days: range,
    values: Mapping[int, float | None],
    prices: TokenPrices,
) -> TaskSavings:
    part = SavingPart()
    for release in np.unique(rows["release"]).tolist():
        own = rows.compress(rows["release"] == release)
        value_usd = values.get(int(own["strategy"][0]))
        part.add(part_of(own, days=days, value_usd=value_usd, prices=prices))
    return TaskSavings(app, task, part, incumbent_quality(rows, days))


def _limits(
    rows: NDArray[np.void], days: range, values: Mapping[int, float | None]
) -> tuple[float, float | None]:
    """Return what the allowance lets learning cost, each strategy's share of its own calls."""
    limit, limit_usd = 0.0, 0.0
    is_priced = True
    mine = rows.compress((rows["day"] >= days.start) & (rows["day"] < days.stop))
    for strategy in np.unique(mine["strategy"]).tolist():
        own = mine.compress(mine["strategy"] == strategy)
        successes = ALLOWANCE * max(float((own["calls"] + own["unpriced"]).sum()), LEAST_CALLS)
        value = values.get(strategy)
        limit += successes
        is_priced &= value is not None
        limit_usd += successes * (value or 0.0)
    return limit, limit_usd if is_priced else None


def figures(
    part: SavingPart,
    checked: Estimate | None,
    *,
    limit: float | None = None,
    limit_usd: float | None = None,
) -> Figures:
    """Return what a part says, for programs: every figure with n, signal and interval."""
    n = part.counts
    return {
        "calls": n["routed"],
        "unpriced": n["unpriced"],
        "incumbent_calls": n["incumbent_calls"],
        "money": _money(part),
        "quality": _quality(part, checked),
        "learning": _learning(part, limit, limit_usd),
        "reliability": _reliability(part),
    }


def _money(part: SavingPart) -> Figures:
    n, served = part.counts["compared"], part.usd["compared"]
    out: Figures = {
        "signal": "booked costs",
        "n": n,
        "by_tokens": part.counts["by_tokens"],
        "served_usd": served,
        "estimated_usd": part.usd["estimated_usd"],
        "incumbent_usd": None,
        "saved_usd": None,
        "saved_share": None,
        "unknown": _unknown(part.money_unknown),
    }
    if not n:
        return out
    incumbent = part.amounts[Amount.INCUMBENT_USD]
    saved = part.amounts[Amount.SAVED_USD]
    share = 1 / incumbent.value if incumbent.value > 0 else None
    return out | {
        "incumbent_usd": incumbent.as_json(),
        "saved_usd": saved.as_json(),
        "saved_share": None if share is None else saved.scaled(share).as_json(),
    }


def _quality(part: SavingPart, checked: Estimate | None) -> Figures:
    n = part.counts["judged"]
    out: Figures = {
        "signal": "labels" if n else None,
        "method": None,
        "why": None,
        "n": n,
        "labels": part.counts["labels"],
        "served": None,
        "incumbent": None,
        "gained": None,
        "doubly_robust": _estimate(checked),
        "unknown": _unknown(part.quality_unknown),
    }
    if not n:
        return out
    served = part.amounts[Amount.SERVED_REWARD].scaled(1 / n)
    incumbent = part.amounts[Amount.INCUMBENT_REWARD].scaled(1 / n)
    gained = part.amounts[Amount.GAINED].scaled(1 / n)
    why = _why_labels(part, checked)
    if why is None and checked is not None:
        error = ((checked.high - checked.low) / 2 / Z95) ** 2
        incumbent = Uncertain(checked.value, error)
        gained = served + incumbent.scaled(-1)
    figures = {"served": served, "incumbent": incumbent, "gained": gained}
    method = DOUBLY_ROBUST if why is None else LABELS_ALONE
    return out | {"method": method, "why": why, **{k: v.as_json() for k, v in figures.items()}}


def _why_labels(part: SavingPart, checked: Estimate | None) -> str | None:
    """Return why the doubly robust estimate is not what is shown; None: it is."""
    if part.counts["judged"] < part.counts["calls"]:
        return "not of all tasks enough is known"
    return NOT_CHECKED if checked is None else checked.refused


def _estimate(found: Estimate | None) -> Figures | None:
    if found is None:
        return None
    if found.refused is not None:
        return {"value": None, "low": None, "high": None, "ess": found.ess, "why": found.refused}
    said = {"value": found.value, "low": found.low, "high": found.high}
    return {**said, "ess": found.ess, "why": None}


def _learning(part: SavingPart, limit: float | None, limit_usd: float | None) -> Figures:
    n, judged = part.counts["explored"], part.counts["learning_judged"]
    dearer = part.amounts.get(Amount.DEARER_USD, Uncertain())
    extra = dearer.scaled(1, part.usd["beside_usd"])
    worse = part.amounts.get(Amount.WORSE)
    # Money for worse answers only where all of them have a price.
    worse_usd = part.amounts.get(Amount.WORSE_USD)
    if part.counts["learning_valued"] != judged:
        worse_usd = None
    return {
        "n": n,
        "labels": part.counts["explored_labels"],
        "second_starts_usd": part.usd["beside_usd"],
        "dearer_draws_usd": dearer.as_json() if n else None,
        "extra_usd": extra.as_json(),
        "worse_answers": None if worse is None else worse.as_json(),
        "worse_answers_usd": None if worse_usd is None else worse_usd.as_json(),
        "usd": None if worse_usd is None else (extra + worse_usd).as_json(),
        "limit": limit,
        "limit_usd": limit_usd,
        "unknown": _unknown(part.learning_unknown),
    }


def _reliability(part: SavingPart) -> Figures:
    n = part.counts["compared"]
    fewer = part.amounts.get(Amount.FEWER_FAILED)
    usd = part.amounts.get(Amount.FEWER_FAILED_USD)
    if part.counts["failed_valued"] != n:
        usd = None
    repeats = part.amounts.get(Amount.FEWER_REPEATS_USD)
    return {
        "n": n,
        "failed": part.counts["failed"],
        "failed_avoided": None if fewer is None else fewer.as_json(),
        "failed_avoided_usd": None if usd is None else usd.as_json(),
        "repeats_usd": part.usd["repeats"],
        "repeats_avoided_usd": None if repeats is None else repeats.as_json(),
    }


def _unknown(reasons: Mapping[Why, int]) -> list[Figures]:
    """Return why figures leave calls out, and how many."""
    ranked = sorted(reasons.items(), key=lambda one: (-one[1], one[0]))
    return [{"reason": why.value, "said": SAID[why], "calls": n} for why, n in ranked if n]
