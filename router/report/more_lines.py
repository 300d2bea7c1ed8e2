"""What `pointsman report --all` says below the page: a line for each of what else is known."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from router.report.budget_lines import budget_lines
from router.report.costs import availability_lines, list_cost_lines, published_lines
from router.report.gather import Report
from router.report.hosts import split_lines
from router.report.leaves import leaf_lines
from router.report.profiles import profile_lines
from router.report.prompts import prompt_lines
from router.report.sampled import sampled_lines
from router.report.savings_lines import savings_lines
from router.report.suggestions import suggestion_lines
from telemetry.dates import utc_minute
from telemetry.memory import MemoryUse
from telemetry.reader import RaterCounts

CHANGED = {"down": "fell", "up": "rose", "restored": "recovered"}


def more_lines(report: Report) -> Iterator[str]:
    """Yield a line for each of what the page leaves out; one that begins with a blank is YAML."""
    told = report.posteriors
    if line := refused_line(told.get("configuration")):
        yield line
    yield from choice_lines(told.get("choices", []))
    yield from leaf_lines(told.get("leaves", []))
    yield from suggestion_lines(told.get("suggestions", []))
    savings = told.get("savings")
    if savings is not None and savings["all"] is not None:
        yield from savings_lines(savings, by_task=False)
    yield from budget_lines(report.budgets, now_s=time.time(), with_warnings=True)
    yield from profile_lines(told.get("profiles", []))
    yield from published_lines(told.get("published_prices", []))
    yield from list_cost_lines(told.get("list_costs", []))
    yield from availability_lines(told.get("availability", []))
    yield from alarm_lines(told.get("alarms", []))
    yield from prompt_lines(told.get("prompts", []))
    yield from split_lines(told.get("splits", []))
    yield from sampled_lines(told.get("sampled", []))
    yield from rater_lines(report.raters)
    if report.memory is not None:
        yield memory_line(report.memory)
    for other in report.unlisted:
        yield f"passed on or unlisted: {other.name} ({other.category}): {other.calls} calls"


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


def memory_line(use: MemoryUse) -> str:
    """Return the line that says what takes the store's memory, as of when."""
    return f"the store's memory ({utc_minute(use.at_ms)}): {use.shown}; young: {use.young_hours} h"


def refused_line(configuration: dict[str, Any] | None) -> str:
    """Return the lines that say that the file is refused, with its errors; else nothing."""
    refused = (configuration or {}).get("refused")
    if configuration is None or not refused:
        return ""
    n, errors = refused["n_errors"], refused["errors"]
    more = [f"and {n - len(errors)} more"] if n > len(errors) else []
    return "\n  ".join(
        [
            f"{configuration['file']} is refused since {utc_minute(refused['at_ms'])}; "
            f"in force is what it held {utc_minute(configuration['since_ms'])}; "
            f"{n} error{'s' if n > 1 else ''}:",
            *errors,
            *more,
        ]
    )


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
        f"{utc_minute(last['at_ms'])} from {last['before']} to {last['after']}: "
        f"{last['reason']}{odds}, on labels: {labels}"
    )


def alarm_lines(alarms: list[dict[str, Any]]) -> list[str]:
    """Return a line for each endpoint that changed: when, how far, and by what evidence."""
    return [
        f"{alarm['endpoint']} {CHANGED[alarm['kind']]} {utc_minute(alarm['at_ms'])}: "
        f"{alarm['labels']:.0f} labels since {utc_minute(alarm['since_ms'])}, "
        f"{alarm['mean_residual']:+.1f} sd from what was expected; rewards × {alarm['factor']:.2f}"
        + (", watched for a recovery" if alarm["suspect"] else "")
        for alarm in alarms
    ]
