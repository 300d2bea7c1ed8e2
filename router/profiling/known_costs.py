"""Costs that nobody knows, apart from costs of nothing: all calls failed, or have no price."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bandit.profile_cells import Cell
from bandit.profiled import Advice, AdviceKind, Profiled


def with_known_costs(
    found: Profiled, is_unpriced: Sequence[bool], incumbent: int | None
) -> Profiled:
    """Return figures of which no cost stands that is not known, and no comparison with one.

    Args:
        is_unpriced: (n_endpoints,) its calls have no price.
    """
    cells = [_known(row, is_unpriced) for row in found.cells]
    overall = _known(found.overall, is_unpriced)
    advice, beside = found.advice, found.advice.beside_incumbent
    if beside is None or incumbent is None:
        return Profiled(cells, overall, advice)
    if any(overall[arm].cost_usd is None for arm in {incumbent, *_advised(advice)}):
        beside = replace(beside, cost_ratio=None, cost_ratio_interval=None)
    return Profiled(cells, overall, replace(advice, beside_incumbent=beside))


def _advised(advice: Advice) -> list[int]:
    if advice.kind is AdviceKind.ROUTE:
        return [arm for arm in advice.map if arm >= 0]
    return [] if advice.pin is None else [advice.pin]


def _known(cells: Sequence[Cell], is_unpriced: Sequence[bool]) -> list[Cell]:
    return [
        replace(cell, cost_usd=None, cost_interval=(0.0, None))
        if unpriced or (cell.n_asked and cell.n_failed == cell.n_asked)
        else cell
        for cell, unpriced in zip(cells, is_unpriced, strict=True)
    ]
