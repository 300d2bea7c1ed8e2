"""What records add to the rows of budgets' accounts, all of a batch at once. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from telemetry.budget_layout import MAX_ACCOUNTS
from telemetry.budget_rows import ACCOUNT_FIELD_BYTES, DAY_S, HOLDER_FIELD_BYTES
from telemetry.ledger_rows import sums_at

BudgetPlace = tuple[int, bytes]
"""The day on which a period ends, and the field of a row."""
_FIELDS = np.dtype([("digest", "<u8"), ("start_s", "<u4"), ("holder", "V16")])
"""As `budget_rows` packs them, the longer one."""
assert _FIELDS.itemsize == HOLDER_FIELD_BYTES


class SpentRow(NamedTuple):
    """What records add to one row."""

    amount: int
    n_calls: int
    length_s: int  # of the period


def sum_spends(spends: NDArray[np.void]) -> dict[BudgetPlace, SpentRow]:
    """Return what (n,) records of `SPEND_RECORD` add to each row, of accounts and of holders."""
    is_there = np.arange(MAX_ACCOUNTS) < spends["n"][:, None]
    each = spends["spends"].reshape(-1).compress(is_there.reshape(-1))
    if not len(each):
        return {}
    holders = np.repeat(spends["holder"], spends["n"])
    digest, start_s = (np.ascontiguousarray(each[name]) for name in ("account", "start_s"))
    values = np.stack([each["amount"], each["is_call"].astype(np.int64)], axis=1)
    fields = np.empty(len(each), dtype=_FIELDS)
    fields["digest"], fields["start_s"], fields["holder"] = digest, start_s, holders
    whole = fields.view("u1").reshape(len(each), HOLDER_FIELD_BYTES)
    length_s = each["length_s"].astype(np.int64)
    days = (start_s + length_s) // DAY_S
    words = holders.view("<u8").reshape(len(each), 2)
    out = dict[BudgetPlace, SpentRow]()
    for size, by in (
        (ACCOUNT_FIELD_BYTES, (digest, start_s)),
        (HOLDER_FIELD_BYTES, (digest, start_s, *words.T)),
    ):
        first, sums = _summed((*by, days), values)
        names = np.ascontiguousarray(whole[first, :size]).view(f"V{size}").reshape(-1).tolist()
        rows = map(SpentRow, *sums.T.tolist(), length_s[first].tolist())
        out.update(zip(zip(days[first].tolist(), names, strict=True), rows, strict=True))
    return out


def _summed(
    by: Sequence[NDArray[Any]], values: NDArray[np.int64]
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Return of each distinct name, told by columns of (n,), which row has it, and the sums."""
    order = np.lexsort(by)
    is_new = np.zeros(len(order), dtype=bool)
    is_new[0] = True
    for column in by:
        placed = column[order]
        is_new[1:] |= placed[1:] != placed[:-1]
    starts = np.flatnonzero(is_new)
    return order[starts], sums_at(values[order], starts)
