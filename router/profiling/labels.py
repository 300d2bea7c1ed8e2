"""The verdicts of a run as labels: events that have no second effect when they are sent again."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec

from router.profiling.log import Cell, Logged, LogLine

MOST_A_CELL = 50
"""Labels of a task at an endpoint that a run sends."""
BATCH = 200
DAYS_S = 29 * 86_400.0
"""Feedback on what is older counts no longer."""
SOURCE = "/profile"
TYPE = "pointsman.feedback.v1"


def unsent(logged: Logged, *, at_s: float) -> list[tuple[Cell, LogLine]]:
    """Return the calls whose labels are still to be sent."""
    n: Counter[tuple[str, str]] = Counter()
    out = []
    for cell, entry in logged.ended.items():
        result = entry.result
        if result is None or not result.ok or result.quality is None or not entry.decision:
            continue
        n[result.task, result.endpoint] += 1
        is_due = cell not in logged.labelled and at_s - entry.at < DAYS_S
        if is_due and n[result.task, result.endpoint] <= MOST_A_CELL:
            out.append((cell, entry))
    return out


def event_of(run: str, entry: LogLine, *, at_s: float) -> dict[str, Any]:
    """Return the label of a call as an event; the same call has the same id."""
    result = entry.result
    if result is None or result.quality is None:
        raise ValueError("nothing graded this call")
    verdict: dict[str, Any] = {"passed": result.quality >= 1.0, "kind": "test"}
    if result.graded_by == "judge":
        verdict = {"score": result.quality, "kind": "judge"}
    return {
        "specversion": "1.0",
        "id": f"{run}/{entry.prompt}/{entry.endpoint}",
        "source": SOURCE,
        "type": TYPE,
        "time": datetime.fromtimestamp(at_s, UTC).isoformat(),
        "data": {"decision_id": entry.decision, **verdict},
    }


async def send(
    client: httpx.AsyncClient, run: str, due: list[tuple[Cell, LogLine]], *, at_s: float
) -> tuple[list[Cell], str]:
    """Send labels; return the calls that have theirs now, and why not all do."""
    sent: list[Cell] = []
    for i in range(0, len(due), BATCH):
        batch = due[i : i + BATCH]
        events = [event_of(run, entry, at_s=at_s) for _, entry in batch]
        reply = await client.post(
            "/v1/events",
            content=msgspec.json.encode(events),
            headers={"content-type": "application/cloudevents-batch+json"},
        )
        if not reply.is_success:
            return sent, f"status {reply.status_code}: {reply.text[:300]}"
        sent += [cell for cell, _ in batch]
    return sent, ""
