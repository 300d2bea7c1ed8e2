"""What is known of every endpoint, as a table a task: what a demo or a replay ends with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bandit.matrix import ReportRow
from router.report.chains import chain_line
from router.report.profiled import profiled_line
from router.report.terminal_text import clean

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

USABLE = "usable"
COLUMNS = (
    "n",
    "quality",
    "90 %",
    "P(best)",
    "ok",
    USABLE,
    "p50 s",
    "p95 s",
    "$/1k",
    "$/1k ok",
    "share",
)
"""`n` is calls/labels, or says that the cell is damaged; `usable` the share of the answers that
were read with which no check found fault; `$/1k ok` is cost per
thousand successes, retries and repeats included."""


def print_matrix(rows: list[ReportRow], to: Console, *, by_app: bool = False) -> None:
    """Print a table for each task.

    Args:
        by_app: there are several apps, so that it is told whose labels there are.
    """
    for (category, app), own in _by_table(rows):
        to.print(_table(f"{category}, by labels of {app} alone" if app else category, own))
        for line in matrix_lines(own, by_app=by_app):
            to.print(clean(line), markup=False, highlight=False)


def matrix_lines(rows: Sequence[ReportRow], *, by_app: bool) -> list[str]:
    """Return what there is to say below a task's table: whose labels, what came after calls."""
    teachers = teachers_line(list(rows)) if by_app else ""
    return [line for line in (teachers, chain_line(rows), profiled_line(rows)) if line]


def teachers_line(rows: list[ReportRow]) -> str:
    """Return the line that says whose labels are behind a table, with their mean rewards."""
    labels: Counter[str] = Counter()
    for row in rows:
        labels.update(row.apps)
    named = []
    for app, n in labels.most_common():
        reward = sum(row.apps[app] * row.rewards[app] for row in rows if app in row.apps)
        named.append(f"{app} {n} ({_short(reward / n)})")
    unnamed, borrowed = sum(row.unnamed for row in rows), sum(row.borrowed for row in rows)
    named += [f"{unnamed} of apps not known"] if unnamed else []
    named += [f"{borrowed} lent by others"] if borrowed else []
    return f"labels: {', '.join(named)}" if named else ""


def _by_table(rows: list[ReportRow]) -> list[tuple[tuple[str, str | None], list[ReportRow]]]:
    """Return the rows of each table: a category's, and below it those of apps that learn alone.

    Who gave no label of his own in a category goes by the shared ones there: no table for that,
    unless his own are damaged.
    """
    tables: dict[tuple[str, str | None], list[ReportRow]] = {}
    for row in rows:
        tables.setdefault((row.category, row.app), []).append(row)
    place = {category: n for n, category in enumerate(dict.fromkeys(r.category for r in rows))}
    shared = {(r.category, r.endpoint) for r in rows if r.damaged and r.app is None}

    def is_own(row: ReportRow) -> bool:
        return row.labels > 0 or (row.damaged and (row.category, row.endpoint) not in shared)

    found = [(w, own) for w, own in tables.items() if w[1] is None or any(map(is_own, own))]
    return sorted(found, key=lambda table: place[table[0][0]])


def _table(category: str, rows: list[ReportRow]) -> Table:
    """Return one category's table; it fits 80 columns with endpoint names up to 18 long."""
    from rich.table import Table  # only here: a router hands out the rows, and prints none
    from rich.text import Text

    table = Table(
        title=Text(clean(category + _signals_of(rows)), style="bold"),
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    headings = list(COLUMNS)
    if all(row.usable is None for row in rows):
        headings.remove(USABLE)
    table.add_column("endpoint", overflow="fold", min_width=10)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in sorted(rows, key=lambda r: -(r.share or 0)):
        shown = dict(zip(COLUMNS, _cells(row), strict=True))
        table.add_row(Text(clean(row.endpoint)), *(shown[heading] for heading in headings))
    return table


def _signals_of(rows: list[ReportRow]) -> str:
    """Return what a category's figures rest on: labels by kind, and what was read off calls."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update(row.signals)
    return f" ({', '.join(f'{name} {n}' for name, n in counts.items())})" if counts else ""


def _cells(row: ReportRow) -> list[str]:
    """Return a row's figures, in the order of `COLUMNS`."""
    between = "–"
    if row.quality_low is not None and row.quality_high is not None:
        between = f"{_short(row.quality_low)}–{_short(row.quality_high)}"
    return [
        "damaged" if row.damaged else f"{row.calls}/{row.labels}",
        "–" if row.quality is None else _short(row.quality, 3),
        between,
        "–" if row.p_best is None else _short(row.p_best),
        "–" if row.ok_rate is None else _short(row.ok_rate),
        "–" if row.usable is None else _short(row.usable),
        figure(row.latency_p50_s, ".2g"),
        figure(row.latency_p95_s, ".2g"),
        figure(row.cost_usd, ".2g", 1e3),
        figure(row.cost_per_success_usd, ".2g", 1e3),
        figure(row.share, ".0%"),
    ]


def _short(share: float, digits: int = 2) -> str:
    """Return a figure in [0, 1] without its leading zero."""
    return f"{share:.{digits}f}".removeprefix("0")


def figure(value: float | None, form: str, scale: float = 1.0) -> str:
    """Return a number as a table has it: without the zero before its point, – of none."""
    if value is None:
        return "–"
    text = format(value * scale, form)
    return text[1:] if text.startswith("0.") else text
