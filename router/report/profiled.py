"""How many of the labels behind a table are a profile's, and whether anything else is."""

from __future__ import annotations

from collections.abc import Sequence

from bandit.matrix import ReportRow


def profiled_line(rows: Sequence[ReportRow]) -> str:
    """Return the line that says which labels of a table are a profile's; or nothing."""
    if any(row.profiled for row in rows) and not any(row.is_of_traffic for row in rows):
        return "all labels by profile; no call of traffic"
    parts = [
        f"{row.endpoint}: of {row.labels} labels, {row.profiled} by profile"
        for row in rows
        if row.profiled
    ]
    return "; ".join(parts)
