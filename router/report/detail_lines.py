"""A task that was opened, as lines of a terminal: its endpoints, the best first. Pure."""

from __future__ import annotations

from bandit.task_detail import EndpointLine, TaskDetail
from router.report.page_lines import UNKNOWN, money
from router.report.sampled import sampled_clause
from router.report.sentences import signals_line
from router.report.terminal_text import WIDTH, columns, widest, wrapped

HEADING = ("endpoint", "calls/labels", "quality", "90 %", "P(best)", "$/1k", "p50/p95 s", "share")
LEGEND = (
    "best first; labels ever given; (P): inferred, it has no calls or labels of its own; "
    "$/1k: cost of 1,000 successes; * choice, ° incumbent"
)


def detail_lines(detail: TaskDetail, *, width: int = WIDTH) -> list[str]:
    """Return a task's word and why, its matrix, and what else there is to say of it."""
    line = detail.line
    of = ", ".join(filter(None, (line.app, line.role, line.strategy)))
    why = f": {line.why}" if line.why else ""
    lines = wrapped(f"{line.task} ({of}): {line.word.value}{why}", width=width, indent="  ")
    for said in filter(None, (signals_line(detail.signals), sampled_clause(line.sampled))):
        lines += wrapped(said, width=width, first="  ", indent="  ")
    if detail.endpoints:
        lines += _matrix(detail, width)
        lines += wrapped(LEGEND, width=width)
    for endpoint in detail.endpoints:
        if endpoint.note:
            lines += wrapped(f"{endpoint.endpoint}: {endpoint.note}", width=width, indent="  ")
    for note in detail.notes:
        lines += wrapped(note, width=width, indent="  ")
    return lines


def _matrix(detail: TaskDetail, width: int) -> list[str]:
    rows = [HEADING, *map(_cells, detail.endpoints)]
    fixed = [widest(row[i] for row in rows) for i in range(1, len(HEADING))]
    room = width - sum(fixed) - len(fixed)
    name = max(min(widest(row[0] for row in rows), room), 8)
    return columns(rows, (name, *fixed), "l" + "r" * len(fixed))


def _cells(one: EndpointLine) -> tuple[str, ...]:
    mark = "*" if one.is_current else "°" if one.is_incumbent else ""
    quality = one.quality
    best = UNKNOWN if one.p_best is None else _share(one.p_best)
    cost = one.cost_per_success_usd
    return (
        f"{one.endpoint}{mark}",
        "inferred" if one.is_inferred else f"{_short(one.calls)}/{_short(one.labels)}",
        UNKNOWN if quality is None else _share(quality.mean, 3),
        UNKNOWN if quality is None else f"{_share(quality.low)}–{_share(quality.high)}",
        f"({best})" if one.is_inferred and one.p_best is not None else best,
        UNKNOWN if cost is None else money(1000 * cost),
        _seconds(one),
        UNKNOWN if one.share is None else f"{one.share:.0%}",
    )


def _seconds(one: EndpointLine) -> str:
    if one.latency_p50_s is None or one.latency_p95_s is None:
        return UNKNOWN
    return f"{one.latency_p50_s:.2g}/{one.latency_p95_s:.2g}"


def _share(value: float, digits: int = 2) -> str:
    """Return a figure in [0, 1] without its leading zero."""
    text = f"{value:.{digits}f}"
    return text[1:] if text.startswith("0") else text


def _short(n: int) -> str:
    """Return a count in at most five characters."""
    if n < 10_000:
        return str(n)
    return f"{n / 1000:.0f}k" if n < 10**6 else f"{n / 10**6:.3g}M"
