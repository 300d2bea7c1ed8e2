"""The report: posteriors as a table for people, or as JSON.

It works without configuration, store or data: then it says what is missing, and how to begin.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bandit import cells
from bandit.derived import LEAST_PAIRS
from bandit.report import Row
from router import views
from router.beliefs.alarms import Alarms
from router.beliefs.beliefs import Beliefs, believe
from router.beliefs.keeper import known_review_keys
from router.beliefs.releases import Releases
from router.config.compiled import Configuration, load
from router.errors import ConfigError
from telemetry import keys
from telemetry.errors import TelemetryError
from telemetry.events import digest8
from telemetry.reader import Reader
from telemetry.store import Address, StoreErrors, connect, open_store

PIPE_WIDTH = 120
CHANGED = {"down": "fell", "up": "rose", "restored": "recovered"}
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
"""`n` is calls/labels; `usable` the share of answers that fitted what the caller asked for, as far
as it was read off them; `$/1k ok` is cost per thousand successes."""


@dataclass(slots=True)
class Unlisted:
    """Calls of something that the configuration does not list: passed on, or gone since."""

    category: str
    name: str
    calls: int


@dataclass(slots=True)
class Report:
    """Everything that is shown, and what is missing."""

    posteriors: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    unlisted: list[Unlisted] = field(default_factory=list)
    audit: dict[str, Any] | None = None  # what the last one found
    calibration: dict[str, Any] | None = None  # how often predictions held
    missing: list[str] = field(default_factory=list)
    bad_input: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the report as one object."""
        others = [{"category": u.category, "name": u.name, "calls": u.calls} for u in self.unlisted]
        jobs = {"audit": self.audit, "calibration": self.calibration}
        return {**self.posteriors, "unlisted": others, **jobs, "missing": self.missing}


def gather(file: Path, strategy: str | None) -> Report:
    """Return the report of a configuration's store."""
    report = Report(posteriors={"rows": [], "categories": [], "choices": []})
    if not file.exists():
        report.missing.append(
            f"no configuration at {file}: start from docs/examples/pointsman.yaml, "
            "or see the whole loop with `pointsman demo`"
        )
        return report
    try:
        configuration = load(file, secrets=False)
    except ConfigError as error:
        report.bad_input = str(error)
        return report
    chosen = strategy or next(iter(configuration.apps.values())).entry.strategy
    if chosen not in configuration.strategies:
        known = ", ".join(configuration.strategies)
        report.bad_input = f"--strategy {chosen}: no such strategy; known: {known}"
        return report
    try:
        state_dir = configuration.server.state_directory()
        with open_store(state_dir, url=configuration.store.url()) as address:
            _fill(report, configuration, address, chosen)
    except (TelemetryError, *StoreErrors) as error:
        report.missing.append(f"no store: {error}")
    return report


def read_beliefs(
    configuration: Configuration, address: Address
) -> tuple[Beliefs, cells.Terms, dict[str, str]]:
    """Return what the store supports right now, its rows, and its names by digest.

    Raises:
        redis.RedisError: the store is away.
    """
    client = connect(address)
    reader = Reader(
        client,
        configuration.store.shards,
        key_bytes=cells.KEY.itemsize,
        row_bytes=8 * cells.N_COLUMNS,
    )
    reader.poll()
    rows = cells.from_bytes(*reader.rows())
    names = {k.decode(): v.decode() for k, v in client.hgetall(keys.NAMES).items()}
    ledger = Releases(client)
    ledger.read()
    watches = Alarms(client)
    watches.take(watches.look())
    beliefs = believe(
        configuration,
        rows,
        version=reader.version,
        review_keys=known_review_keys(configuration, ledger.kept),
        kept=ledger.kept,
        watches=watches.known,
    )
    return beliefs, rows, names


def _fill(report: Report, configuration: Configuration, address: Address, strategy: str) -> None:
    beliefs, rows, names = read_beliefs(configuration, address)
    report.posteriors = views.posteriors(beliefs, strategy)
    client = connect(address)
    found = [client.get(key) for key in (keys.AUDIT, keys.CALIBRATION)]
    report.audit, report.calibration = (json.loads(value) if value else None for value in found)
    report.rows = views.report_rows(beliefs, strategy)
    report.unlisted = _unlisted(rows, configuration, names)
    if not report.rows and not report.unlisted:
        report.missing.append("no call was recorded yet: point a client at the sidecar")
    for category in report.posteriors["categories"]:
        if not category["signal"]:
            report.missing.append(_no_signal(category))


def _no_signal(category: dict[str, Any]) -> str:
    """Return the line of a category without quality labels; derived ones are no such labels yet."""
    line = f"{category['category']}: no quality signal; send feedback to learn about quality"
    if not category["signals"]:
        return line
    read = ", ".join(f"{name} {n}" for name, n in category["signals"].items())
    return (
        f"{line} (read off calls, for reliability: {read}; {category['pairs']} of {LEAST_PAIRS} "
        "pairs with stronger labels)"
    )


def _unlisted(
    rows: cells.Terms, configuration: Configuration, names: dict[str, str]
) -> list[Unlisted]:
    known = set(configuration.catalog.by_digest)
    tasks = {digest8("task", name): name for name in configuration.tasks}
    counts: dict[tuple[int, int], int] = {}
    for key, value in zip(rows.keys, rows.values, strict=True):
        endpoint = int(key["endpoint"])
        if key["family"] == int(cells.Family.USAGE) and endpoint not in known:
            cell = int(key["category"]), endpoint
            counts[cell] = counts.get(cell, 0) + int(value[cells.U.CALLS])
    return [
        Unlisted(tasks.get(c, f"{c:016x}"), names.get(f"{e:016x}", f"{e:016x}"), n)
        for (c, e), n in sorted(counts.items(), key=lambda item: -item[1])
    ]


def console() -> Console:
    """Return where reports are printed: as wide as the terminal, wide enough in a pipe."""
    found = Console()
    return found if found.is_terminal else Console(width=PIPE_WIDTH)


def print_report(report: Report, to: Console | None = None) -> None:
    """Print the report as tables."""
    to = to or console()
    by_category: dict[str, list[Row]] = {}
    for row in report.rows:
        by_category.setdefault(row.category, []).append(row)
    for category, rows in by_category.items():
        to.print(_table(category, rows))
    for line in choice_lines(report.posteriors.get("choices", [])):
        to.print(line, highlight=False, markup=False)
    for line in alarm_lines(report.posteriors.get("alarms", [])):
        to.print(line, highlight=False, markup=False)
    for other in report.unlisted:
        line = f"passed on or unlisted: {other.name} ({other.category}): {other.calls} calls"
        to.print(line, markup=False, highlight=False)
    for line in report.missing:
        to.print(line, style="yellow", markup=False, highlight=False)


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
            for row in rows
        )
        lines.append(f"choices of {whose} (version {rows[0]['version']}{room}): {tasks}")
    return lines


def alarm_lines(alarms: list[dict[str, Any]]) -> list[str]:
    """Return a line for each endpoint that changed: when, how far, and by what evidence."""
    return [
        f"{alarm['endpoint']} {CHANGED[alarm['kind']]} {_at(alarm['at_ms'])}: "
        f"{alarm['labels']:.0f} labels since {_at(alarm['since_ms'])}, "
        f"{alarm['mean_residual']:+.1f} sd from what was expected; rewards × {alarm['factor']:.2f}"
        + (", watched for a recovery" if alarm["suspect"] else "")
        for alarm in alarms
    ]


def _at(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _table(category: str, rows: list[Row]) -> Table:
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


def _signals_of(rows: list[Row]) -> str:
    """Return what a category's figures rest on: labels by kind, and what was read off calls."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update(row.signals)
    return f" ({', '.join(f'{name} {n}' for name, n in counts.items())})" if counts else ""


def _cells(row: Row) -> list[str]:
    """Return a row's figures, in the order of `COLUMNS`."""
    between = "–"
    if row.quality_low is not None and row.quality_high is not None:
        between = f"{_short(row.quality_low)}–{_short(row.quality_high)}"
    return [
        f"{row.calls}/{row.labels}",
        "–" if row.quality is None else _short(row.quality, 3),
        between,
        "–" if row.p_best is None else _short(row.p_best),
        "–" if row.ok_rate is None else _short(row.ok_rate),
        "–" if row.usable is None else _short(row.usable),
        _number(row.latency_p50_s, ".2g"),
        _number(row.latency_p95_s, ".2g"),
        _number(row.cost_usd, ".2g", 1e3),
        _number(row.cost_per_success_usd, ".2g", 1e3),
        _number(row.share, ".0%"),
    ]


def _short(share: float, digits: int = 2) -> str:
    """Return a figure in [0, 1] without its leading zero."""
    return f"{share:.{digits}f}".removeprefix("0")


def _number(value: float | None, form: str, scale: float = 1.0) -> str:
    return "–" if value is None else format(value * scale, form).removeprefix("0")
