"""The page as lines of a terminal: eighty columns, and at most forty lines by default. Pure.

In the page's order: the verdict, a row a task, what changed, what was spent, what needs attention.
Where there is more than fits, the oldest changes and the cheapest tasks are left out first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from bandit.report import (
    ChangeKind,
    ChangeLine,
    Interval,
    Page,
    PageTrouble,
    SpendLine,
    TaskLine,
    VerdictLine,
)
from router.report.sentences import signals_line
from router.report.terminal_text import WIDTH, columns, widest, wrapped
from telemetry.dates import utc_minute

MOST_LINES = 40
UNKNOWN = "–"
OFF = "Routing is off"
LEGEND = "quality: points above the incumbent [90 %]; $/1k: cost of 1,000 successes"
ITS_COST = ", inc.: its"


@dataclass(frozen=True, slots=True)
class Most:
    """How much of each section is shown."""

    sentences: int = 4
    sentence_lines: int = 4  # of one
    tasks: int = 12
    changes: int = 6
    change_lines: int = 3  # of one
    budgets: int = 5
    troubles: int = 6
    trouble_lines: int = 4  # of one
    notes: int = 4

    def less(self) -> Most:
        """Return what is to be tried next, where there are too many lines."""
        if self.change_lines > 2:
            return replace(self, change_lines=2)
        if self.trouble_lines > 2:
            return replace(self, trouble_lines=2)
        if self.changes > 3:
            return replace(self, changes=self.changes - 1)
        if self.budgets > 2:
            return replace(self, budgets=self.budgets - 1)
        if self.troubles > 3:
            return replace(self, troubles=self.troubles - 1)
        if self.trouble_lines > 1:
            return replace(self, trouble_lines=1, sentence_lines=3)
        if self.sentences > 2:
            return replace(self, sentences=self.sentences - 1)
        if self.tasks > 4:
            return replace(self, tasks=self.tasks - 1)
        if self.changes > 1:
            return replace(self, changes=self.changes - 1, change_lines=1)
        if self.notes > 1:
            return replace(self, notes=self.notes - 1)
        return replace(self, sentences=1, troubles=1, budgets=1)


ALL = Most(100, 20, 10**6, 40, 8, 100, 100, 8, 100)


def page_lines(page: Page, *, width: int = WIDTH, everything: bool = False) -> list[str]:
    """Return the page as lines of at most `width` cells.

    Args:
        everything: as many lines as it takes, instead of `MOST_LINES`.
    """
    most = ALL if everything else Most()
    lines = _lines(page, most, width)
    while not everything and len(lines) > MOST_LINES and most.sentences > 1:
        most = most.less()
        lines = _lines(page, most, width)
    return lines if everything else lines[:MOST_LINES]


def _lines(page: Page, most: Most, width: int) -> list[str]:
    sections = [
        _head(page, most, width),
        _verdict(page.sentences[: most.sentences], most, width),
        task_table(page, most.tasks, width),
        _changes(page, most, width),
        _spend(page, most.budgets, width),
        _health(page, most, width),
    ]
    out: list[str] = []
    for section in filter(None, sections):
        out += [""] if out else []
        out += section
    return out


def _head(page: Page, most: Most, width: int) -> list[str]:
    is_said = any(line.text.startswith(OFF) for line in page.sentences)
    off = f"{OFF.upper()}: incumbents serve everything until `pointsman on`"
    lines = wrapped(f"pointsman: {page.scope}, to {utc_minute(page.at_ms)}", width=width, most=1)
    lines += wrapped(off, width=width) if page.is_off and not is_said else []
    for note in page.notes[: most.notes]:
        lines += wrapped(note, width=width, indent="  ", most=2)
    return lines


def _verdict(sentences: Sequence[VerdictLine], most: Most, width: int) -> list[str]:
    lines: list[str] = []
    for one in sentences:
        said = signals_line(one.signals)
        told = one.text + (f" {said[0].upper()}{said[1:]}." if said else "")
        lines += wrapped(told, width=width, indent="  ", most=most.sentence_lines)
        lines += wrapped(one.advice, width=width, first="    ", indent="      ", most=2)
    return lines


def task_table(page: Page, most: int, width: int) -> list[str]:
    """Return a row a task below a heading, what the others come to, and the legend."""
    if not page.tasks:
        return []
    shown = page.tasks[:most]
    rows: list[tuple[str, ...]] = [
        HEADING,
        *(
            (
                _name(line, page.tasks),
                line.current or UNKNOWN,
                _points(line.quality),
                _per_thousand(line.cost_per_success_usd),
                _per_thousand(line.incumbent_cost_per_success_usd),
                line.word.value,
            )
            for line in shown
        ),
    ]
    if sum(widest(row[i] for row in rows) for i in range(6)) + 5 > width:
        rows = [(*row[:4], row[5]) for row in rows]
    fixed = [widest(row[i] for row in rows) for i in range(2, len(rows[0]))]
    room = width - sum(fixed) - len(fixed) - 1
    lines = columns(rows, (*_names_of(rows, room), *fixed), "ll" + "r" * (len(fixed) - 1) + "l")
    lines += _folded(page, len(shown), width)
    legend = LEGEND if len(rows[0]) < len(HEADING) else LEGEND.replace("cost of ", "") + ITS_COST
    return [*lines, *wrapped(legend, width=width, most=1)]


HEADING = ("task", "choice", "quality", "$/1k", "inc.", "")


def _names_of(rows: Sequence[Sequence[str]], room: int) -> tuple[int, int]:
    """Return how wide the names of tasks and endpoints are: what one leaves the other may take."""
    task, endpoint = (widest(row[i] for row in rows) for i in (0, 1))
    if task + endpoint <= room:
        return task, endpoint
    task = min(task, max(room - endpoint, room * 2 // 5))
    return task, room - task


def _name(line: TaskLine, lines: Sequence[TaskLine]) -> str:
    """Return a task's name, with app, role or strategy where others differ in these alone."""
    name = line.task or UNKNOWN
    if line.role:
        name = f"{name} ({line.role})"
    if len({one.app for one in lines}) > 1:
        name = f"{line.app}: {name}"
    same = [
        one for one in lines if (one.app, one.task, one.role) == (line.app, line.task, line.role)
    ]
    return f"{name}, {line.strategy}" if len(same) > 1 and line.strategy else name


def _points(quality: Interval | None) -> str:
    if quality is None:
        return UNKNOWN
    mean, low, high = (_one(100 * x) for x in (quality.mean, quality.low, quality.high))
    sign = "+" if quality.mean > 0 and mean != "0.0" else ""
    return f"{sign}{mean} [{low}, {high}]"


def _one(value: float) -> str:
    text = f"{value:.1f}"
    return "0.0" if float(text) == 0 else text


def _per_thousand(usd: float | None) -> str:
    return UNKNOWN if usd is None else money(1000 * usd)


def money(usd: float) -> str:
    """Return an amount with as many digits as tell something."""
    size = abs(usd)
    if size >= 100 or size == 0:
        return f"{usd:,.0f}"
    if size >= 1:
        return f"{usd:,.2f}"
    return f"{usd:.2g}" if size >= 1e-4 else f"{usd:.7f}".rstrip("0")


def _folded(page: Page, n_shown: int, width: int) -> list[str]:
    left = page.tasks[n_shown:]
    n, calls = len(left), sum(line.calls for line in left)
    spent = sum(line.spent_usd for line in left)
    if page.folded is not None:
        n, calls = n + page.folded.tasks, calls + page.folded.calls
        spent += page.folded.spent_usd
    if not n:
        return []
    tasks = f"{n:,} more task{'s' if n > 1 else ''}"
    return wrapped(f"{tasks}: ${money(spent)}, {calls:,} calls (--all)", width=width, most=1)


def _changes(page: Page, most: Most, width: int) -> list[str]:
    if not page.changes:
        return ["nothing changed"]
    shown = page.changes[: most.changes]
    left = len(page.changes) - len(shown) + page.more_changes
    lines = [f"changed ({left:,} more: --all)" if left else "changed"]
    for one in shown:
        lines += change_lines(one, most.change_lines, width)
    return lines


def change_lines(one: ChangeLine, most: int, width: int) -> list[str]:
    """Return a change: date, what, why, and how to take it back, in one line of its own."""
    app = f"{one.app}: " if one.app else ""
    reason = f"; {one.reason}" if one.reason else ""
    how = "accept" if one.kind is ChangeKind.PROPOSAL else "undo"
    when = datetime.fromtimestamp(one.at_ms / 1000, UTC).strftime("%m-%d %H:%M")
    told = f"{when} {one.kind.value} {app}{one.subject}: {one.text}{reason}"
    lines = wrapped(told, width=width, indent="    ", most=max(most - bool(one.undo), 1))
    return lines + (
        wrapped(f"{how}: {one.undo}", width=width, first="    ", most=1) if one.undo else []
    )


def _spend(page: Page, most: int, width: int) -> list[str]:
    unpriced = f", {page.unpriced_calls:,} without a price" if page.unpriced_calls else ""
    calls = "call" if page.calls == 1 else "calls"
    told = f"spent ${money(page.spent_usd)} on {page.calls:,} {calls}{unpriced}{_saved(page)}"
    lines = wrapped(told, width=width, indent="  ", most=2)
    shown = page.budgets[:most]
    for one in shown:
        lines += wrapped(_budget(one), width=width, first="  ", indent="    ", most=2)
    left = len(page.budgets) - len(shown)
    return [*lines, f"  {left:,} more budgets (--all)"] if left else lines


def _saved(page: Page) -> str:
    if page.savings is None:
        return ""
    usd, reason = page.savings.usd, page.savings.reason
    if usd is None:
        return f"; what routing saved: {reason}" if reason else ""
    low, high = (money(x) for x in (usd.low, usd.high))
    left = f" ({reason})" if reason else ""
    return f"; routing saved ${money(usd.mean)} [{low}, {high}]{left}"


def _budget(one: SpendLine) -> str:
    is_money = one.unit == "usd"
    spent, limit = (f"${money(x)}" if is_money else f"{x:,.0f}" for x in (one.spent, one.limit))
    unit = "" if is_money else f" {one.unit}"
    used = f" ({100 * one.spent / one.limit:.0f} %)" if one.limit > 0 else ""
    note = f"; {one.note}" if one.note else ""
    return f"{one.name}: {spent} of {limit}{unit} per {one.per}{used}{note}"


def _health(page: Page, most: Most, width: int) -> list[str]:
    lines: list[str] = []
    shown = page.troubles[: most.troubles]
    for one in shown:
        lines += trouble_lines(one, most.trouble_lines, width)
    left = len(page.troubles) - len(shown)
    lines += [f"{left:,} more need attention (--all)"] if left else []
    if not page.troubles:
        lines.append("nothing needs attention")
    stop = [] if page.is_off else ["to stop routing: `pointsman off`"]
    return [*lines, *_routers(page, width), *stop]


def trouble_lines(one: PageTrouble, most: int, width: int) -> list[str]:
    """Return what needs attention, since when, and what to do."""
    since = f" since {utc_minute(one.since_ms)}" if one.since_ms else ""
    fix = f"; {one.fix}" if one.fix else ""
    mark = "! " if one.is_urgent else "- "
    return wrapped(f"{mark}{one.text}{since}{fix}", width=width, indent="  ", most=most)


def _routers(page: Page, width: int) -> list[str]:
    """Return the routers in one line; of many, how many there are of each configuration."""
    if not page.routers:
        return []
    by_kind: dict[tuple[str, str], list[str]] = {}
    for one in page.routers:
        by_kind.setdefault((one.version, one.configuration), []).append(one.name)
    told = [
        f"{names[0] if len(names) == 1 else f'{len(names)} routers'} "
        f"(version {version}, configuration {configuration})"
        for (version, configuration), names in by_kind.items()
    ]
    return wrapped(f"running: {', '.join(told)}", width=width, indent="  ", most=2)
