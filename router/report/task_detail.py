"""A task, opened: its endpoints, the best first, with what is believed of each and who served."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date

import numpy as np

from bandit.matrix import ReportRow
from bandit.posterior import Posterior
from bandit.report import Interval, TaskLine
from bandit.task_detail import (
    MOST_CURVES,
    Curve,
    EndpointLine,
    TaskDetail,
    latency_curve,
    quality_curve,
)
from router.beliefs.beliefs import Beliefs
from router.report.leaves import leaf_lines, leaf_rows
from router.report.matrix_table import matrix_lines
from router.report.page_wish import PageWish
from router.report.period import deciding_task
from router.report.sentences import checked_line
from router.report.views import report_rows
from telemetry.digests import digest8
from telemetry.ledger_questions import Dimension, LedgerQuestion
from telemetry.ledger_reading import TooManyGroups, read_ledger
from telemetry.ledger_rows import DAY_MS
from telemetry.ledger_rows import LedgerColumn as C
from telemetry.store import Client

MOST_DAYS = 62
UNIX_DAY = date(1970, 1, 1).toordinal()

Attempts = dict[str, dict[int, int]]
"""By endpoint and day since the epoch."""


def task_detail(
    client: Client, beliefs: Beliefs, line: TaskLine, wish: PageWish, known: Mapping[int, str]
) -> TaskDetail:
    """Return what opens below a row of the page.

    Args:
        known: what digests stand for.

    Raises:
        redis.RedisError: the store is away.
    """
    app = beliefs.configuration.apps.get(line.app)
    row = beliefs.configuration.task_index.get(line.task)
    if app is None or row is None or line.strategy not in beliefs.configuration.strategies:
        return TaskDetail(line, (), signals=line.signals)
    own = beliefs.outlooks[app.outlook].app
    every = report_rows(beliefs, line.strategy, only={row})
    served = _served(client, beliefs, line, wish, known)
    days = sorted({day for by_day in served.values() for day in by_day})
    days = list(range(max(days[0], days[-1] - MOST_DAYS + 1), days[-1] + 1)) if days else []
    ranked = sorted((one for one in every if one.app == own), key=_best_first)
    posterior = beliefs.outlooks[app.outlook].posterior
    return TaskDetail(
        line,
        tuple(
            _endpoint(beliefs, posterior, line, one, served, days, with_curves=n < MOST_CURVES)
            for n, one in enumerate(ranked)
        ),
        first_day_ms=days[0] * DAY_MS if days else 0,
        signals=line.signals,
        notes=tuple(_notes(beliefs, line, ranked)),
    )


def _best_first(row: ReportRow) -> tuple[bool, float, float, int]:
    """Order rows by P(best), among equals by quality; of whom nothing is known come last."""
    quality = row.quality if row.quality is not None else -1.0
    return row.quality is None, -(row.p_best or 0.0), -quality, -row.calls


def _notes(beliefs: Beliefs, line: TaskLine, rows: Sequence[ReportRow]) -> list[str]:
    leaves = [
        row
        for row in leaf_rows(beliefs)
        if deciding_task(beliefs, line.app, row["task"]) == line.task
        and row["app"] in (None, line.app)
    ]
    below = leaf_lines([row for row in leaves if row["task"] != line.task])
    checked = checked_line(line.verdict) if line.verdict is not None else ""
    matrix = matrix_lines(rows, by_app=len(beliefs.configuration.apps) > 1)
    return [*filter(None, (checked,)), *matrix, *below]


def _endpoint(
    beliefs: Beliefs,
    posterior: Posterior,
    line: TaskLine,
    row: ReportRow,
    served: Attempts,
    days: Sequence[int],
    *,
    with_curves: bool,
) -> EndpointLine:
    endpoint = beliefs.configuration.catalog.by_id[row.endpoint]
    at = beliefs.configuration.task_index[line.task], endpoint.index
    quality = None
    if row.quality is not None and row.quality_low is not None and row.quality_high is not None:
        quality = Interval(row.quality, row.quality_low, row.quality_high)
    sd = float(posterior.quality.sd[at[0], endpoint.group])
    drawn = with_curves and quality is not None and sd > 0
    timed = with_curves and row.latency_p50_s is not None
    mine = served.get(row.endpoint, {})
    total = sum(sum(by_day.values()) for by_day in served.values())
    return EndpointLine(
        endpoint=row.endpoint,
        quality=quality,
        p_best=row.p_best,
        cost_per_success_usd=row.cost_per_success_usd,
        latency_p50_s=row.latency_p50_s,
        latency_p95_s=row.latency_p95_s,
        calls=row.calls,
        labels=row.labels_given,
        share=sum(mine.values()) / total if total else None,
        is_inferred=row.is_inferred,
        is_current=row.endpoint == line.current,
        is_incumbent=row.endpoint == line.incumbent,
        quality_curve=quality_curve(row.quality, sd) if drawn and row.quality is not None else None,
        latency_curve=_latency(posterior, *at) if timed else None,
        shares=_shares(served, mine, days),
        note=_note(row),
    )


def _latency(posterior: Posterior, task: int, arm: int) -> Curve:
    latency = posterior.latency
    alpha, kappa = float(latency.alpha[task, arm]), float(latency.kappa[task, arm])
    scale = float(np.sqrt(latency.beta[task, arm] * (1 + 1 / kappa) / alpha))
    return latency_curve(float(latency.mean[task, arm]), scale, 2 * alpha)


def _note(row: ReportRow) -> str:
    if row.damaged:
        return "damaged sums: counts as unknown"
    told = []
    if row.labels < row.labels_given:
        told.append(f"{row.labels:,} of {row.labels_given:,} labels still count")
    if row.profiled:
        told.append(f"{row.profiled:,} labels of a profile")
    if row.usable is not None and row.usable < 1:
        told.append(f"{row.usable:.0%} of answers usable")
    return "; ".join(told)


def _served(
    client: Client, beliefs: Beliefs, line: TaskLine, wish: PageWish, known: Mapping[int, str]
) -> Attempts:
    """Return how many attempts each endpoint served on each day of the period."""
    tasks = [
        digest
        for digest, name in known.items()
        if deciding_task(beliefs, line.app, name) == line.task
    ]
    only = {
        Dimension.APP: frozenset({digest8("app", line.app)}),
        Dimension.TASK: frozenset(tasks),
    }
    by = (Dimension.ENDPOINT, Dimension.DAY)
    since_ms = max(wish.since_ms, wish.until_ms - MOST_DAYS * DAY_MS)
    question = LedgerQuestion(since_ms, wish.until_ms, by, only=only, columns=(C.ATTEMPTS,))
    out: Attempts = defaultdict(dict)
    try:
        rows = read_ledger(client, beliefs.configuration.store.shards, question).rows
    except TooManyGroups:
        return out
    for span, digest, sums in zip(
        rows.spans.tolist(), rows.keys["endpoint"].tolist(), rows.values, strict=True
    ):
        name = known.get(digest, f"{digest:016x}")
        by_day, day = out[name], span - UNIX_DAY
        by_day[day] = by_day.get(day, 0) + int(sums[C.ATTEMPTS])
    return out


def _shares(
    served: Attempts, mine: Mapping[int, int], days: Sequence[int]
) -> tuple[float | None, ...]:
    """Return an endpoint's share of each day's calls; None where there were none."""
    if not mine:
        return ()
    totals = [sum(by_day.get(day, 0) for by_day in served.values()) for day in days]
    return tuple(mine.get(day, 0) / n if n else None for day, n in zip(days, totals, strict=True))
