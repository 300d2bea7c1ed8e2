"""The report on a terminal: the page, a task that was opened, and on request all the rest."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console

from router.report.detail_lines import detail_lines
from router.report.episodes import episode_lines, episode_table
from router.report.gather import Report
from router.report.month_lines import month_lines
from router.report.more_lines import more_lines
from router.report.page_lines import page_lines
from router.report.roles import role_table
from router.report.screen import console
from router.report.terminal_text import WIDTH, clean, printable, wrapped


def print_report(report: Report, to: Console | None = None) -> None:
    """Print the report: first what is missing, then the page, then what was asked for beside it."""
    to = to or console()
    if report.page is None:
        for line in report.missing:
            _print(wrapped(line, width=WIDTH, indent="  "), to, style="yellow")
        return
    if report.is_of_month:
        _print(month_lines(report.page), to)
        return
    width = min(to.width, WIDTH) if to.is_terminal else WIDTH
    _print(page_lines(report.page, width=max(width, 60), everything=report.shows_all), to)
    for detail in report.details:
        to.print()
        _print(detail_lines(detail, width=max(width, 60)), to)
    if report.shows_all:
        print_rest(report, to)


def print_rest(report: Report, to: Console) -> None:
    """Print what the page leaves out."""
    to.print()
    if (table := role_table(report.posteriors.get("roles", []))) is not None:
        to.print(table)
    episodes = report.posteriors.get("episodes", {})
    if (table := episode_table(episodes)) is not None:
        to.print(table)
    _print(map(clean, episode_lines(episodes)), to)
    for line in more_lines(report):
        # YAML is to be pasted: as it is, on one line
        _print([printable(line)] if line.startswith(" ") else _parts(line), to)


def _parts(line: str) -> list[str]:
    """Return a line, and what it has below itself, cleaned."""
    return [part for each in line.split("\n") for part in wrapped(each, width=WIDTH, indent="  ")]


def _print(lines: Iterable[str], to: Console, *, style: str | None = None) -> None:
    for line in lines:
        told = "red" if line.startswith("! ") else style
        to.print(line, style=told, markup=False, highlight=False, emoji=False, soft_wrap=True)
