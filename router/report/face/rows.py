"""What the page's template repeats, as words: it decides nothing itself. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote, urlencode

from bandit.report import Page, RouterLine, SpendLine, TaskLine, VerdictLine
from bandit.task_detail import MOST_CURVES, EndpointLine, TaskDetail
from router.report.face import charts, figures
from router.report.sampled import sampled_clause

MOST_ROUTERS_NAMED = 4
MOST_CHANGES = 8
"""Above the fold; older ones open."""
MOST_IN_FILE = 6
"""Endpoints of a task in a file, which has all tasks."""
LEAST_SHARE = 0.005


class TaskRow(NamedTuple):
    """A task of the page."""

    line: TaskLine
    rests_on: str  # whose it is, beside whom it is held, signals, why
    link: str
    detail: MatrixRows | None


class MatrixRow(NamedTuple):
    """An endpoint of a task."""

    line: EndpointLine
    marks: str
    quality: str  # SVG, as the others
    latency: str
    shares: str


class MatrixRows(NamedTuple):
    """The endpoints of a task, and what their charts have in common."""

    rows: list[MatrixRow]
    more: int  # that are not shown
    quality: charts.Axis | None
    latency: charts.Axis | None
    n_days: int
    detail: TaskDetail


class RouterRow(NamedTuple):
    """Routers that run the same."""

    text: str
    names: str


def task_key(line: TaskLine) -> tuple[str, str, str, str]:
    """Return what tells a task from others of a page."""
    return line.task, line.app, line.strategy, line.role


def task_rows(page: Page, details: Sequence[TaskDetail], *, is_live: bool) -> list[TaskRow]:
    """Return a page's tasks; in a file each with its endpoints, as far as they are given."""
    opened = {task_key(detail.line): detail for detail in details}
    apps = {line.app for line in page.tasks}
    rows = []
    for line in page.tasks:
        detail = None if is_live else opened.get(task_key(line))
        rows.append(
            TaskRow(
                line,
                rests_on(line, has_app=len(apps) > 1),
                task_link(line) if is_live else "",
                matrix(detail, most=MOST_IN_FILE)
                if detail is not None and detail.endpoints
                else None,
            )
        )
    return rows


def rests_on(line: TaskLine, *, has_app: bool) -> str:
    """Return whose a task is, beside whom it is held, by what, and why its word."""
    said = [f"app {line.app}"] if has_app else []
    if line.role:
        said.append(f"role {line.role}")
    if line.incumbent and line.incumbent != line.current:
        usd = line.incumbent_cost_per_success_usd
        at = "" if usd is None else f" at {figures.money(usd)}"
        said.append(f"against {figures.shown(line.incumbent)}{at}")
    elif line.incumbent:
        said.append("your incumbent")
    return "; ".join([*said, *_by(line)])


def task_words(line: TaskLine) -> str:
    """Return a task in a sentence, for where it stands alone."""
    whose = ", ".join([f"app {line.app}", *([f"role {line.role}"] if line.role else [])])
    said = [f"{whose}: {line.word.value}"]
    if line.quality is not None:
        beside = line.incumbent and line.incumbent != line.current
        against = f" against {figures.shown(line.incumbent)}" if beside else ""
        said.append(f"quality {figures.points(line.quality)}{against}")
    if line.cost_per_success_usd is not None:
        said.append(f"{figures.money(line.cost_per_success_usd)} per success")
    return "; ".join(said)


def _by(line: TaskLine) -> list[str]:
    said = f"by {figures.signals(line.signals)}" if line.signals else ""
    return [*filter(None, (said, sampled_clause(line.sampled), line.why))]


def task_basis(line: TaskLine) -> str:
    """Return what a task's figures rest on, and why its word."""
    return "; ".join(_by(line))


def task_link(line: TaskLine) -> str:
    """Return where a task opens on the live page."""
    told = {"app": line.app, "role": line.role, "strategy": line.strategy}
    query = urlencode({name: value for name, value in told.items() if value})
    return f"/task/{quote(line.task, safe='')}{f'?{query}' if query else ''}"


def matrix(detail: TaskDetail, *, most: int | None = None) -> MatrixRows:
    """Return a task's endpoints; charts of the first few alone.

    Args:
        most: endpoints that are shown; None: all.
    """
    quality, latency = charts.quality_axis(detail), charts.latency_axis(detail)
    shown = detail.endpoints[:most]
    rows = [
        MatrixRow(
            line,
            _marks(line),
            charts.density(line.quality_curve, quality, line.quality.mean if line.quality else None)
            if i < MOST_CURVES
            else "",
            charts.density(line.latency_curve, latency, line.latency_p50_s)
            if i < MOST_CURVES
            else "",
            charts.shares(line.shares) if i < MOST_CURVES else "",
        )
        for i, line in enumerate(shown)
    ]
    n_days = max((len(line.shares) for line in detail.endpoints), default=0)
    return MatrixRows(rows, len(detail.endpoints) - len(rows), quality, latency, n_days, detail)


def _marks(line: EndpointLine) -> str:
    """Return what there is to say of an endpoint beside its figures."""
    said = ["now"] if line.is_current else []
    said += ["your incumbent"] if line.is_incumbent else []
    if line.is_inferred:
        said.append("inferred: no label of its own" if line.quality else "nothing known yet")
    else:
        said.append(figures.count(line.labels, "label"))
    said += [figures.count(line.calls, "call")] if line.calls else ["no calls"]
    if line.p_best is not None and line.p_best >= LEAST_SHARE and not line.is_inferred:
        said.append(f"best: {figures.share(line.p_best)}")
    return ", ".join([*said, *([line.note] if line.note else [])])


def basis(line: VerdictLine) -> str:
    """Return by which labels a verdict is; of which units, and since when, its sentence says."""
    return f"By {figures.signals(line.signals)}" if line.signals else ""


def names_app(page: Page) -> bool:
    """Return whether a change says whose it is: there are several apps."""
    apps = {line.app for line in page.tasks} | {change.app for change in page.changes}
    return len(apps - {""}) > 1


def router_rows(routers: Sequence[RouterLine]) -> list[RouterRow]:
    """Return routers by what they run; more than one row says that they differ."""
    alike: dict[tuple[str, str], list[RouterLine]] = {}
    for one in routers:
        alike.setdefault((one.version, one.configuration), []).append(one)
    rows = []
    for (version, configuration), found in alike.items():
        names = [
            f"{figures.shown(r.name)}{' (this one)' if r.is_this and len(routers) > 1 else ''}"
            for r in sorted(found, key=lambda r: not r.is_this)
        ]
        more = len(names) - MOST_ROUTERS_NAMED
        if more > 0:
            names = [*names[:MOST_ROUTERS_NAMED], f"{more:,} more"]
        n = figures.count(len(found), "router")
        text = f"{n}, version {version}, configuration {configuration}"
        rows.append(RouterRow(text, figures.joined(names)))
    return rows


def budget_words(line: SpendLine) -> str:
    """Return how a budget stands."""
    said = f"{figures.amount(line.spent, line.unit)} of {figures.amount(line.limit, line.unit)}"
    each = "an" if line.per[:1] in "aeiouh" else "a"
    said += f" {each} {line.per}" if line.per else ""
    return f"{said}, {figures.share(line.spent / line.limit)}" if line.limit > 0 else said
