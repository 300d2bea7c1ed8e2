"""What attempts reserve in the budgets that hold for their calls, and what they came to there.

Everything that is reserved is settled once, however its attempt ends, and what it came to is in
the journal before the attempt's outcome is: what is booked counts in its budgets.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from router.budgets.allowances import Allowances, Grant
from router.budgets.amounts import (
    AskedTokens,
    asked_of,
    most_nano_at,
    most_tokens_at,
    no_bound,
    usual_nano,
    usual_tokens,
)
from router.budgets.claims import BudgetClaim, Claims
from router.budgets.standings import told
from router.budgets.told import row_of
from router.config.budgets import BudgetUnit
from router.config.exclusions import Exclusion
from router.decision.context import CallContext
from router.decision.held_to import has_instead
from router.dispatch.attempt import Attempt
from router.dispatch.ending import Ending
from router.endpoints.catalog import Endpoint
from router.errors import BudgetAway, BudgetSpent
from telemetry.budget_spends import BudgetSpend, spend_record
from telemetry.writer import Writer


class AmountUnknown(Exception):
    """What an attempt may come to at most is not known, and a hard budget asks for it."""


class Spending:
    """Reserves and settles for all calls of the process."""

    def __init__(
        self,
        allowances: Allowances,
        writer: Writer,
        *,
        is_off: Callable[[], bool],
        refused: Counter[tuple[str, str]],
    ) -> None:
        """Make it.

        Args:
            is_off: whether nothing is refused, or goes by other rules, for any budget.
            refused: by budget and code, how many calls were turned away.
        """
        self.allowances = allowances
        self.is_off = is_off
        self._refused = refused
        self._writer = writer

    def of(self, context: CallContext) -> CallSpending:
        """Return what keeps the budgets of one call."""
        return CallSpending(self, context)

    async def spent_of(self, claims: Claims) -> Claims:
        """Return those that are used up, as far as is known, and that say what holds instead."""
        wanted = tuple(claim for claim in claims if has_instead(claim))
        if not wanted or self.is_off():
            return ()  # most often
        await self.allowances.look(wanted)
        return tuple(claim for claim in wanted if self.allowances.is_spent(claim))

    def rows_of(self, claims: Claims) -> list[dict[str, Any]]:
        """Return how these stand, as it is shown."""
        at = self.allowances
        return [row_of(one, at.standing(one), is_spent=at.is_spent(one)) for one in claims]

    def refusal(self, claim: BudgetClaim) -> BudgetSpent:
        """Return the refusal of a call for a budget that is used up."""
        return BudgetSpent(told(claim, self.allowances.standing(claim)))

    def count_refusal(self, refusal: BudgetSpent | BudgetAway) -> None:
        """Count a call that is turned away."""
        self._refused[refusal.told["budget"], refusal.code] += 1

    async def reserve(self, claims: Claims, amounts: Sequence[int]) -> Grant:
        """Return leave to come to so much in these accounts.

        Raises:
            BudgetSpent, BudgetAway: it does not fit.
        """
        return await self.allowances.reserve(claims, amounts, may_refuse=not self.is_off())

    def settle(self, grant: Grant, ended: Ending, token: bytes, *, is_call: bool) -> None:
        """Settle what an attempt came to, and write it down.

        Args:
            token: packed, of its decision.
            is_call: this is the attempt by which its call counts.
        """
        amounts = [amount_in(claim.budget.unit, ended, is_call) for claim in grant.claims]
        self.allowances.settle(grant, amounts)
        spends = [
            BudgetSpend(claim.account, amount, is_call)
            for claim, amount in zip(grant.claims, amounts, strict=True)
            if amount or is_call
        ]
        if spends:
            self._writer.put(spend_record(token, self._writer.producer, spends))

    def release(self, grant: Grant) -> None:
        """Give all of it back: nothing was made of it."""
        self.allowances.settle(grant, [0] * len(grant.claims))


class CallSpending:
    """The budgets of one call, over all its attempts."""

    def __init__(self, home: Spending, context: CallContext) -> None:
        self._home = home
        self._context = context
        self._asked: AskedTokens | None = None
        self._is_counted = False  # in budgets that count calls

    async def reserve(self, endpoint: Endpoint) -> Grant | None:
        """Return leave for an attempt at an endpoint; None where no budget holds.

        Raises:
            BudgetSpent, BudgetAway: it does not fit.
            AmountUnknown: what it may come to is not known, and a hard budget holds.
        """
        context = self._context
        if not context.claims:
            return None  # most often
        amounts = [self._amount(claim, endpoint) for claim in context.claims]
        return await self._home.reserve(context.claims, amounts)

    def settle(self, attempt: Attempt, token: bytes) -> None:
        """Settle an attempt, if a budget holds; the first that was sent counts its call."""
        if attempt.grant is None:
            return  # most often
        is_call = attempt.was_sent and attempt.began_at > 0 and not self._is_counted
        self._is_counted |= is_call
        self._home.settle(attempt.grant, attempt, token, is_call=is_call)

    def _amount(self, claim: BudgetClaim, endpoint: Endpoint) -> int:
        """Return what an attempt may come to in an account, in its unit."""
        unit, context = claim.budget.unit, self._context
        if unit is BudgetUnit.CALLS:
            return int(not self._is_counted)
        if claim.budget.is_hard and not self._home.is_off():
            return self._most(unit, endpoint)
        posterior, task = context.beliefs.place(context.category)
        usual = usual_nano if unit is BudgetUnit.MONEY else usual_tokens
        return math.ceil(usual(posterior, task, endpoint))

    def _most(self, unit: BudgetUnit, endpoint: Endpoint) -> int:
        context = self._context
        if self._asked is None:
            self._asked = asked_of(context.request)
        tokens = most_tokens_at(self._asked, endpoint)
        most = tokens.tokens_in + tokens.tokens_out
        if unit is BudgetUnit.MONEY:
            most = most_nano_at(tokens, endpoint, at_s=context.at.epoch_s)
        if most and no_bound(context.translations.keeping(endpoint)) is not None:
            raise AmountUnknown(Exclusion.UNBOUNDED)
        if not math.isfinite(most):
            raise AmountUnknown(Exclusion.UNBOUNDED)
        return math.ceil(most)


def amount_in(unit: BudgetUnit, ended: Ending, is_call: bool) -> int:
    """Return what an attempt came to in a unit: nothing in money where no price is known."""
    if unit is BudgetUnit.CALLS:
        return int(is_call)
    if unit is BudgetUnit.MONEY:
        return ended.cost_nano or 0
    used = ended.usage or ended.estimate
    return used.prompt_tokens + used.completion_tokens if used is not None else 0
