"""Calls as sums by app, task, day and drawn endpoint: all that savings are worked out from.

One pass over the calls, whatever their order, makes the sums, and sums of parts add up. Calls of
one unit share a draw, so squares are of the unit's totals: a session of forty calls is one draw.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PLACE = np.dtype(
    [
        ("app", "<u8"),
        ("task", "<u8"),
        ("strategy", "<u8"),
        ("release", "<u8"),
        ("endpoint", "<u8"),  # that was drawn, whoever served
        ("day", "<i4"),
        ("choice", "<u8"),  # what the release key stood at; 0: not known
        ("by_incumbent", "?"),
        ("explored", "?"),  # drawn to learn: by the floor or a sample, and not the choice
    ]
)
"""What rows are told apart by. Propensities hold within a release key, and move from day to day and
with each release."""
CALL = np.dtype(
    [
        *((name, PLACE.fields[name][0]) for name in PLACE.names or ()),  # type: ignore[index]
        ("unit", "<u8"),  # calls of one release key and unit share a draw
        ("propensity", "<f8"),
        ("predicted", "<f8"),  # mean reward of who serves, as believed at the decision
        ("reward", "<f8"),  # NaN: nothing was said of it
        ("cost_usd", "<f8"),  # of all attempts
        ("tokens_in", "<f8"),  # of the answer that the client got, as who served it counts
        ("tokens_out", "<f8"),
        ("estimated_usd", "<f8"),  # of it, what rests on estimated tokens
        ("failed_usd", "<f8"),  # of it, of attempts that failed
        ("beside_usd", "<f8"),  # of it, of attempts that one started beside them overtook
        ("attempts", "<i8"),
        ("is_failed", "?"),  # no attempt answered, and one of them failed
        ("is_priced", "?"),
    ]
)
"""One call that was routed. Where nobody tells tokens both are 0."""
MEASURES = {"cost": "cost_usd", "failed": "is_failed", "repeats": "failed_usd"}
"""What is carried over from the calls of one to those of another, by its column in CALL."""
TOKENS = ("tokens_in", "tokens_out")
_OF_MEASURE = ("", "_n", "2")
SUMS = (
    *("calls", "units", "calls2", "unpriced", "attempts", "estimated_usd", "beside_usd"),
    *(name + part for name in MEASURES for part in _OF_MEASURE),
    *("told", "told2"),
    *(name + part for name in TOKENS for part in _OF_MEASURE),
    *("labels", "labelled_units", "labels2", "reward", "reward_n", "reward2"),
    *("predicted", "weight", "weight2", "weight_reward", "weight2_reward", "weight2_reward2"),
)
"""Columns: of priced calls their number, how many units, Σ n² of units; of each measure Σ y of
units, Σ y·n, Σ y²; the same of tokens of calls that tell them, and of labelled calls; and of
labelled units, with r their mean reward and w = 1 ÷ propensity: Σ w, Σ w², Σ w·r, Σ w²·r, Σ w²·r².
`unpriced` calls are in no other column."""
SAVING_ROW = np.dtype(
    [
        *((name, PLACE.fields[name][0]) for name in PLACE.names or ()),  # type: ignore[index]
        *((name, "<f8") for name in SUMS),
    ]
)


def sums_of(calls: NDArray[np.void]) -> NDArray[np.void]:
    """Return the sums of calls, as SAVING_ROW.

    Args:
        calls: (n,) of CALL, each once, in any order.
    """
    names = [*(PLACE.names or ())]
    order = np.lexsort([calls["propensity"], calls["unit"], *(calls[name] for name in names[::-1])])
    rows = calls.take(order)
    is_unit = _starts(rows, [*names, "unit", "propensity"])
    starts = np.flatnonzero(is_unit)
    of_row = np.flatnonzero(_starts(rows.take(starts), names))
    out = np.zeros(len(of_row), dtype=SAVING_ROW)
    for name in names:
        out[name] = rows[name][starts][of_row]
    for name, values in _of_units(rows, starts).items():
        out[name] = np.add.reduceat(values, of_row) if len(of_row) else 0.0
    return out


def added(parts: list[NDArray[np.void]]) -> NDArray[np.void]:
    """Return one row a place of the rows of several parts, such as shards."""
    whole = np.concatenate(parts) if parts else np.empty(0, dtype=SAVING_ROW)
    names = [*(PLACE.names or ())]
    rows = whole.take(np.lexsort([whole[name] for name in names[::-1]]))
    starts = np.flatnonzero(_starts(rows, names))
    out = rows.take(starts)
    for name in SUMS if len(starts) else ():
        out[name] = np.add.reduceat(rows[name], starts)
    return out


def _of_units(rows: NDArray[np.void], starts: NDArray[np.intp]) -> dict[str, NDArray[np.float64]]:
    """Return (n_units,) of every column what each unit adds to it."""

    def total(values: NDArray[np.generic]) -> NDArray[np.float64]:
        whole = values.astype(np.float64)
        return np.add.reduceat(whole, starts) if len(starts) else whole

    priced, said = rows["is_priced"], ~np.isnan(rows["reward"])
    n, labels = total(priced), total(said & priced)
    is_told = priced & (rows["tokens_in"] > 0)
    told = total(is_told)
    out = {
        "calls": n,
        "units": (n > 0).astype(float),
        "calls2": n**2,
        "unpriced": total(~priced),
        "attempts": total(np.where(priced, rows["attempts"], 0)),
        "told": told,
        "told2": told**2,
        "labels": labels,
        "labelled_units": (labels > 0).astype(float),
        "labels2": labels**2,
    }
    for name in ("estimated_usd", "beside_usd"):
        out[name] = total(np.where(priced, rows[name], 0.0))
    measures = [(name, column, priced, n) for name, column in MEASURES.items()]
    for name, column, of, count in (*measures, *((name, name, is_told, told) for name in TOKENS)):
        y = total(np.where(of, rows[column], 0.0))
        out |= {name: y, f"{name}_n": y * count, f"{name}2": y**2}
    reward = total(np.where(said & priced, rows["reward"], 0.0))
    out |= {"reward": reward, "reward_n": reward * labels, "reward2": reward**2}
    is_labelled = labels > 0
    r = reward / np.maximum(labels, 1)
    p = rows["propensity"][starts]
    w = np.where(is_labelled & (p > 0), 1 / np.maximum(p, np.finfo(np.float32).tiny), 0.0)
    out["predicted"] = np.where(is_labelled, rows["predicted"][starts], 0.0)
    out |= {"weight": w, "weight2": w**2, "weight_reward": w * r}
    return out | {"weight2_reward": w**2 * r, "weight2_reward2": w**2 * r**2}


def _starts(rows: NDArray[np.void], names: list[str]) -> NDArray[np.bool_]:
    """Return which sorted rows differ from the one before them."""
    out = np.ones(len(rows), dtype=bool)
    out[1:] = False
    for name in names:
        out[1:] |= rows[name][1:] != rows[name][:-1]
    return out
