"""A decision as its page shows it: its explanation in words, and who might have served. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from router.explain.told import limit_lines, lines
from router.report.face import figures


class CandidateRow(NamedTuple):
    """An endpoint that might have served; "" where nothing is known."""

    endpoint: str
    probability: str
    quality: str
    cost: str
    latency: str
    marks: str  # whether it was drawn, and on how much its figures rest


class DecisionView(NamedTuple):
    """What is shown of a decision."""

    said: list[str]  # the sentence, and what follows it
    rows: list[CandidateRow]  # the likeliest first


def decision_view(found: Mapping[str, Any]) -> DecisionView:
    """Return what there is to show of an explanation."""
    said, drawn = list(lines(dict(found))), found["drawn"]
    drawing = found if found["draw"] else found["draw_of"]
    draw = drawing["draw"] if drawing is not None else None
    if draw:
        said += limit_lines(draw)
    candidates = draw["candidates"] if draw else found["known"] or ()
    excluded = (found["exclusions"] or {}).items()
    said += [f"excluded: {endpoint} ({reason})" for endpoint, reason in excluded]
    ranked = sorted(candidates, key=lambda row: -(row.get("propensity") or 0))
    return DecisionView(said, [_row(row, drawn) for row in ranked])


def _row(row: Mapping[str, Any], drawn: str) -> CandidateRow:
    propensity, quality = row.get("propensity"), row.get("quality")
    cost, latency, sd = row.get("cost_usd"), row.get("latency_s"), row.get("quality_sd")
    spread = "" if sd is None else f" ± {sd:.3f}"
    return CandidateRow(
        row["endpoint"],
        "" if propensity is None else f"{propensity:.4f}",
        "" if quality is None else f"{quality:.3f}{spread}",
        "" if cost is None else figures.money(cost),
        "" if latency is None else figures.seconds(latency),
        ", ".join([*(["drawn"] if row["endpoint"] == drawn else []), *_counts(row)]),
    )


def _counts(row: Mapping[str, Any]) -> list[str]:
    counts = (("label", row.get("labels")), ("call", row.get("calls")))
    return [figures.count(int(n), name) for name, n in counts if n is not None]
