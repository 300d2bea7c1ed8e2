"""What attempts come to in accounts of budgets, also those of which nobody tells what they used.

A budget that may be exceeded goes by the estimate, as the ledger does. Of one that may not, an
attempt that was sent comes to all that was reserved, unless somebody tells what it used, or it was
refused before any answer: who leaves, loses its connection, or does not wait any longer, is billed
all the same.
"""

from __future__ import annotations

from router.budgets.bounds import Bound
from router.config.budgets import BudgetUnit
from router.dialects.stream import AnswerStream
from router.dispatch.ending import Ending
from telemetry.events import Result

GATEWAY_STATUSES = frozenset({502, 504, 520, 524})
"""Who is in between says that it has no answer: whoever is asked there may work on it."""


def came_to(
    unit: BudgetUnit,
    ended: Ending,
    state: AnswerStream | None,
    bound: Bound | None,
    *,
    is_call: bool,
) -> int:
    """Return what an attempt came to in an account.

    Args:
        state: what its stream has shown, where it has one.
        bound: what it may have come to at most; None: the account goes by estimates.
        is_call: this is the attempt by which its call counts.
    """
    if bound is None or unit is BudgetUnit.CALLS or _is_told(unit, ended, state):
        return amount_in(unit, ended, is_call)
    if not ended.was_sent or not ended.began_at or _is_refused(ended.status):
        return 0
    told = ended.usage or (state.begun if state is not None else None)
    return bound.amount if told is None else bound.having_read(told.prompt_tokens)


def amount_in(unit: BudgetUnit, ended: Ending, is_call: bool) -> int:
    """Return what an attempt came to in a unit: nothing in money where no price is known."""
    if unit is BudgetUnit.CALLS:
        return int(is_call)
    if unit is BudgetUnit.MONEY:
        return ended.cost_nano or 0
    used = ended.usage or ended.estimate
    return used.prompt_tokens + used.completion_tokens if used is not None else 0


def _is_told(unit: BudgetUnit, ended: Ending, state: AnswerStream | None) -> bool:
    """Return whether it is known what an attempt came to, by what its provider says.

    Some streams say it again and again: of one that was cut more may have been written by then.
    """
    if state is not None and ended.result is not Result.OK and not state.finished:
        return False
    if unit is BudgetUnit.MONEY:
        is_said = ended.usage is not None or (state is None and ended.reported_nano is not None)
        return is_said and ended.cost_nano is not None and not ended.is_guessed
    return ended.usage is not None


def _is_refused(status: int) -> bool:
    """Return whether whoever was asked turned it down before any answer."""
    is_answer = 200 <= status < 300
    return status > 0 and not is_answer and status not in GATEWAY_STATUSES
