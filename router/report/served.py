"""Under which names of models endpoints answer, as rows and as lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from router.beliefs.served import Imprint, Served, ServedModels, is_other_model
from router.endpoints.catalog import Catalog, Endpoint
from telemetry.dates import utc_minute

LATELY_MS = 7 * 86_400_000
"""What changed is told for a week, and which other model answered in it."""


def served_rows(catalog: Catalog, served: ServedModels) -> list[dict[str, Any]]:
    """Return a row for each endpoint whose answers said who made them."""
    found = ((endpoint, served_row(endpoint, served)) for endpoint in catalog.endpoints)
    return [{"endpoint": e.id, **row} for e, row in found if row is not None]


def served_row(endpoint: Endpoint, served: ServedModels) -> dict[str, Any] | None:
    """Return what an endpoint's answers said of who made them, the first seen first; else None.

    Times in epoch milliseconds. What has changed is told by the begin of the newest.
    """
    models, prints = served.of(endpoint, Imprint.MODEL), served.of(endpoint, Imprint.FINGERPRINT)
    if not models and not prints:
        return None
    return {
        "asked": endpoint.upstream_model,
        "is_checked": endpoint.served_as is not None,
        "models": [
            {"name": name, "is_other": is_other_model(endpoint, name), **shown}
            for name, shown in _shown(models)
        ],
        "fingerprints": [{"digest": name, **shown} for name, shown in _shown(prints)],
    }


def _shown(found: dict[str, Served]) -> Iterator[tuple[str, dict[str, Any]]]:
    total = sum(one.calls for one in found.values())
    for name, one in found.items():
        yield (
            name,
            {
                "calls": one.calls,
                "share": round(one.calls / total, 4) if total else 0.0,
                "since_ms": one.since_ms,
                "last_ms": one.last_ms,
            },
        )


def served_lines(rows: list[dict[str, Any]], *, now_ms: int) -> list[str]:
    """Return a line for each other model that answers, and for each endpoint that changed.

    What lies a week back is left out.
    """
    since_ms = now_ms - LATELY_MS
    return [line for row in rows for line in (*_others(row, since_ms), *_changes(row, since_ms))]


def _others(row: dict[str, Any], since_ms: int) -> Iterator[str]:
    for one in row["models"]:
        if one["is_other"] and one["last_ms"] >= since_ms:
            yield (
                f"{row['endpoint']}: served as {one['name']} instead of {row['asked']} since "
                f"{utc_minute(one['since_ms'])}, {one['share']:.1%} of calls, "
                f"last {utc_minute(one['last_ms'])}"
            )


def _changes(row: dict[str, Any], since_ms: int) -> Iterator[str]:
    names = [one["name"] for one in row["models"] if not one["is_other"]]
    prints = [one["digest"] for one in row["fingerprints"]]
    shown = {one.get("name") or one["digest"]: one for one in row["models"] + row["fingerprints"]}
    for what, found in (("name", names), ("fingerprint", prints)):
        if len(found) > 1 and row["is_checked"] and shown[found[-1]]["since_ms"] >= since_ms:
            now = shown[found[-1]]
            yield (
                f"{row['endpoint']}: {what} {found[-1]} since {utc_minute(now['since_ms'])}, "
                f"{now['share']:.1%} of calls; {len(found)} known, the one before is {found[-2]}"
            )
