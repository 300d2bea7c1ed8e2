"""What a call that a budget refuses is told would fit. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from msgspec import structs

from router.budgets.amounts import AskedTokens
from router.endpoints.catalog import Endpoint
from router.endpoints.entries import Dialect
from router.errors import BudgetSpent

LEAST_ANSWER = 16
"""Tokens; what OpenAI's Responses takes at least. A hint to say less helps nobody."""
MOST_ANSWER = 2**20
"""Where nobody says how long an answer may be."""


def hint_of(
    asked: AskedTokens, dialect: Dialect, endpoint: Endpoint, fits: Callable[[AskedTokens], bool]
) -> str:
    """Return which limit on its answer would let a call through; empty: none would.

    Args:
        fits: says whether a call may be made that asks for so much, and is the same else.
    """
    limit = endpoint.output_tokens or endpoint.context_tokens or MOST_ANSWER
    if asked.most_out is not None and math.isfinite(asked.most_out):
        limit = math.floor(asked.most_out)
    if not asked.writes:
        return ""
    largest = _largest(limit, lambda most: fits(structs.replace(asked, most_out=most)))
    if largest is None:
        return ""
    field = "max_output_tokens" if dialect is Dialect.RESPONSES else "max_tokens"
    return f"a {field} of {largest} or less would fit"


def _largest(limit: int, fits: Callable[[int], bool]) -> int | None:
    """Return the largest number below a limit that does not fit that does."""
    if limit <= LEAST_ANSWER or not fits(LEAST_ANSWER) or fits(limit):
        return None
    low, high = LEAST_ANSWER, limit  # fits, does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def least_of(refusals: Sequence[BudgetSpent]) -> BudgetSpent:
    """Return of what endpoints were refused for that of the least amount, by the first's budget."""
    first = refusals[0]
    same = (one for one in refusals if one.told["budget"] == first.told["budget"])
    return min(same, key=lambda one: one.told["may_come_to"] or 0)
