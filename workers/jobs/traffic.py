"""How much labelled traffic each release key and app had in the last days. Pure.

From it a trial's start tells the smallest difference that the trial can show.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from workers.folding.batch import DAY_MS
from workers.jobs.comparing import Groups, units_of_app, units_of_key

DAYS = 7
MOST = 5_000
"""Release keys that are told of, those with most labels first."""
LEAST_VARIANCE = 0.01
"""Of labels that are all alike so far: others will come."""
Figures = dict[str, float]


def traffic(calls: NDArray[np.void], *, since_ms: int, now_ms: int) -> dict[str, object]:
    """Return by 16 hex digits of release keys, and of apps, what their routed traffic was.

    Args:
        calls: of COMPARED_CALL.
        since_ms: those from then on count.
    Returns:
        `days`, how many days ago the first of them was, one at least; `keys` and `apps`, by digest:
        calls and labels of all days, units with a call and with a label, mean reward, and the
        variance with which a unit's mean reward counts (`variance` ÷ labelled units is that of the
        mean).
    """
    own = calls.compress(calls["is_routed"] & (calls["at_ms"] >= since_ms))
    began_ms = int(own["at_ms"].min(initial=now_ms))
    return {
        "days": round(max((now_ms - began_ms) / DAY_MS, 1.0), 3),
        "keys": _figures(own.compress(own["release"] != 0), "release"),
        "apps": _figures(own, "app"),
    }


def _figures(calls: NDArray[np.void], of: str) -> dict[str, Figures]:
    units = units_of_key(calls) if of == "release" else units_of_app(calls)
    whose, of_unit = np.unique(calls[of][units.first], return_inverse=True)
    n = len(whose)

    def total(values: NDArray[np.generic]) -> NDArray[np.float64]:
        return np.bincount(of_unit, values.astype(np.float64), n).astype(np.float64)

    n_calls, labels, reward = _of_units(calls, units)
    is_labelled = labels > 0
    labelled_units, labelled = total(is_labelled), total(labels)
    mean = total(reward) / np.maximum(labelled, 1)
    rest = (reward - mean[of_unit] * labels) ** 2
    odds = labelled_units / np.maximum(labelled_units - 1, 1)
    variance = total(rest) * odds * labelled_units / np.maximum(labelled, 1) ** 2
    columns = {
        "calls": total(n_calls),
        "units": total(np.ones(len(of_unit))),
        "labelled": labelled,
        "labelled_units": labelled_units,
        "quality": mean,
        "variance": np.maximum(variance, LEAST_VARIANCE),
    }
    most = np.lexsort((whose, -labelled_units))[:MOST]
    return {
        f"{int(whose[k]):016x}": {name: float(column[k]) for name, column in columns.items()}
        for k in most
    }


def _of_units(
    calls: NDArray[np.void], units: Groups
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return (n_units,) calls, labels, and the labels' sum."""
    n, is_said = len(units.first), ~np.isnan(calls["reward"])
    reward = np.where(is_said, calls["reward"], 0.0)
    parts = (np.ones(len(calls)), is_said.astype(np.float64), reward)
    first, second, third = (np.bincount(units.of_row, part, n).astype(float) for part in parts)
    return first, second, third
