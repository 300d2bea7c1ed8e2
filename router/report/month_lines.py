"""A month on one page, for who pays: was it worth it, what did it cost, what changed. Pure.

It says nothing of how it is worked out; who wants that asks for the report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bandit.report import ChangeKind, Page, TaskLine
from router.report.page_lines import money, trouble_lines
from router.report.sentences import signals_line
from router.report.terminal_text import WIDTH, columns, widest, wrapped
from telemetry.dates import utc_minute

MOST_TASKS, MOST_CHANGES, MOST_BUDGETS, MOST_TROUBLES = 12, 8, 8, 4
NOTHING = "no change of who serves"
TOLD = {
    ChangeKind.RELEASE: ("change of who serves", "changes of who serves"),
    ChangeKind.TRIAL: ("event of a trial", "events of trials"),
    ChangeKind.OUTAGE: ("outage", "outages"),
    ChangeKind.PRICE: ("price changed", "prices changed"),
    ChangeKind.DRIFT: ("change in quality", "changes in quality"),
}


def month_lines(page: Page, *, width: int = WIDTH) -> list[str]:
    """Return the page of a month, as lines."""
    sections = [
        [*wrapped(f"Language models: {page.scope} (as of {utc_minute(page.at_ms)})", width=width)],
        ["Is it worth it?", *_verdicts(page, width)],
        ["What did it cost?", *_costs(page, width)],
        ["By task, the dearest first", *_tasks(page.tasks, width)] if page.tasks else [],
        ["What changed?", *_changes(page, width)],
        ["What needs attention?", *_troubles(page, width)],
    ]
    out: list[str] = []
    for section in filter(None, sections):
        out += [*([""] if out else []), *section]
    return out


def _verdicts(page: Page, width: int) -> list[str]:
    lines: list[str] = []
    for one in page.sentences:
        said = signals_line(one.signals)
        told = f"{one.text} {said[0].upper()}{said[1:]}." if said else one.text
        lines += wrapped(told, width=width, first="  ", indent="  ")
    return lines


def _costs(page: Page, width: int) -> list[str]:
    lines = [f"  ${money(page.spent_usd)} for {page.calls:,} calls"]
    if page.unpriced_calls:
        lines.append(f"  {page.unpriced_calls:,} calls without a price are not in it")
    if page.savings is not None:
        usd = page.savings.usd
        if usd is None:
            told = f"what choosing endpoints saved is not known: {page.savings.reason}"
        elif usd.mean < 0:
            told = (
                f"choosing endpoints cost ${money(-usd.mean)} more than your incumbent would have"
            )
        else:
            told = f"choosing endpoints saved ${money(usd.mean)} against your incumbent"
        between = "" if usd is None else f" (between ${money(usd.low)} and ${money(usd.high)})"
        lines += wrapped(f"{told}{between}", width=width, first="  ", indent="  ")
    for one in page.budgets[:MOST_BUDGETS]:
        share = f", {100 * one.spent / one.limit:.0f} % used" if one.limit > 0 else ""
        told = f"{one.name}: {money(one.spent)} of {money(one.limit)} {one.unit} a {one.per}{share}"
        lines += wrapped(told, width=width, first="  ", indent="    ", most=2)
    return lines


def _tasks(tasks: Sequence[TaskLine], width: int) -> list[str]:
    shown = tasks[:MOST_TASKS]
    rows = [("task", "served by", "spent", "per success"), *map(_task, shown)]
    fixed = [widest(row[i] for row in rows) + 1 for i in (2, 3)]
    room = width - sum(fixed) - 5
    first = min(widest(row[0] for row in rows), room // 2)
    second = min(widest(row[1] for row in rows), room - first)
    lines = [f"  {line}" for line in columns(rows, (first, second, *fixed), "llrr")]
    left = len(tasks) - len(shown)
    return [*lines, f"  and {left:,} more tasks"] if left else lines


def _task(line: TaskLine) -> tuple[str, str, str, str]:
    cost = line.cost_per_success_usd
    per = "not known" if cost is None else f"${money(cost)}"
    return f"{line.task} ({line.app})", line.current, f"${money(line.spent_usd)}", per


def _changes(page: Page, width: int) -> list[str]:
    counts = Counter(one.kind for one in page.changes)
    told = [
        f"{counts[kind]:,} {several if counts[kind] > 1 else one}"
        for kind, (one, several) in TOLD.items()
        if counts[kind]
    ]
    lines = wrapped(", ".join(told) or NOTHING, width=width, first="  ", indent="  ")
    for one in page.changes:
        if one.kind is ChangeKind.RELEASE and len(lines) < MOST_CHANGES:
            when = utc_minute(one.at_ms)[:10]
            text = f"{when} {one.subject}: {one.text}"
            lines += wrapped(text, width=width, first="  ", indent="    ", most=2)
    return lines


def _troubles(page: Page, width: int) -> list[str]:
    if page.is_off:
        return ["  routing is switched off: your incumbents serve every call"]
    lines = [part for one in page.troubles[:MOST_TROUBLES] for part in trouble_lines(one, 2, width)]
    return lines or ["  nothing"]
