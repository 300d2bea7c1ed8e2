"""The report on a terminal: tables and lines."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from bandit.matrix import ReportRow
from router.beliefs.damage import REPAIR
from router.report.budget_lines import budget_lines
from router.report.chains import chain_line
from router.report.costs import availability_lines, list_cost_lines, published_lines
from router.report.episodes import episode_lines, episode_table
from router.report.exploring import ceiling_lines
from router.report.gather import Report
from router.report.hosts import split_lines
from router.report.leaves import leaf_lines
from router.report.profiled import profiled_line
from router.report.profiles import profile_lines
from router.report.prompts import prompt_lines
from router.report.roles import role_table
from router.report.savings_lines import savings_lines
from router.report.screen import console
from router.report.served import served_lines
from router.report.suggestions import suggestion_lines
from telemetry.memory import MemoryUse
from telemetry.reader import RaterCounts

CHANGED = {"down": "fell", "up": "rose", "restored": "recovered"}
USABLE = "usable"
SAID_IN = {"file": "the state directory", "store": "the store"}
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


def print_report(report: Report, to: Console | None = None) -> None:
    """Print the report as tables."""
    to = to or console()
    if line := refused_line(report.posteriors.get("configuration")):
        to.print(line, style="red", markup=False, highlight=False)
    if report.posteriors.get("off"):
        to.print(off_line(report.posteriors), style="yellow", markup=False, highlight=False)
    for (category, app), rows in _by_table(report.rows):
        to.print(_table(f"{category}, by labels of {app} alone" if app else category, rows))
        if len(report.posteriors.get("apps", ())) > 1 and (line := teachers_line(rows)):
            to.print(line, markup=False, highlight=False)
        if line := chain_line(rows):
            to.print(line, markup=False, highlight=False)
        if line := profiled_line(rows):
            to.print(line, markup=False, highlight=False)
    if (table := role_table(report.posteriors.get("roles", []))) is not None:
        to.print(table)
    _print_episodes(report.posteriors.get("episodes", {}), to)
    for line in leaf_lines(report.posteriors.get("leaves", [])):
        to.print(line, highlight=False, markup=False)
    for line in suggestion_lines(report.posteriors.get("suggestions", [])):
        is_yaml = line.startswith(" ")  # to be pasted: as it is, on one line
        to.print(line, highlight=False, markup=False, emoji=False, soft_wrap=is_yaml)
    for line in choice_lines(report.posteriors.get("choices", [])):
        to.print(line, highlight=False, markup=False)
    for line in ceiling_lines(report.posteriors.get("exploring", [])):
        to.print(line, highlight=False, markup=False)
    for line in _savings_lines(report.posteriors.get("savings")):
        to.print(line, highlight=False, markup=False)
    for line in budget_lines(report.budgets, now_s=time.time(), with_warnings=True):
        to.print(line, highlight=False, markup=False, emoji=False, soft_wrap=True)
    for line in profile_lines(report.posteriors.get("profiles", [])):
        to.print(line, highlight=False, markup=False)
    for line in report.posteriors.get("agreements", []):
        to.print(line, style="yellow", highlight=False, markup=False)
    for line in [
        *published_lines(report.posteriors.get("published_prices", [])),
        *list_cost_lines(report.posteriors.get("list_costs", [])),
        *availability_lines(report.posteriors.get("availability", [])),
    ]:
        to.print(line, highlight=False, markup=False)
    for line in served_lines(report.posteriors.get("served", []), now_ms=_now_ms()):
        to.print(line, style="yellow", highlight=False, markup=False)
    for alarm in report.posteriors.get("price_alarms", []):
        to.print(alarm["text"], style="yellow", highlight=False, markup=False)
    for line in alarm_lines(report.posteriors.get("alarms", [])):
        to.print(line, highlight=False, markup=False)
    for line in prompt_lines(report.posteriors.get("prompts", [])):
        to.print(line, highlight=False, markup=False)
    for line in split_lines(report.posteriors.get("splits", [])):
        to.print(line, highlight=False, markup=False)
    for cell in report.posteriors.get("damaged", []):
        whose = f", {cell['app']}'s own labels" if "app" in cell else ""
        where = f"{cell['endpoint']} ({cell['category']}{whose})"
        line = f"damaged: {where} counts as unknown, no records add up to its sums; {REPAIR}"
        to.print(line, style="red", markup=False, highlight=False)
    if line := references_line(report.posteriors.get("references", {})):
        to.print(line, style="yellow", markup=False, highlight=False)
    for line in rater_lines(report.raters):
        to.print(line, markup=False, highlight=False)
    if report.memory is not None:
        to.print(memory_line(report.memory), markup=False, highlight=False)
        for line in report.memory.warnings().values():
            to.print(f"the store's memory: {line}", style="yellow", markup=False, highlight=False)
    for other in report.unlisted:
        line = f"passed on or unlisted: {other.name} ({other.category}): {other.calls} calls"
        to.print(line, markup=False, highlight=False)
    for line in report.missing:
        to.print(line, style="yellow", markup=False, highlight=False)


def _savings_lines(section: dict[str, Any] | None) -> list[str]:
    """Return what routing saved; nothing where nothing was worked out yet."""
    told = section is not None and section["all"] is not None
    return savings_lines(section, by_task=False) if section is not None and told else []


def _print_episodes(section: dict[str, Any], to: Console) -> None:
    if (table := episode_table(section)) is not None:
        to.print(table)
    for line in episode_lines(section):
        to.print(line, highlight=False, markup=False)


def references_line(counts: dict[str, int]) -> str:
    """Return the line on feedback that reached no decision, or not all; or nothing."""
    meanings = {
        "ambiguous": "ambiguous (send match: last or all)",
        "too_many": "of references with more decisions than are kept (send decision_id)",
        "unmatched": "unmatched (nothing of that name was decided within a day)",
        "late": "of decisions that came in after it was resolved",
        "unknown_old": "of old decisions that no archive holds (see archive.keep_days)",
    }
    found = [f"{counts[name]} {what}" for name, what in meanings.items() if counts.get(name)]
    return f"feedback without effect: {', '.join(found)}" if found else ""


def memory_line(use: MemoryUse) -> str:
    """Return the line that says what takes the store's memory, as of when."""
    return f"the store's memory ({_at(use.at_ms)}): {use.shown}; young: {use.young_hours} h"


def rater_lines(raters: RaterCounts) -> list[str]:
    """Return a line each for what does not count of raters, and for those who have no name."""
    n, unnamed = raters
    lines = []
    if n:
        lines.append(f"raters: {n} labelled decisions beyond the three of a rater, cell and day")
    if unnamed:
        lines.append(
            f"raters: {unnamed} labelled decisions name no user and count as one rater's an app: "
            "send x-router-user"
        )
    return lines


def refused_line(configuration: dict[str, Any] | None) -> str:
    """Return the lines that say that the file is refused, with its errors; else nothing."""
    refused = (configuration or {}).get("refused")
    if configuration is None or not refused:
        return ""
    n, errors = refused["n_errors"], refused["errors"]
    more = [f"and {n - len(errors)} more"] if n > len(errors) else []
    return "\n  ".join(
        [
            f"{configuration['file']} is refused since {_at(refused['at_ms'])}; "
            f"in force is what it held {_at(configuration['since_ms'])}; "
            f"{n} error{'s' if n > 1 else ''}:",
            *errors,
            *more,
        ]
    )


def off_line(posteriors: dict[str, Any]) -> str:
    """Return the line that says that routing is off, and since when where that is known."""
    since_ms = posteriors.get("off_since_ms")
    since = f" since {_at(since_ms)}" if since_ms else ""
    switch = posteriors.get("switch") or {}
    said_in, said_at_ms = switch.get("said_in") or [], switch.get("said_at_ms")
    said_at = f" of {_at(said_at_ms)}" if said_at_ms else ""
    places = " and ".join(SAID_IN[place] for place in said_in)
    by = f", by the word{said_at} in {places}" if places else ""
    return f"routing is off{since}{by}: incumbents serve everything until `pointsman on`"


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


def choice_lines(choices: list[dict[str, Any]]) -> list[str]:
    """Return a line for each app and strategy: who serves what, and why nothing is tried."""
    by_key: dict[str, list[dict[str, Any]]] = {}
    for row in choices:
        model = f" for {row['model']}" if row["model"] else ""
        by_key.setdefault(f"{row['app']} {row['strategy']}{model}", []).append(row)
    lines = []
    for whose, rows in by_key.items():
        room = "" if rows[0]["room"] is None else f", room {rows[0]['room']:.1f}"
        tasks = "; ".join(
            f"{row['task']} {row['current']}"
            + ("" if row["current"] == row["incumbent"] else f" (instead of {row['incumbent']})")
            + (f" trying {', '.join(row['challengers'])}" if row["exploring"] else "")
            + (f" ({row['note']})" if row["note"] else "")
            + (f", a success is worth {value:.3g} USD" if (value := row.get("value_usd")) else "")
            + (f", {_release(last)}" if (last := row["last_release"]) else "")
            for row in rows
        )
        lines.append(f"choices of {whose} (version {rows[0]['version']}{room}): {tasks}")
    return lines


def _release(last: dict[str, Any]) -> str:
    """Return when and why a task went where it stands, and on whose labels."""
    odds = "" if last["p_better"] is None else f" with P = {last['p_better']:.3f}"
    labels = ", ".join(f"{app} {n}" for app, n in last["labels"].items()) or "nobody's"
    return (
        f"{_at(last['at_ms'])} from {last['before']} to {last['after']}: "
        f"{last['reason']}{odds}, on labels: {labels}"
    )


def alarm_lines(alarms: list[dict[str, Any]]) -> list[str]:
    """Return a line for each endpoint that changed: when, how far, and by what evidence."""
    return [
        f"{alarm['endpoint']} {CHANGED[alarm['kind']]} {_at(alarm['at_ms'])}: "
        f"{alarm['labels']:.0f} labels since {_at(alarm['since_ms'])}, "
        f"{alarm['mean_residual']:+.1f} sd from what was expected; rewards × {alarm['factor']:.2f}"
        + (", watched for a recovery" if alarm["suspect"] else "")
        for alarm in alarms
    ]


def _now_ms() -> int:
    return int(time.time() * 1000)


def _at(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _table(category: str, rows: list[ReportRow]) -> Table:
    """Return one category's table; it fits 80 columns with endpoint names up to 18 long."""
    table = Table(
        title=category + _signals_of(rows),
        title_justify="left",
        title_style="bold",
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
        table.add_row(row.endpoint, *(shown[heading] for heading in headings))
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
