"""Releases, alarms and other changes as one shape: what a receiver gets of each, in words.

What is told of a release is what its evidence carries: `better` only where it was released because
it is, with the probability and the labels behind that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from bandit.report import ChangeKind
from router.beliefs.alarms import SPLIT
from router.beliefs.release_log import reason_of, undo_of
from telemetry import keys
from telemetry.changes import parse_change
from telemetry.damaged import DAMAGED

Told = Mapping[str, Any]

BETTER = frozenset({"better", "certain"})
"""Reasons of releases that say that one is better than the other."""
FALLS = {"down": "fell", "up": "rose", "restored": "is as it was before"}
MOST_TEXT = 500
"""Characters of a text; names are as long as somebody wrote them."""


class Notice(Struct, frozen=True):
    """What is sent of one event."""

    id: str  # the same however often it is sent
    kind: str
    at: str  # RFC 3339, in UTC
    subject: str
    app: str
    text: str
    reason: str = ""
    undo: str = ""


def notice_of(stream: str, entry_id: str, fields: Mapping[bytes, bytes]) -> Notice | None:
    """Return the notice of an entry of a stream; None where it is none, or cannot be read.

    Args:
        stream: name of the stream in the store.
        entry_id: of the entry; its first part is the store's time, in ms.
    """
    at_ms = int(entry_id.partition("-")[0])
    if stream == keys.CHANGES:
        return _of_change(entry_id, fields.get(b"change", b""))
    reads = _READS if stream == keys.RELEASES else {b"alarm": _of_alarm}
    for field, read in reads.items():
        if field in fields:
            try:
                told = json.loads(fields[field])
                found = read(told)
            except DAMAGED:
                return None
            if found is None:
                return None
            kind, subject, text, reason, undo = (part[:MOST_TEXT] for part in found)
            app = str(told.get("app") or "")
            id_ = f"{field.decode()}-{entry_id}"
            return Notice(id_, kind, _at(at_ms), subject, app, text, reason, undo)
    return None


def _of_change(entry_id: str, data: bytes) -> Notice | None:
    told = parse_change(data)
    if told is None:
        return None
    return Notice(
        f"change-{entry_id}",
        told.kind,
        _at(told.at_ms),
        told.subject[:MOST_TEXT],
        told.app,
        told.text[:MOST_TEXT],
        told.reason[:MOST_TEXT],
        told.undo,
    )


_Parts = tuple[str, str, str, str, str]
"""Kind, subject, text, reason, undo."""


def _of_release(told: Told) -> _Parts:
    text = f"{_told_task(told)} goes to {told['after']} instead of {told['before']}"
    if told["reason"] in BETTER and told.get("p_better") is not None and _labels(told):
        text = (
            f"{told['after']} is better than {told['before']} in {_told_task(told)}, and serves it"
        )
    return ChangeKind.RELEASE.value, str(told["task"]), text, _evidence(told), undo_of(told)


def _of_note(told: Told) -> _Parts | None:
    subject = str(told["task"])
    match told["kind"]:
        case "proposed":
            text = (
                f"{told['after']} instead of {told['before']} in {_told_task(told)} waits for a yes"
            )
            undo = f"pointsman release accept {told['id']}"
            return ChangeKind.PROPOSAL.value, subject, text, _evidence(told), undo
        case "lapsed":
            text = f"{told['after']} in {_told_task(told)} is proposed no more"
            return ChangeKind.PROPOSAL.value, subject, text, str(told.get("why") or ""), ""
        case "yielded":
            text = (
                f"the allowance for exploring is spent: {told['after']} serves {_told_task(told)}"
            )
            return ChangeKind.BUDGET.value, subject, text, str(told.get("why") or ""), ""
    return None


def _of_alarm(told: Told) -> _Parts | None:
    kind = str(told["kind"])
    subject = str(told.get("endpoint") or told.get("task") or "")
    if kind == "price":
        return ChangeKind.PRICE.value, subject, str(told["text"]), "", ""
    if kind == SPLIT:
        text = f"is not what {', '.join(told['others'])} are: it has a group of its own"
        return ChangeKind.DRIFT.value, subject, text, str(told["reason"]), ""
    if kind == "prompt":
        return (
            ChangeKind.DRIFT.value,
            subject,
            "has a new prompt: earlier labels count less",
            "",
            "",
        )
    if kind not in FALLS:
        return None
    text = f"quality {FALLS[kind]}: {float(told['factor']):.2f} of what was expected"
    since = _at(int(told["since_ms"]))
    reason = f"by {float(told['labels']):.0f} labels since {since}"
    return ChangeKind.DRIFT.value, subject, text, reason, ""


_READS: dict[bytes, Callable[[Told], _Parts | None]] = {b"release": _of_release, b"note": _of_note}


def _told_task(told: Told) -> str:
    role = f", role {told['role']}" if told.get("role") else ""
    return f"task {told['task']}{role}"


def _evidence(told: Told) -> str:
    parts = [reason_of(told)]
    if told.get("p_better") is not None:
        parts.append(f"probability {float(told['p_better']):.3f}")
    if n := _labels(told):
        parts.append(f"{n:,} labels")
    elif told.get("reason") in BETTER:
        parts.append("by labels of other tasks")
    return ", ".join(parts)


def _labels(told: Told) -> int:
    """Return how many labels of the two there are in the task itself."""
    return sum(int(count) for count in (told.get("labels") or {}).values())


def _at(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
