"""What one attempt came to in the accounts of budgets that it counts in: a record of its own.

It stands before the attempt's outcome in the journal: what is booked in the ledger and not here
could be spent twice. It says what its holder settled, in the unit of each account; so of a holder
that is gone, with its whole journal folded, the sum of its records is what it really spent.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from telemetry.budget_accounts import MAX_AMOUNT, BudgetPeriod
from telemetry.events import RECORD_SIZE, RECORD_VERSION, Kind, sealed
from telemetry.tokens import TOKEN

MAX_ACCOUNTS = 8
"""Of one attempt: six budgets, and the two ceilings of exploring."""
MAX_LENGTH_S = 400 * 86_400
"""Of a period: more than a year."""
_SPEND = np.dtype(
    [
        ("account", "<u8"),  # `BudgetPeriod.digest`
        ("start_s", "<u4"),  # epoch seconds
        ("length_s", "<u4"),
        ("amount", "<i8"),  # nano-USD, tokens or calls
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
_HEAD, _TAIL, _ENTRY = struct.Struct("<BB6x"), struct.Struct("<4x16sB3x"), struct.Struct("<QIIqB")
_REST = bytes(8)


def spends_of(records: NDArray[np.void]) -> NDArray[np.void]:
    """Return records of the kind BUDGET_SPEND, of any layout of this size, by their own fields."""
    return np.frombuffer(records.tobytes(), dtype=SPEND_RECORD)


def are_sound(spends: NDArray[np.void]) -> NDArray[np.bool_]:
    """Return which of (n,) records hold only values that their fields allow."""
    n, each = spends["n"], spends["spends"]
    amount, length_s = each["amount"], each["length_s"]
    is_sound = (amount >= 0) & (amount <= MAX_AMOUNT) & (each["is_call"] <= 1)
    is_sound &= (length_s > 0) & (length_s <= MAX_LENGTH_S)
    is_sound |= np.arange(MAX_ACCOUNTS) >= n[:, None]
    return np.asarray((n > 0) & (n <= MAX_ACCOUNTS) & is_sound.all(axis=1))


class BudgetSpend(NamedTuple):
    """What an attempt came to in one account."""

    account: BudgetPeriod
    amount: int
    is_call: bool = False


def spend_record(token: bytes, holder: bytes, spends: Sequence[BudgetSpend]) -> bytes:
    """Return the record of what an attempt came to.

    Args:
        token: packed, of its decision.
        holder: id of the producer that settled it.

    Raises:
        ValueError: none, or more accounts than there is room for.
    """
    if not 0 < len(spends) <= MAX_ACCOUNTS:
        raise ValueError(f"a record of {len(spends)} spends; from 1 to {MAX_ACCOUNTS}")
    entries = b"".join(
        _ENTRY.pack(s.account.digest, s.account.start_s, s.account.length_s, s.amount, s.is_call)
        for s in spends
    )
    missing = bytes(_ENTRY.size * (MAX_ACCOUNTS - len(spends)))
    head = _HEAD.pack(Kind.BUDGET_SPEND, RECORD_VERSION) + token
    return sealed(head + _TAIL.pack(holder, len(spends)) + entries + missing + _REST)
