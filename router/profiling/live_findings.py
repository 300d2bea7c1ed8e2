"""What answers of a live check show of an endpoint."""

from __future__ import annotations

import json

from msgspec import Struct

from router.profiling.live_calls import LiveAnswer


class LiveFinding(Struct, frozen=True):
    """Whether an endpoint does something."""

    is_there: bool | None  # None: it could not be told
    detail: str = ""


def of_stream(answer: LiveAnswer) -> LiveFinding:
    """Return whether a stream ended with usage that counts something."""
    if answer.odd_usage:
        return LiveFinding(False, "its streams end with usage that is no count")
    if answer.usage is None:
        return LiveFinding(False, "its streams end without usage")
    return LiveFinding(True)


def of_json(text: str, why: str) -> LiveFinding:
    """Return whether a text is the object that was asked for; `why` says what it is else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # the latter of what is nested without end
        return LiveFinding(False, why)
    fits = isinstance(value, dict) and set(value) == {"ok"} and isinstance(value["ok"], bool)
    return LiveFinding(True) if fits else LiveFinding(False, why)


def of_cut(answer: LiveAnswer) -> LiveFinding | None:
    """Return that nothing can be told of an answer that ended before it began."""
    return (
        LiveFinding(None, "the answer was cut before it could be told") if answer.was_cut else None
    )
