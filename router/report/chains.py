"""What calls come to with all that comes after them, where anything does."""

from __future__ import annotations

from collections.abc import Sequence

from bandit.matrix import ReportRow

SHOWN = 0.005
"""Calls after a call; fewer are 1.00 on the terminal."""


def chain_line(rows: Sequence[ReportRow]) -> str:
    """Return the line on chains of attempts and repeats below a table; or nothing."""
    if all(row.calls_after < SHOWN for row in rows):
        return ""
    told = [_told(row) for row in rows if row.chain_cost_usd is not None]
    return f"a call with its retries and repeats: {'; '.join(told)}" if told else ""


def _told(row: ReportRow) -> str:
    """Return what is told of one endpoint's chains."""
    text = f"{row.endpoint} {1 + row.calls_after:.2f} calls"
    text += _figures(row.chain_cost_usd, row.chain_time_s)
    if row.quality:
        text += f" (a success{_figures(row.cost_per_success_usd, row.time_per_success_s)})"
    return text


def _figures(usd: float | None, seconds: float | None) -> str:
    parts = [] if usd is None else [f"${1000 * usd:.2g}/1k"]
    parts += [] if seconds is None else [f"{seconds:.2g} s"]
    return "".join(f", {part}" for part in parts)
