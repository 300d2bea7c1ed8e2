"""How many of the labels behind a table are a profile's."""

from __future__ import annotations

from collections.abc import Sequence

from bandit.report import ReportRow


def profiled_line(rows: Sequence[ReportRow]) -> str:
    """Return the line that says which labels and calls of a table are a profile's; or nothing."""
    parts = [
        f"{row.endpoint}: of {row.labels} labels, {row.profiled} by profile"
        for row in rows
        if row.profiled
    ]
    calls = sum(row.profile_calls for row in rows)
    if calls:
        parts.append(f"{calls} calls by profile, not in `share`")
    return "; ".join(parts)
