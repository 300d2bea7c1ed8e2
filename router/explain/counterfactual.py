"""What another strategy would have done, by the numbers that a decision was made from. Pure.

Everything follows from the kept candidates and the kept objective, so it is the same whenever and
wherever it is asked. Expectations are compared, not draws: it says what would be best, not what a
draw would have given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bandit.utility import FLOOR_SHARE, LEAST_QUALITY, Objective, Order

Candidate = dict[str, Any]
"""A row of a draw: `endpoint`, `quality`, `reliability`, `cost_usd`, `latency_s`, `labels` …"""
Score = Callable[[Candidate], float]
MOST_NEEDS = 5
"""Endpoints of which it is said what they lack: the nearest."""


def counterfactual(
    candidates: Sequence[Candidate], objective: dict[str, Any] | None, served: str
) -> dict[str, Any] | None:
    """Return who would serve under another strategy, and what the others lack.

    Args:
        candidates: who could be drawn.
        objective: what the strategy maximises; None where it is not kept.
        served: endpoint id that all others are compared with.

    Returns:
        `under` (endpoint by strategy), `trade` (endpoint at half and double of what a success is
        worth; None where no value is set), `needs` (of each other endpoint what would make it as
        good: `quality`, or `cost_usd` or `latency_s` under an order; None where that alone
        cannot). None where nothing can be compared.
    """
    if objective is None or len(candidates) < 2 or "latency_s" not in candidates[0]:
        return None
    own = Objective(
        Order(objective["order"]), objective["value_usd"], objective["latency_usd_per_s"]
    )
    fit = _above_floor(candidates)
    under = {
        "cheapest": _best(fit, _score(Objective(Order.CHEAPEST), candidates)),
        "fastest": _best(fit, _score(Objective(Order.FASTEST), candidates)),
        "quality": _best(candidates, _score(Objective(), candidates)),
    }
    reference = next((row for row in candidates if row["endpoint"] == served), None)
    return {
        "under": under,
        "trade": _trade(candidates, own),
        "needs": [] if reference is None else _needs(candidates, own, reference),
    }


def _score(objective: Objective, candidates: Sequence[Candidate]) -> Score:
    """Return how good a candidate is; the higher, the better."""
    if objective.order is Order.CHEAPEST:
        return lambda row: -_dearness(row, is_labelled=_is_labelled(candidates))
    if objective.order is Order.FASTEST:
        return lambda row: -float(row["latency_s"]) / float(row["reliability"])
    return lambda row: float(row["reliability"] * row["quality"]) - _price(row, objective)


def _price(row: Candidate, objective: Objective) -> float:
    """Return what cost and waiting take off, in successes."""
    if objective.value_usd is None:
        return 0.0
    spent = row["cost_usd"] + row["latency_s"] * objective.latency_usd_per_s
    return float(spent / objective.value_usd)


def _dearness(row: Candidate, *, is_labelled: bool) -> float:
    """Return USD an answered call, or a success once anybody has labels."""
    success = max(row["quality"], LEAST_QUALITY) if is_labelled else 1.0
    return float(row["cost_usd"] / (row["reliability"] * success))


def _is_labelled(candidates: Sequence[Candidate]) -> bool:
    return any(row["labels"] > 0 for row in candidates)


def _floor(candidates: Sequence[Candidate]) -> float:
    """Return the least quality that an order serves."""
    known = [row["quality"] for row in candidates if row["labels"] > 0]
    return FLOOR_SHARE * max(known, default=0.0)


def _above_floor(candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    floor = _floor(candidates)
    return [row for row in candidates if row["quality"] >= floor] or candidates


def _best(candidates: Sequence[Candidate], score: Score) -> str:
    return str(max(candidates, key=score)["endpoint"])


def _trade(candidates: Sequence[Candidate], own: Objective) -> dict[str, Any] | None:
    value = own.value_usd
    if own.order is not Order.UTILITY or value is None:
        return None

    def at(share: float) -> str:
        other = Objective(own.order, share * value, own.latency_usd_per_s)
        return _best(candidates, _score(other, candidates))

    return {"value_usd": value, "half": at(0.5), "double": at(2.0)}


def _needs(
    candidates: Sequence[Candidate], own: Objective, reference: Candidate
) -> list[dict[str, Any]]:
    """Return what each other endpoint lacks; the nearest first."""
    lacking = {
        Order.UTILITY: _quality_lacking,
        Order.CHEAPEST: _cost_lacking,
        Order.FASTEST: _latency_lacking,
    }[own.order]
    others = [row for row in candidates if row is not reference]
    score = _score(own, candidates)
    others.sort(key=score, reverse=True)
    return [
        {"endpoint": row["endpoint"], **lacking(row, reference, own, candidates)}
        for row in others[:MOST_NEEDS]
    ]


def _quality_lacking(
    row: Candidate, reference: Candidate, own: Objective, candidates: Sequence[Candidate]
) -> dict[str, float | None]:
    score = _score(own, candidates)
    more = (score(reference) - score(row)) / row["reliability"]
    return {"quality": None if row["quality"] + more > 1 else more}


def _cost_lacking(
    row: Candidate, reference: Candidate, own: Objective, candidates: Sequence[Candidate]
) -> dict[str, float | None]:
    if row["quality"] < _floor(candidates):
        return {"quality": _floor(candidates) - row["quality"]}
    labelled = _is_labelled(candidates)
    per_usd = _dearness({**row, "cost_usd": 1.0}, is_labelled=labelled)
    return {"cost_usd": _dearness(reference, is_labelled=labelled) / per_usd - row["cost_usd"]}


def _latency_lacking(
    row: Candidate, reference: Candidate, own: Objective, candidates: Sequence[Candidate]
) -> dict[str, float | None]:
    if row["quality"] < _floor(candidates):
        return {"quality": _floor(candidates) - row["quality"]}
    wanted = reference["latency_s"] / reference["reliability"] * row["reliability"]
    return {"latency_s": wanted - row["latency_s"]}
