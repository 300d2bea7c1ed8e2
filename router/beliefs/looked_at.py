"""Labels by which a change is told, as of one look and the one before it. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bandit import cells, epochs
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

    Each epoch of a category stands for itself, so its labels are judged by its own: where a prompt
    moved them, that is no change of the endpoint. A category with fewer labels than before (some
    were taken back) has no news. None: the rows are damaged.

    Args:
        before, now: the endpoint's rows.
        tasks: (n_tasks,) digests.
        believed: (n_tasks,) posterior mean reward.
    Returns:
        Arrays of as many categories as there are pairs of an epoch and a task.
    """
    packed = [_rows_in(raw) for raw in (before, now)]
    numbers = np.unique(np.concatenate([[0], *(epochs.epochs_of(rows.keys) for rows in packed)]))
    then, later = (_read(rows, numbers, endpoint, tasks, now_ms) for rows in packed)
    if any(cells.damaged(part, Family.WATCH).any() for part in later.values()):
        return None
    nothing = np.zeros((len(numbers) * len(tasks), N_COLUMNS))
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
        believed=np.tile(believed, len(numbers)),
        before=_before(earlier, len(numbers)),
    )


def _before(earlier: NDArray[np.float64], n_epochs: int) -> NDArray[np.float64]:
    """Return (n_epochs * n_tasks,) mean rewards before the last fall.

    Where the first labels of an epoch came after it, those of all epochs say what was before.
    """
    means = _means(earlier)
    every = _means(earlier.reshape(n_epochs, -1, N_COLUMNS).sum(axis=0))
    return np.where(np.isnan(means), np.tile(every, n_epochs), means)


def _means(labels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (n,) mean rewards, NaN where there are no labels."""
    n = labels[:, Q.N]
    return np.asarray(np.divide(labels[:, Q.R], n, out=np.full(len(n), np.nan), where=n > 0))


def _rows_in(raw: bytes) -> Terms:
    whole = len(raw) // _ROW.itemsize * _ROW.itemsize
    packed = np.frombuffer(raw[:whole], dtype=_ROW)
    return Terms(packed["key"], packed["values"])


def _read(
    rows: Terms,
    numbers: NDArray[np.int64],
    endpoint: int,
    tasks: NDArray[np.uint64],
    now_ms: int,
) -> dict[int, NDArray[np.float64]]:
    """Return (n_epochs * n_tasks, N_COLUMNS) decayed labels by regime.

    Args:
        numbers: (n_epochs,) of which.
    """
    of_row = epochs.epochs_of(rows.keys)
    out: dict[int, NDArray[np.float64]] = {}
    for i, number in enumerate(numbers.tolist()):
        own = of_row == number
        found = cells.read_by_regime(
            Terms(rows.keys[own], rows.values[own]),
            Family.WATCH,
            categories=tasks,
            endpoints=np.array([endpoint], dtype=np.uint64),
            now_ms=now_ms,
        )
        for regime, values in found.items():
            place = out.setdefault(regime, np.zeros((len(numbers), *values[:, 0].shape)))
            place[i] = values[:, 0]
    return {regime: values.reshape(-1, N_COLUMNS) for regime, values in out.items()}
