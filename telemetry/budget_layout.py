"""The bytes of a record of the kind BUDGET_SPEND (`budget_spends`), and which of them are sound."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from telemetry.events import RECORD_SIZE
from telemetry.layouts import TOKEN

MAX_ACCOUNTS = 8
"""Of one attempt: six budgets, and the two ceilings of exploring."""
MAX_SPEND = 2**53 - 1
"""An amount; as in an account. Below 0 where less came of an attempt than was written before."""
MAX_LENGTH_S = 400 * 86_400
"""Of a period: more than a year."""
_SPEND = np.dtype(
    [
        ("account", "<u8"),  # `BudgetPeriod.digest`
        ("start_s", "<u4"),  # epoch seconds
        ("length_s", "<u4"),
        ("amount", "<i8"),  # nano-USD, tokens or calls; what is added, be it less than nothing
        ("is_call", "u1"),  # 1 where this is the attempt by which its call counts
    ]
)
SPEND_RECORD = np.dtype(
    [
        ("kind", "u1"),
        ("version", "u1"),
        ("unused", "V6"),
        ("token", TOKEN),
        ("flags", "<u4"),  # none: where other records have theirs
        ("holder", "V16"),  # id of the producer
        ("n", "u1"),  # of the spends that there are
        ("reserved", "V3"),
        ("spends", _SPEND, (MAX_ACCOUNTS,)),
        ("rest", "V8"),
        ("checksum", "<u4"),
        ("padding", "<u4"),
    ]
)
assert SPEND_RECORD.itemsize == RECORD_SIZE


def spends_of(records: NDArray[np.void]) -> NDArray[np.void]:
    """Return records of the kind BUDGET_SPEND, of any layout of this size, by their own fields."""
    return np.frombuffer(records.tobytes(), dtype=SPEND_RECORD)


def are_sound(spends: NDArray[np.void]) -> NDArray[np.bool_]:
    """Return which of (n,) records hold only values that their fields allow."""
    n, each = spends["n"], spends["spends"]
    amount, length_s = each["amount"], each["length_s"]
    is_sound = (amount >= -MAX_SPEND) & (amount <= MAX_SPEND) & (each["is_call"] <= 1)
    is_sound &= (length_s > 0) & (length_s <= MAX_LENGTH_S)
    is_sound |= np.arange(MAX_ACCOUNTS) >= n[:, None]
    return np.asarray((n > 0) & (n <= MAX_ACCOUNTS) & is_sound.all(axis=1))
