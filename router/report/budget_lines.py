"""How budgets stand, on a terminal: a line an account, and the warnings of the day. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

from rich.cells import cell_len, set_cell_size

from router.budgets.claims import NO_USER, BudgetClaim
from router.budgets.standings import as_written
from router.budgets.warnings import BudgetWarning
from router.config.budgets import BudgetUnit
from router.report.budgets import AccountRow, BudgetTable, account_hex

MOST_LINES = 8
MOST_LABEL = 48
CELLS = 10
"""Of a bar."""


def budget_lines(table: BudgetTable, *, now_s: float, with_warnings: bool) -> list[str]:
    """Return how accounts stand, the most used first; nothing where there is no budget."""
    return list(_lines(table, now_s, with_warnings)) if table.rows else []


def _lines(table: BudgetTable, now_s: float, with_warnings: bool) -> Iterator[str]:
    shown = table.rows[:MOST_LINES]
    labels = [_label(row.claim) for row in shown]
    width = max(map(cell_len, labels))
    yield "spend against budgets:"
    for label, row in zip(labels, shown, strict=True):
        yield f"{set_cell_size(label, width)}  {_standing(row)}"
    more = len(table.rows) - len(shown) + table.more
    if more:
        yield f"{more:,} more: --json"
    if with_warnings:
        yield from _warnings(table, now_s)


def _label(claim: BudgetClaim) -> str:
    """Return an account's name: its budget's, and of whom it is."""
    of = ", ".join(value or NO_USER for _, value in claim.values)
    whole = f"{claim.budget.name} ({of})" if of else claim.budget.name
    label = "".join(c if c.isprintable() else "?" for c in whole)
    fits = cell_len(label) <= MOST_LABEL
    return label if fits else f"{set_cell_size(label, MOST_LABEL - 1)}…"


def _standing(row: AccountRow) -> str:
    claim, budget = row.claim, row.claim.budget
    used = row.spent / max(claim.limit, 1)
    full = min(int(used * CELLS), CELLS)
    ends = datetime.fromtimestamp(claim.ends_s, ZoneInfo(budget.timezone))
    return (
        f"[{'#' * full}{'-' * (CELLS - full)}]  {_of(row.spent, claim.limit, budget.unit)} "
        f"({int(100 * used)} %), resets {ends:%Y-%m-%d %H:%M} {budget.timezone}"
    )


def _of(spent: int, limit: int, unit: BudgetUnit) -> str:
    if unit is not BudgetUnit.MONEY:
        return f"{spent:,} of {limit:,} {unit.value}"
    most = as_written(limit, unit)
    decimals = 2 if most >= 1 else 4 if most >= 0.01 else 9
    return f"{as_written(spent, unit):,.{decimals}f} of {most:,.{decimals}f} USD"


def _warnings(table: BudgetTable, now_s: float) -> Iterator[str]:
    """Yield the warnings of today, the last of each account and period."""
    known = {account_hex(claim): claim for claim in table.known}
    last = dict[tuple[str, int], BudgetWarning]()
    for warning in table.warnings:
        claim = known.get(warning.account)
        if claim is not None and _is_today(warning, claim, now_s):
            of = warning.account, warning.start_s
            last[of] = max(last.get(of, warning), warning, key=lambda one: (one.at_s, one.percent))
    for warning in list(last.values())[:MOST_LINES]:
        claim = known[warning.account]
        at = datetime.fromtimestamp(warning.at_s, ZoneInfo(claim.budget.timezone))
        spent = _of(warning.spent, warning.limit, claim.budget.unit)
        yield f"warned at {at:%H:%M}: {_label(claim)} at {warning.percent} %: {spent}"
    if len(last) > MOST_LINES:
        yield f"{len(last) - MOST_LINES:,} more warnings of today: --json"


def _is_today(warning: BudgetWarning, claim: BudgetClaim, now_s: float) -> bool:
    """Return whether it was said today, by the calendar of its budget's zone."""
    zone = ZoneInfo(claim.budget.timezone)
    at, now = (datetime.fromtimestamp(s, zone).date() for s in (warning.at_s, now_s))
    return at == now
