"""Calls of what the configuration does not list: passed on, or gone since."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bandit.cells import Terms
from bandit.families import Family, U
from bandit.teaching import read_profiled
from router.beliefs.levels import apps_of
from router.beliefs.outlooks import tasks_of
from router.config.compiled import Configuration


@dataclass(slots=True)
class Unlisted:
    """Calls of something that the configuration does not list."""

    category: str
    name: str
    calls: int


def unlisted_calls(
    rows: Terms, configuration: Configuration, names: Mapping[int, str]
) -> list[Unlisted]:
    """Return the traffic of whom the configuration does not list, most first.

    Args:
        names: what digests stand for that the configuration does not name.
    """
    known, tasks = set(configuration.catalog.by_digest), tasks_of(configuration)
    booked: Counter[tuple[int, int]] = Counter()
    for key, value in zip(rows.keys, rows.values, strict=True):
        endpoint = int(key["endpoint"])
        if key["family"] == int(Family.USAGE) and endpoint not in known:
            booked[int(key["category"]), endpoint] += int(value[U.CALLS])
    booked.subtract(_by_profile(booked, rows, apps_of(configuration, names)))
    counts: Counter[tuple[str, int]] = Counter()
    for (category, endpoint), n in booked.items():
        counts[tasks.get(category, f"{category:016x}"), endpoint] += n
    return [
        Unlisted(category, names.get(endpoint, f"{endpoint:016x}"), n)
        for (category, endpoint), n in counts.most_common()
        if n > 0
    ]


def _by_profile(
    booked: Mapping[tuple[int, int], int], rows: Terms, apps: NDArray[np.uint64]
) -> dict[tuple[int, int], int]:
    """Return how many calls of these categories and endpoints are a profile's."""
    categories = list({category for category, _ in booked})
    endpoints = list({endpoint for _, endpoint in booked})
    found = read_profiled(
        rows,
        apps=apps,
        categories=np.array(categories, dtype=np.uint64),
        endpoints=np.array(endpoints, dtype=np.uint64),
    )
    return {
        (categories[c], endpoints[e]): int(found[c, e])
        for c, e in zip(*np.nonzero(found), strict=True)
    }
