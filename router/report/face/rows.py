"""What the page's template repeats, as words: it decides nothing itself. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote, urlencode

from bandit.report import Page, RouterLine, SpendLine, TaskLine, VerdictLine
from bandit.task_detail import MOST_CURVES, EndpointLine, TaskDetail
from bandit.verdict import Basis
from router.report.face import charts, figures

MOST_ROUTERS_NAMED = 4
MOST_CHANGES = 8
"""Above the fold; older ones open."""
MOST_BUDGETS = 6


class TaskRow(NamedTuple):
    """A task of the page."""

    line: TaskLine
    of: str  # whose it is, as far as that tells it from others
    rests_on: str  # a sentence: signals, incumbent, why
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
        of = [f"app {line.app}"] if len(apps) > 1 else []
        of += [f"as {line.role}"] if line.role else []
        rows.append(
            TaskRow(
                line,
                ", ".join(of),
                rests_on(line),
                task_link(line) if is_live else "",
                matrix(detail, folds=False) if detail is not None and detail.endpoints else None,
            )
        )
    return rows


def rests_on(line: TaskLine) -> str:
    """Return what a task's figures rest on, beside whom they compare with, and why its word."""
    said = []
    if line.incumbent and line.incumbent != line.current:
        said.append(f"against {figures.shown(line.incumbent)}")
    elif line.incumbent:
        said.append("your incumbent")
    if line.signals:
        said.append(f"by {figures.signals(line.signals)}")
    if line.why:
        said.append(line.why)
    return "; ".join(said)


def task_link(line: TaskLine) -> str:
    """Return where a task opens on the live page."""
    told = {"app": line.app, "role": line.role, "strategy": line.strategy}
    query = urlencode({name: value for name, value in told.items() if value})
    return f"/task/{quote(line.task, safe='')}{f'?{query}' if query else ''}"


def matrix(detail: TaskDetail, *, folds: bool = True) -> MatrixRows:
    """Return a task's endpoints; charts of the first few alone.

    Args:
        folds: keep those without charts, too.
    """
    quality, latency = charts.quality_axis(detail), charts.latency_axis(detail)
    shown = detail.endpoints if folds else detail.endpoints[:MOST_CURVES]
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
    return ", ".join([*said, *([line.note] if line.note else [])])


def basis(line: VerdictLine) -> str:
    """Return what a verdict rests on."""
    said, verdict = [], line.verdict
    if verdict.basis is not Basis.NOTHING:
        kept, routed = (f"{n:,}" for n in verdict.units)
        said.append(f"{verdict.basis.value}: {kept} sessions with the incumbent, {routed} without")
    if line.signals:
        said.append(f"by {figures.signals(line.signals)}")
    if verdict.ended_ms:
        said.append(f"ended {figures.moment(verdict.ended_ms, verdict.at_ms)}")
    return "; ".join(said)


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
    said += f" a {line.per}" if line.per else ""
    return f"{said}, {figures.share(line.spent / line.limit)}" if line.limit > 0 else said
