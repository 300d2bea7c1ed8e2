"""A call said as its endpoint takes it: what is refused is said by its other name, or left out.

A refused call is not paid for. What helped once is kept for the endpoint's later calls.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from router.profiling.asking import Came, Got
from router.profiling.refused_fields import OF_FIELDS, FieldChange, change_for, changes_between

MOST_CHANGES = 4
"""So often one call is said otherwise: a limit's other name, none, and two more fields."""


async def ask_as_taken(
    send: Callable[[dict[str, Any]], Awaitable[Got]],
    body: dict[str, Any],
    known: list[FieldChange],
) -> tuple[Got, list[FieldChange]]:
    """Return what came of a call, and how what was sent differs from `body`.

    Args:
        known: what the endpoint is known to refuse; what helps now is added.
    """
    sent, tried = body, set[str]()
    for change in known:
        sent = change.applied(sent)
    got = await send(sent)
    while got.came is Came.TURNED_DOWN and got.status in OF_FIELDS and len(tried) < MOST_CHANGES:
        next_change = change_for(sent, got.said, got.param, tried=frozenset(tried))
        if next_change is None:
            break
        tried.add(next_change.field)
        sent = next_change.applied(sent)
        got = await send(sent)
    changes = changes_between(body, sent)
    if got.came is Came.ANSWER:
        known += [one for one in changes if one.is_lasting and one not in known]
    return got, changes
