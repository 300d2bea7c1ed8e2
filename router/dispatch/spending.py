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
from router.budgets.bounds import ONE_CALL, Bound
from router.budgets.claims import BudgetClaim, Claims
from router.budgets.leaves import BegunSpend, Leave, is_bounded
from router.budgets.rate_allowances import RateGrant
from router.budgets.standings import told
from router.budgets.told import row_of
from router.config.budgets import BudgetUnit
from router.config.exclusions import Exclusion
from router.decision.context import CallContext
from router.decision.held_to import has_instead
from router.dialects.stream import AnswerStream
from router.dispatch.attempt import Attempt
from router.dispatch.beyond_choice import BeyondChoice, is_of_choice
from router.dispatch.ending import Ending
from router.dispatch.rates import ProviderLimits
from router.dispatch.untold import came_to
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
        self, claims: Claims, amounts: Sequence[int | Bound], rates: RateGrant | None
    ) -> Leave | None:
        """Return leave to come to so much in these accounts; None where there is none of any kind.

        Args:
            amounts: of each; a bound of those that are never exceeded.
            rates: what was taken of limits; given back where it does not fit.

        Raises:
            BudgetSpent, BudgetAway: it does not fit.
        """
        if not claims:
            return Leave(None, rates) if rates is not None else None  # most often
        bounds = [amount if isinstance(amount, Bound) else None for amount in amounts]
        wanted = [amount.amount if isinstance(amount, Bound) else amount for amount in amounts]
        try:
            grant = await self.allowances.reserve(claims, wanted, may_refuse=not self.is_off())
        except BaseException:
            self.release(Leave(None, rates))
            raise
        return Leave(grant, rates, bounds)

    def begin(self, leave: Leave, token: bytes) -> None:
        """Write down what an attempt may come to that is about to be sent.

        So what calls under way may come to counts also where their process is killed. It is done
        for accounts that are never exceeded; what follows is the difference.

        Args:
            token: packed, of its decision.
        """
        amounts = [0 if bound is None else bound.amount for bound in leave.bounds]
        if any(amounts) and self._put(token, leave.claims, amounts):
            leave.begun = BegunSpend(token, amounts)

    def settle(
        self,
        leave: Leave,
        ended: Ending,
        token: bytes,
        *,
        is_call: bool,
        state: AnswerStream | None,
    ) -> None:
        """Settle what an attempt came to, and write it down.

        Args:
            token: packed, of its decision.
            is_call: this is the attempt by which its call counts.
            state: what its stream has shown, where it has one.
        """
        amounts = [
            came_to(claim.budget.unit, ended, state, bound, is_call=is_call)
            for claim, bound in zip(leave.claims, leave.bounds, strict=True)
        ]
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
        begun, leave.begun = leave.begun, None
        if begun is not None:
            token = begun.token
            amounts = [now - then for now, then in zip(amounts, begun.amounts, strict=True)]
        self._put(token, leave.claims, amounts, is_call=is_call)

    def release(self, leave: Leave) -> None:
        """Give all of it back: nothing was made of it."""
        if leave.rates is not None:
            self.rates.release(leave.rates)
        if leave.budgets is not None:
            self.allowances.settle(leave.budgets, [0] * len(leave.budgets.claims))
        begun, leave.begun = leave.begun, None
        if begun is not None:
            self._put(begun.token, leave.claims, [-amount for amount in begun.amounts])

    def _put(
        self, token: bytes, claims: Claims, amounts: Sequence[int], *, is_call: bool = False
    ) -> bool:
        """Have the journal say what is added in each account; return whether it is safe there."""
        spends = [
            BudgetSpend(claim.account, amount, is_call)
            for claim, amount in zip(claims, amounts, strict=True)
            if amount or is_call
        ]
        if not spends:
            return False
        return self._writer.put(spend_record(token, self._writer.producer, spends))


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

    def begin(self, attempt: Attempt, token: Callable[[], bytes]) -> None:
        """Write down what an attempt may come to, where some account is never exceeded.

        Args:
            token: returns the packed one of its decision.
        """
        if attempt.grant is not None and is_bounded(attempt.grant):
            self._home.begin(attempt.grant, token())

    def settle(self, attempt: Attempt, token: bytes) -> None:
        """Settle an attempt, if budget or limit holds; the first that was sent counts its call."""
        if attempt.grant is None:
            return  # most often
        is_call = attempt.was_sent and attempt.began_at > 0 and not self._is_counted
        self._is_counted |= is_call
        leave = attempt.grant
        amounts = [
            self._came_to(claim, attempt, bound, is_call)
            for claim, bound in zip(leave.claims, leave.bounds, strict=True)
        ]
        self._home.book(leave, attempt, amounts, token, is_call=is_call)

    def _came_to(
        self, claim: BudgetClaim, attempt: Attempt, bound: Bound | None, is_call: bool
    ) -> int:
        unit = claim.budget.unit
        if unit is BudgetUnit.MONEY and attempt.endpoint.terms.is_subscribed:
            # What it has room for costs nothing, whatever was used.
            bound = None if attempt.had_headroom else bound
        state = attempt.stream.state if attempt.stream is not None else None
        amount = came_to(unit, attempt, state, bound, is_call=is_call)
        if self._beyond is not None and is_of_choice(claim):
            return self._beyond.settle(amount)
        return amount

    def _amount(self, claim: BudgetClaim, endpoint: Endpoint) -> int | Bound:
        """Return what an attempt may come to in an account, in its unit."""
        unit, context = claim.budget.unit, self._context
        is_hard = claim.budget.is_hard and not self._home.is_off()
        if unit is BudgetUnit.CALLS:
            # Of those that do not explore nothing is reserved: they are only counted.
            is_bound = self._explores or not claim.budget.only_steers
            amount = int(is_bound and not self._is_counted)
            return ONE_CALL if is_hard and amount else amount
        if is_hard:
            return self._most(unit, endpoint)
        posterior, task = context.beliefs.place(context.category)
        usual = usual_nano if unit is BudgetUnit.MONEY else usual_tokens
        amount = math.ceil(usual(posterior, task, endpoint))
        if self._beyond is not None and is_of_choice(claim):
            return self._beyond.of(amount)
        return amount

    def _most(self, unit: BudgetUnit, endpoint: Endpoint) -> Bound:
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
        prices = endpoint.prices if unit is BudgetUnit.MONEY else None
        return Bound(math.ceil(most), tokens, prices, context.at.epoch_s)
