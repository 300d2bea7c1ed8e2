"""Calls by role: what each part that calls play costs, how it is answered, and how it is judged.

Also of roles that are only booked: where nothing is routed, or calls are passed on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from bandit.cells import Terms
from bandit.families import N_COLUMNS
from bandit.parts import figures_of, key_of, read_roles
from router.config.compiled import Configuration
from telemetry.tokens import role_mark

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("n", "quality", "ok", "p50 s", "p95 s", "$/1k", "$")
"""`n` is calls/labels; `$/1k` is of calls whose cost is known, and `$` all of it."""


def role_key(name: str) -> int:
    """Return what a role's figures are kept under, by which its name is known in the store."""
    return int(key_of(np.array([role_mark(name)], dtype=np.uint64))[0])


def role_rows(
    rows: Terms, configuration: Configuration, names: Mapping[int, str]
) -> list[dict[str, Any]]:
    """Return what is known of each role that calls came in, with the same by endpoint.

    Roles come as they are listed, then those that are gone; endpoints by their calls.

    Args:
        rows: of ROLES, among others.
        names: what digests stand for that the configuration does not name.
    """
    by_key: dict[int, list[str]] = {}
    for name in configuration.roles:
        by_key.setdefault(role_key(name), []).append(name)
    by_digest = {digest: one.id for digest, one in configuration.catalog.by_digest.items()}
    found, out = read_roles(rows), []
    for key in [*by_key, *(key for key in found if key not in by_key)]:
        cells = found.get(key)
        if not cells:
            continue
        known = " or ".join(by_key.get(key, ())) or names.get(key, f"{key:016x}")
        each = [
            {"endpoint": _named(digest, by_digest, names), **asdict(figures_of(sums))}
            for digest, sums in cells.items()
        ]
        each.sort(key=lambda row: (-row["calls"], row["endpoint"]))
        whole = figures_of(sum(cells.values(), np.zeros(N_COLUMNS)))
        out.append({"role": known, **asdict(whole), "endpoints": each})
    return out


def role_table(rows: list[dict[str, Any]]) -> Table | None:
    """Return the rows as a table for the terminal; None where no call came in a role."""
    from rich.table import Table  # only here: a router hands out the rows, and prints none

    if not rows:
        return None
    table = Table(
        title="by role",
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for name in ("role", "endpoint"):
        table.add_column(name, overflow="fold", min_width=10)
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for role in rows:
        several = len(role["endpoints"]) > 1
        if several:
            table.add_row(role["role"], "all", *_cells(role))
        for row in role["endpoints"]:
            table.add_row("" if several else role["role"], row["endpoint"], *_cells(row))
    return table


def _named(digest: int, by_digest: Mapping[int, str], names: Mapping[int, str]) -> str:
    return by_digest.get(digest) or names.get(digest, f"{digest:016x}")


def _cells(row: Mapping[str, Any]) -> list[str]:
    per_call = row["usd_per_call"]
    return [
        f"{row['calls']}/{row['labels']}",
        _shown(row["quality"], ".2f"),
        _shown(row["ok_rate"], ".1%"),
        _shown(row["latency_p50_s"], ".2f"),
        _shown(row["latency_p95_s"], ".2f"),
        _shown(None if per_call is None else 1000 * per_call, ".3g"),
        _shown(row["cost_usd"], ".4g"),
    ]


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
