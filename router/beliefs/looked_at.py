"""Labels by which a change is told, as of one look and the one before it. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bandit import cells
from bandit.cells import Terms
from bandit.drift import News
from bandit.families import N_COLUMNS, Family, Q
from bandit.regimes import Regimes

_ROW = np.dtype([("key", cells.KEY), ("values", "<i8", (N_COLUMNS,))])


def rows_by_endpoint(rows: Terms) -> dict[int, bytes]:
    """Return the rows of labels of each endpoint, by its digest, the same for the same sums."""
    merged = cells.merge([cells.of_family(rows, Family.WATCH)])
    packed = np.empty(len(merged.keys), dtype=_ROW)
    packed["key"], packed["values"] = merged.keys, merged.values
    names = [packed["key"][name] for name in ("family", "window", "regime", "category", "endpoint")]
    packed = packed[np.lexsort(names)]
    endpoints, starts = np.unique(packed["key"]["endpoint"], return_index=True)
    parts = np.split(packed, starts[1:]) if len(endpoints) else []
    return {int(e): part.tobytes() for e, part in zip(endpoints.tolist(), parts, strict=True)}


def news(
    before: bytes,
    now: bytes,
    *,
    endpoint: int,
    tasks: NDArray[np.uint64],
    regimes: Regimes,
    believed: NDArray[np.float64],
    now_ms: int,
) -> News | None:
    """Return what came between two looks in the regime that an endpoint is in.

    A category with fewer labels than before (some were taken back) has no news. None: the rows are
    damaged.

    Args:
        before, now: the endpoint's rows.
        tasks: (n_categories,) digests.
        believed: (n_categories,) posterior mean reward.
    """
    then, later = (_read(raw, endpoint, tasks, now_ms) for raw in (before, now))
    if any(cells.damaged(part, Family.WATCH).any() for part in later.values()):
        return None
    nothing = np.zeros((len(tasks), N_COLUMNS))
    known, found = then.get(regimes.now, nothing), later.get(regimes.now, nothing)
    fresh = found - known
    has_news = (fresh[:, Q.LABELS] > 0) & (fresh[:, Q.N] > 0)
    n = np.where(has_news, fresh[:, Q.LABELS], 0.0)
    mean = np.divide(fresh[:, Q.R], fresh[:, Q.N], out=np.zeros_like(n), where=has_news)
    earlier = np.sum([nothing, *(later.get(r, nothing) for r in regimes.before)], axis=0)
    return News(
        n=n,
        r=n * np.clip(mean, 0.0, 1.0),
        known_n=known[:, Q.N],
        known_r=known[:, Q.R],
        known_r2=known[:, Q.R2],
        believed=believed,
        before=np.divide(
            earlier[:, Q.R],
            earlier[:, Q.N],
            out=np.full(len(tasks), np.nan),
            where=earlier[:, Q.N] > 0,
        ),
    )


def _read(
    raw: bytes, endpoint: int, tasks: NDArray[np.uint64], now_ms: int
) -> dict[int, NDArray[np.float64]]:
    """Return (n_categories, N_COLUMNS) decayed labels by regime."""
    whole = len(raw) // _ROW.itemsize * _ROW.itemsize
    packed = np.frombuffer(raw[:whole], dtype=_ROW)
    found = cells.read_by_regime(
        Terms(packed["key"], packed["values"]),
        Family.WATCH,
        categories=tasks,
        endpoints=np.array([endpoint], dtype=np.uint64),
        now_ms=now_ms,
    )
    return {regime: values[:, 0] for regime, values in found.items()}
