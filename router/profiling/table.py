"""A profile's table for terminals, however narrow."""

from __future__ import annotations

from textwrap import wrap

from bandit.profile_cells import Cell
from router.profiling.figures import ProfileTable, table_of
from router.profiling.sentence import judged_by, sentence_of

__all__ = ["ProfileTable", "lines_of", "table_of"]

WIDTH = 100
NARROW = 84
"""Below it only quality keeps its interval."""
MOST_ROWS = 8
"""Endpoints of a task; the pinned one and the one in use are shown beside them."""


def lines_of(table: ProfileTable, width: int = WIDTH) -> list[str]:
    """Return the table and the sentence, no line wider than `width` columns."""
    width = max(width, 40)
    if not table.tasks:
        return ["Nothing was asked."]
    lines: list[str] = []
    for t, task in enumerate(table.tasks):
        n = table.n_prompts[t]
        lines += [_cut(f"{task} · {n} prompt{'' if n == 1 else 's'}", width)]
        lines += [*_rows(table, table.ranked(t), width), ""]
    if len(table.tasks) > 1:
        lines += ["all tasks", *_rows(table, table.ranked_overall(), width), ""]
    lines += wrap(f"Judged by {judged_by(table)}. {spent(table)}", width)
    lines += [line for text in failures_of(table) for line in wrap(text, width)]
    return [*lines, "", *wrap(sentence_of(table), width)]


def percent(cell: Cell) -> str:
    """Return a cell's quality with its interval, in hundredths."""
    if cell.quality is None:
        return "not graded"
    low, high = cell.quality_interval
    return f"{100 * cell.quality:.0f} % [{100 * low:.0f}–{100 * high:.0f}]"


def usd(amount: float) -> str:
    """Return what a thousand calls cost, to three digits."""
    amount *= 1000
    if amount == 0:
        return "$0"
    return f"${amount:,.0f}" if amount >= 100 else f"${amount:.3g}"


def cost(cell: Cell, *, wide: bool = True) -> str:
    """Return what a thousand calls cost, with its interval where there is room."""
    if cell.cost_usd is None:
        return "–"
    low, high = cell.cost_interval
    if not wide or high is None:
        return usd(cell.cost_usd)
    return f"{usd(cell.cost_usd)} [{usd(low)[1:]}–{usd(high)[1:]}]"


def seconds(value: float | None) -> str:
    """Return seconds to two digits."""
    if value is None:
        return "–"
    return f"{value:.0f} s" if value >= 10 else f"{value:.2g} s"


def median(cell: Cell, *, wide: bool = True) -> str:
    """Return the median of what was answered, with its interval where there is room."""
    low, high = cell.latency_interval
    if cell.latency_s is None or not wide or high is None:
        return seconds(cell.latency_s)
    return f"{seconds(cell.latency_s)} [{seconds(low)[:-2]}–{seconds(high)[:-2]}]"


def notes(cell: Cell) -> str:
    """Return what is odd about a cell."""
    said = []
    if cell.n_failed:
        said.append(f"{cell.n_failed} failed")
    if 0 < cell.n_graded < cell.n_asked:
        said.append(f"{cell.n_asked - cell.n_graded} not graded")
    return ", ".join(said)


def failures_of(table: ProfileTable) -> list[str]:
    """Return why calls failed, an endpoint a line."""
    return [
        f"{name} failed: " + "; ".join(f"{n} times {why}" for why, n in whys.items() if why)
        for name, whys in table.failures.items()
        if any(whys)
    ]


def _rows(table: ProfileTable, ranked: list[tuple[str, Cell]], width: int) -> list[str]:
    wide = width >= NARROW
    advice = table.found.advice
    kept = {table.incumbent, None if advice.pin is None else table.endpoints[advice.pin]}
    shown = [one for i, one in enumerate(ranked) if i < MOST_ROWS or one[0] in kept]
    rows = [("", "quality", "1,000 calls", "median", "95 %", "best", "")]
    for name, cell in shown:
        best = "" if cell.p_best is None else f"{100 * cell.p_best:.0f} %"
        figures = (percent(cell), cost(cell, wide=wide), median(cell, wide=wide))
        rows.append((name, *figures, seconds(cell.slow_s), best, notes(cell)))
    if width < 60:  # phones and split panes
        rows = [(r[0], r[1], r[2], r[3], "", "", "") for r in rows]
    sizes = [max(len(r[i]) for r in rows) for i in range(1, 7)]
    name_size = min(max(len(r[0]) for r in rows), 32)
    used = 2 + sum(size + 2 for size in sizes if size)
    name_size = max(min(name_size, width - used), 10)
    lines = []
    for row in rows:
        parts = [_cut(row[0], name_size).ljust(name_size)]
        parts += [part.ljust(size) for part, size in zip(row[1:], sizes, strict=True) if size]
        lines.append(_cut("  " + "  ".join(parts).rstrip(), width))
    if len(shown) < len(ranked):
        lines.append(_cut(f"  … {len(ranked) - len(shown)} more with --json or --html", width))
    return lines


def spent(table: ProfileTable) -> str:
    """Return what was spent, and which parts are named apart."""
    whole, perhaps = table.spent_usd + table.judge_usd, table.perhaps_paid_usd
    parts = f": {_sum(whole - perhaps)}, and about {_sum(perhaps)} that may have been paid"
    judged = f"; judging is {_sum(table.judge_usd)} of it" if table.judge_usd else ""
    return f"Spent {_sum(whole)}{parts if perhaps else ''}{judged}."


def _sum(amount: float) -> str:
    return f"${amount:.2f}" if amount >= 0.1 or amount == 0 else f"${amount:.2g}"


def _cut(text: str, width: int) -> str:
    """Return a text at most so wide, its middle left out."""
    if len(text) <= width:
        return text
    head = (width - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"
