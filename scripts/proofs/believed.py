"""What is believed of endpoints, written as a few counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from bandit import cells
from bandit.cells import Terms
from bandit.families import N_COLUMNS, Family, L, Q, R, U
from router.config.compiled import Configuration
from telemetry.digests import digest8


def rows_of(posteriors: Mapping[str, Any], configuration: Configuration, at_s: float) -> Terms:
    """Return what was observed, by task and endpoint.

    `calls` and `labels` are counts; of the labels so many are `good`. `seconds` is what each call
    took, `tokens` what its prompt and its answer had each; all of it is of just now.
    """
    parts = []
    at_ms = int(at_s * 1000)
    for task, by_endpoint in posteriors.items():
        for name, seen in by_endpoint.items():
            for family, columns in _columns(seen):
                n = len(columns)
                endpoint = configuration.catalog.by_id[name].digest
                parts.append(
                    cells.terms(
                        family,
                        category=np.full(n, digest8("task", task), dtype=np.uint64),
                        endpoint=np.full(n, endpoint, dtype=np.uint64),
                        at_ms=np.full(n, at_ms),
                        columns=columns,
                    )
                )
    return cells.merge(parts) if parts else cells.from_bytes(b"", b"")


def _columns(seen: Mapping[str, Any]) -> Iterator[tuple[Family, Any]]:
    labels, calls = seen.get("labels", 0), seen.get("calls", seen.get("labels", 0))
    if labels:
        quality = np.zeros((labels, N_COLUMNS))
        quality[:, [Q.LABELS, Q.N]] = 1
        quality[: seen["good"], [Q.R, Q.R2]] = 1
        yield Family.QUALITY, quality
    usage, latency, reliability = (np.zeros((calls, N_COLUMNS)) for _ in range(3))
    tokens = seen.get("tokens", 1000)
    usage[:, [U.CALLS, U.N]] = 1
    usage[:, [U.TOKENS_IN, U.TOKENS_OUT]] = tokens
    usage[:, U.N_LOG], usage[:, U.LN_OUT] = 1, np.log(tokens)
    usage[:, U.LN_OUT2] = np.log(tokens) ** 2
    yield Family.USAGE, usage
    ln = np.log(seen.get("seconds", 1.0))
    latency[:, L.N], latency[:, L.LN], latency[:, L.LN2] = 1, ln, ln * ln
    yield Family.LATENCY, latency
    reliability[:, R.OK] = 1
    yield Family.RELIABILITY, reliability
