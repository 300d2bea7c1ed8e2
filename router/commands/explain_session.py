"""`pointsman explain --session`: the decisions of a session as a table, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from router.explain.told import time_of
from router.report.screen import console

PLACES = {"files": "in this sidecar's files", "store": "in the store"}


def show_session(found: dict[str, Any], to: Console | None = None) -> None:
    """Print the decisions of a session, how often each way is, and what is missing."""
    to = to or console()
    ways = ", ".join(f"{n} {way}" for way, n in found["counts"].items() if n)
    head = f"session {found['session']}: {found['n']} decisions: {ways}"
    to.print(head, markup=False, highlight=False)
    to.print(_table(found["decisions"]))
    for row in found["decisions"]:
        if row["why"]:
            to.print(f"{row['id']}: {row['why']}", markup=False, highlight=False)
    for line in _missing(found):
        to.print(line, markup=False, highlight=False)


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table()
    apps = {row["app"] for row in rows}
    names = ["time", "id", *(["app"] if len(apps) > 1 else []), "role", "task", "drawn"]
    for heading in (*names, "answered by", "probability", "way"):
        table.add_column(heading, justify="right" if heading == "probability" else "left")
    for row in rows:
        app = [row["app"]] if len(apps) > 1 else []
        other = row["answered_by"] if row["answered_by"] != row["drawn"] else ""
        table.add_row(
            time_of(row["decided_at_ms"]).removesuffix(" UTC"),
            row["id"],
            *app,
            row["role"] or "–",
            row["task"],
            row["drawn"],
            other,
            format(row["propensity"], ".4f"),
            row["way"],
        )
    return table


def _missing(found: dict[str, Any]) -> Iterator[str]:
    """Yield since when decisions are kept, and what is not among those that are shown."""
    missing = found["missing"]
    for at, ms in found["since_ms"].items():
        yield f"kept {PLACES[at]} since {time_of(ms)}" if ms else f"none is kept {PLACES[at]}"
    if n := missing["not_listed"]:
        yield f"{n} earlier ones are counted and not listed"
    if n := missing["draws"]:
        yield f"{n} draws that are followed here are not kept any more"
    if n := missing["damaged"]:
        yield f"{n} decisions cannot be read"
    if places := missing["unread"]:
        yield f"not everything was read {' and '.join(PLACES[at] for at in places)}"
