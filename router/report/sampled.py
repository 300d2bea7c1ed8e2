"""Off which of an app's conversations labels are read, where `signals.sample` leaves some out.

Few labels are then no sign of anything else. What is set comes from the configuration, what came of
it from the rows that are folded: both are there after a restart, as labels are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from bandit.report import SampledSignals
from router.beliefs.beliefs import Beliefs
from router.config.compiled import App
from router.config.entries import SampleRateEntry

AS_GOOD_AS_ALL = 0.95
"""Of a task's calls: where a rate leaves out less nothing is said. Calls that fail are not read."""


def sampled_signals(beliefs: Beliefs, app: App, task: str) -> SampledSignals | None:
    """Return off which part of an app's task labels are read; None where none is left out."""
    sample, row = app.entry.signals_sample, beliefs.configuration.task_index.get(task)
    if sample is None or sample == 1.0:
        return None
    read = None if row is None else float(beliefs.outlooks[0].share_read[row])
    read = None if read is None or np.isnan(read) else read
    if not isinstance(sample, SampleRateEntry):
        return SampledSignals(sample, None, read)
    if read is None or read >= AS_GOOD_AS_ALL:
        return None
    return SampledSignals(None, sample.above_calls_per_s, read)


def sampled_rows(beliefs: Beliefs) -> list[dict[str, Any]]:
    """Return a row for each app that leaves some out, and task that was called."""
    tasks = list(beliefs.configuration.task_index)
    called = [task for task, n in zip(tasks, beliefs.traffic.sum(axis=1), strict=True) if n > 0]
    found = (
        (app.name, task, sampled_signals(beliefs, app, task))
        for app in beliefs.configuration.apps.values()
        for task in called
    )
    return [
        {"app": app, "task": task, **asdict(sampled)}
        for app, task, sampled in found
        if sampled is not None
    ]


def sampled_clause(sampled: SampledSignals | None) -> str:
    """Return it as a clause; empty where none is left out."""
    if sampled is None:
        return ""
    said = f"labels are read off {_what(sampled)}"
    if sampled.calls_read is None:
        return said
    return f"{said}, of late off {_percent(sampled.calls_read)} of this task's calls"


def sampled_lines(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for each row."""
    for row in rows:
        sampled = SampledSignals(row["share"], row["above_calls_per_s"], row["calls_read"])
        yield f"{row['app']}, {row['task']}: {sampled_clause(sampled)}"


def _what(sampled: SampledSignals) -> str:
    if sampled.share is not None:
        return f"{_percent(sampled.share)} of the app's conversations"
    return f"at most {sampled.above_calls_per_s:g} calls a second of the app in each router"


def _percent(part: float) -> str:
    """Return a share with as many digits as tell it from none and from all."""
    percent = 100 * part
    digits = 0 if 1 <= percent <= 99 else 1
    return "< 0.1 %" if 0 < percent < 0.1 else f"{percent:.{digits}f}".removesuffix(".0") + " %"
