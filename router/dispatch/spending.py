"""What attempts reserve in the budgets that hold for their calls, and what they came to there.

Everything that is reserved is settled once, however its attempt ends, and what it came to is in
the journal before the attempt's outcome is: what is booked counts in its budgets.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from router.budgets.allowances import Allowances
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
from router.budgets.leaves import Leave
from router.budgets.rate_allowances import RateGrant
from router.budgets.standings import told
from router.budgets.told import row_of
from router.config.budgets import BudgetUnit
from router.config.exclusions import Exclusion
from router.decision.context import CallContext
from router.decision.held_to import has_instead
from router.dispatch.attempt import Attempt
from router.dispatch.beyond_choice import BeyondChoice, is_of_choice
from router.dispatch.ending import Ending
from router.dispatch.rates import ProviderLimits
from router.endpoints.catalog import Endpoint
from router.errors import BudgetAway, BudgetSpent, DispatchError
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
        rates: ProviderLimits,
        *,
        is_off: Callable[[], bool],
        refused: Counter[tuple[str, str]],
    ) -> None:
        """Make it.

        Args:
            rates: the limits of providers, beside the budgets.
            is_off: whether nothing is refused, or goes by other rules, for any budget.
            refused: by budget and code, how many calls were turned away.
        """
        self.allowances, self.rates = allowances, rates
        self.is_off = is_off
        self._refused = refused
        self._writer = writer

    def of(self, context: CallContext, *, explores: bool = False) -> CallSpending:
        """Return what keeps the budgets of one call, by whether it is one that explores."""
        return CallSpending(self, context, explores=explores)

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

    def count_refusal(self, refusal: DispatchError) -> None:
        """Count a call that is turned away, where that is for a budget."""
        if isinstance(refusal, BudgetSpent | BudgetAway):
            self._refused[refusal.told["budget"], refusal.code] += 1

    async def reserve(
        self, claims: Claims, amounts: Sequence[int], rates: RateGrant | None
    ) -> Leave | None:
        """Return leave to come to so much in these accounts; None where there is none of any kind.

        Args:
            rates: what was taken of limits; given back where it does not fit.

        Raises:
            BudgetSpent, BudgetAway: it does not fit.
        """
        if not claims:
            return Leave(None, rates) if rates is not None else None  # most often
        try:
            grant = await self.allowances.reserve(claims, amounts, may_refuse=not self.is_off())
        except BaseException:
            self.release(Leave(None, rates))
            raise
        return Leave(grant, rates)

    def settle(self, leave: Leave, ended: Ending, token: bytes, *, is_call: bool) -> None:
        """Settle what an attempt came to, and write it down.

        Args:
            token: packed, of its decision.
            is_call: this is the attempt by which its call counts.
        """
        amounts = [amount_in(claim.budget.unit, ended, is_call) for claim in leave.claims]
        self.book(leave, ended, amounts, token, is_call=is_call)

    def book(
        self, leave: Leave, ended: Ending, amounts: Sequence[int], token: bytes, *, is_call: bool
    ) -> None:
        """Settle an attempt at what it came to in each account, and write it down."""
        if leave.rates is not None:
            self.rates.settle(leave.rates, ended)
        if leave.budgets is None:
            return
        self.allowances.settle(leave.budgets, amounts)
        spends = [
            BudgetSpend(claim.account, amount, is_call)
            for claim, amount in zip(leave.claims, amounts, strict=True)
            if amount or is_call
        ]
        if spends:
            self._writer.put(spend_record(token, self._writer.producer, spends))

    def release(self, leave: Leave) -> None:
        """Give all of it back: nothing was made of it."""
        if leave.rates is not None:
            self.rates.release(leave.rates)
        if leave.budgets is not None:
            self.allowances.settle(leave.budgets, [0] * len(leave.budgets.claims))


class CallSpending:
    """The budgets of one call, over all its attempts."""

    def __init__(self, home: Spending, context: CallContext, *, explores: bool) -> None:
        self._home = home
        self._context = context
        self._explores = explores
        self._claims = context.claims
        if context.ceilings is not None:
            self._claims += context.ceilings.of_call(explores=explores)
        self._beyond = BeyondChoice(context) if explores else None
        self._asked: AskedTokens | None = None
        self._is_counted = False  # in budgets that count calls

    async def reserve(self, endpoint: Endpoint) -> Leave | None:
        """Return leave for an attempt at an endpoint; None where no budget and no limit holds.

        Raises:
            BudgetSpent, BudgetAway, RateShareSpent: it does not fit.
            AmountUnknown: what it may come to is not known, and a hard budget holds.
        """
        amounts = [self._amount(claim, endpoint) for claim in self._claims]
        rates = self._home.rates.take(endpoint, self._context)
        return await self._home.reserve(self._claims, amounts, rates)

    def is_used_up(self, endpoint: Endpoint) -> bool:
        """Return whether an endpoint takes no more in this minute, as far as is known."""
        return self._home.rates.is_used_up(endpoint, self._context.caller.app.name)

    def settle(self, attempt: Attempt, token: bytes) -> None:
        """Settle an attempt, if budget or limit holds; the first that was sent counts its call."""
        if attempt.grant is None:
            return  # most often
        is_call = attempt.was_sent and attempt.began_at > 0 and not self._is_counted
        self._is_counted |= is_call
        leave = attempt.grant
        amounts = [self._came_to(claim, attempt, is_call) for claim in leave.claims]
        self._home.book(leave, attempt, amounts, token, is_call=is_call)

    def _came_to(self, claim: BudgetClaim, attempt: Attempt, is_call: bool) -> int:
        amount = amount_in(claim.budget.unit, attempt, is_call)
        if self._beyond is not None and is_of_choice(claim):
            return self._beyond.settle(amount)
        return amount

    def _amount(self, claim: BudgetClaim, endpoint: Endpoint) -> int:
        """Return what an attempt may come to in an account, in its unit."""
        unit, context = claim.budget.unit, self._context
        if unit is BudgetUnit.CALLS:
            # Of those that do not explore nothing is reserved: they are only counted.
            is_bound = self._explores or not claim.budget.only_steers
            return int(is_bound and not self._is_counted)
        if claim.budget.is_hard and not self._home.is_off():
            return self._most(unit, endpoint)
        posterior, task = context.beliefs.place(context.category)
        usual = usual_nano if unit is BudgetUnit.MONEY else usual_tokens
        amount = math.ceil(usual(posterior, task, endpoint))
        if self._beyond is not None and is_of_choice(claim):
            return self._beyond.of(amount)
        return amount

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
