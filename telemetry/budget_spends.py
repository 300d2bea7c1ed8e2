"""What one attempt came to in the accounts of budgets that it counts in: a record of its own.

It stands before the attempt's outcome in the journal: what is booked in the ledger and not here
could be spent twice. It says what its holder settled, in the unit of each account; so of a holder
that is gone, with its whole journal folded, the sum of its records is what it really spent.

In accounts that are never exceeded an attempt has two: before it is sent, one with all that it may
come to, and at its end one with the difference, below 0 as a rule. So the sum of a holder that was
killed holds what its calls under way may have been billed. Both are in one shard, in that order.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from telemetry.budget_accounts import MAX_AMOUNT, BudgetPeriod
from telemetry.budget_layout import MAX_ACCOUNTS, MAX_SPEND
from telemetry.events import RECORD_VERSION, Kind, sealed

_HEAD, _TAIL, _ENTRY = struct.Struct("<BB6x"), struct.Struct("<4x16sB3x"), struct.Struct("<QIIqB")
_REST = bytes(8)


class BudgetSpend(NamedTuple):
    """What is added in one account."""

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


assert MAX_SPEND == MAX_AMOUNT
