"""How hosts of one group differ in quality, and which were split off, as rows and as lines."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from router.beliefs.beliefs import Beliefs
from router.beliefs.splits import WORSE, compare_hosts
from telemetry.dates import utc_minute


def host_rows(beliefs: Beliefs) -> list[dict[str, Any]]:
    """Return how each host of a group differs from the others, where labels tell of it."""
    catalog = beliefs.configuration.catalog
    found = compare_hosts(catalog, beliefs.given_labels)
    columns = {
        "difference": found.mean,
        "sd": found.sd,
        "p_worse": found.p_worse,
        "labels": found.labels,
        "labels_of_others": found.of_others,
    }
    return [
        {"endpoint": endpoint.id, **{name: float(x[endpoint.index]) for name, x in columns.items()}}
        for endpoint in catalog.endpoints
        if found.labels[endpoint.index]
    ]


def split_rows(beliefs: Beliefs) -> list[dict[str, Any]]:
    """Return the hosts that have groups of their own by their labels, the newest first."""
    pairs = zip(beliefs.configuration.catalog.endpoints, beliefs.known, strict=True)
    found = [
        {"endpoint": endpoint.id, **asdict(known.split)}
        for endpoint, known in pairs
        if endpoint.is_split and known.split is not None
    ]
    return sorted(found, key=lambda row: -row["at_ms"])


def split_lines(splits: list[dict[str, Any]]) -> list[str]:
    """Return a line for each host that was split off: when, from whom, and by what evidence."""
    return [
        f"{split['endpoint']} was split off from {', '.join(split['others'])} "
        f"{utc_minute(split['at_ms'])}: "
        f"{_evidence(split)}; `equivalent: true` undoes it"
        for split in splits
    ]


def _evidence(split: dict[str, Any]) -> str:
    if split["reason"] != WORSE:
        return "an alarm named it"
    return (
        f"{100 * split['difference']:+.1f} points on {split['labels']:.0f} labels against "
        f"{split['labels_of_others']:.0f}, P(a point worse) {split['p_worse']:.4f}"
    )
