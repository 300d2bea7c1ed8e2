"""Which tasks have a new prompt, and what that did to what was known of them."""

from __future__ import annotations

from typing import Any

from telemetry.dates import utc_minute


def prompt_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return a line for each task whose prompt changed: when, by whom, and what labels count for.

    Args:
        rows: of `prompt_rows`.
    """
    return [
        f"{row['task']} has a new prompt since "
        f"{utc_minute(row['at_ms'])}: "
        f"{row['prompt']} instead of {row['before']}, named by {row['app']}; "
        f"labels of before count for {_counts(row['observations'])}"
        for row in rows
    ]


def _counts(observations: dict[str, tuple[float, float]]) -> str:
    counts = [f"{name} {after:.0f} of {n:.0f}" for name, (n, after) in observations.items()]
    return ", ".join(counts) or "nothing, as there were none"
