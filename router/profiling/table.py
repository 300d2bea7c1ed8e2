"""The table of a profile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from router.profiling.results import ProfileResult


@dataclass(frozen=True, slots=True)
class ProfileTable:
    """Per task and endpoint the means; a stand-in."""

    rows: list[dict[str, Any]]
    sentence: str

    def as_json(self) -> dict[str, Any]:
        """Return it as one JSON object."""
        return {"rows": self.rows, "sentence": self.sentence}


def table_of(
    results: Sequence[ProfileResult], *, strategy: str, objective: object, incumbent: str | None
) -> ProfileTable:
    """Return the table of results."""
    cells: defaultdict[tuple[str, str], list[ProfileResult]] = defaultdict(list)
    for result in results:
        cells[result.task, result.endpoint].append(result)
    rows = []
    for (task, endpoint), own in sorted(cells.items()):
        graded = [r.quality for r in own if r.quality is not None]
        quality = sum(graded) / len(graded) if graded else None
        usd = sum(r.cost_usd for r in own)
        rows.append(
            {"task": task, "endpoint": endpoint, "n": len(own), "quality": quality, "usd": usd}
        )
    return ProfileTable(rows, "")


def lines_of(table: ProfileTable) -> list[str]:
    """Return it as lines."""
    return [
        f"{row['task']} {row['endpoint']} n={row['n']} quality={row['quality']} {row['usd']:.5f}"
        for row in table.rows
    ]
