"""What attempts reserve in the budgets that hold for their calls, and what they came to there.

Everything that is reserved is settled once, however its attempt ends, and what it came to is in
the journal before the attempt's outcome is: what is booked counts in its budgets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import structs

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
from router.budgets.bounds import ONE_CALL, Bound, amount_of
from router.budgets.claims import BudgetClaim, Claims
from router.budgets.leaves import BegunSpend, Leave, is_bounded
from router.budgets.rate_allowances import RateGrant
from router.budgets.standings import BudgetStanding
from router.budgets.told import does_fit, refused, row_of
from router.budgets.turned_away import Turnings
from router.config.budgets import NANO, BudgetUnit
from router.config.exclusions import Exclusion
from router.decision.context import CallContext
from router.decision.held_to import has_instead
from router.dialects.stream import AnswerStream
from router.dispatch.attempt import Attempt
from router.dispatch.beyond_choice import BeyondChoice, is_of_choice
from router.dispatch.ending import Ending
from router.dispatch.rates import ProviderLimits
from router.dispatch.refusing import hint_of
from router.dispatch.untold import came_to
from router.endpoints.catalog import Endpoint
from router.errors import BudgetAway, BudgetSpent, DispatchError
from telemetry.budget_accounts import BudgetPeriod
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
        turnings: Turnings,
    ) -> None:
        """Make it.

        Args:
            rates: the limits of providers, beside the budgets.
            is_off: whether nothing is refused, or goes by other rules, for any budget.
            turnings: calls that were turned away.
        """
        self.allowances, self.rates = allowances, rates
        self.is_off = is_off
        self._turnings = turnings
        self.folded: Callable[[BudgetPeriod], int | None] = lambda account: None
        """What is folded of an account; None: that is not known here."""
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

    def standing(self, claim: BudgetClaim) -> BudgetStanding:
        """Return how an account stands, by all that is known here."""
        known = self.allowances.standing(claim)
        return structs.replace(known, folded=self.folded(claim.account))

    def rows_of(self, claims: Claims, amounts: Sequence[int | None]) -> list[dict[str, Any]]:
        """Return how these stand for a call that may come to so much, as it is shown."""
        each, is_spent = zip(claims, amounts, strict=True), self.allowances.is_spent
        return [row_of(one, self.standing(one), n, is_spent=is_spent(one)) for one, n in each]

    def foresee(self, claims: Claims, amounts: Sequence[int]) -> None:
        """Look whether a call would be refused that may come to so much; nothing is reserved.

        Raises:
            BudgetSpent: it would.
        """
        for claim, amount in zip(claims, amounts, strict=True):
            standing = self.standing(claim)
            if (
                claim.budget.may_refuse
                and not self.is_off()
                and does_fit(claim, standing, amount) is False
            ):
                raise refused(claim, standing, amount)

    def refusal(self, claim: BudgetClaim) -> BudgetSpent:
        """Return the refusal of a call for a budget that is used up."""
        return refused(claim, self.standing(claim))

    async def refusal_now(
        self, refusal: BudgetSpent, claims: Claims, amounts: Sequence[int]
    ) -> BudgetSpent:
        """Return a refusal that says all that is known of its account.

        Args:
            amounts: that the call may come to in each.
        """
        n = next(n for n, one in enumerate(claims) if one.budget.name == refusal.told["budget"])
        if amounts[n] > claims[n].limit:  # which was known without asking
            await self.allowances.look((claims[n],))
        return refused(claims[n], self.standing(claims[n]), amounts[n])

    def count_refusal(self, refusal: DispatchError, claims: Claims) -> None:
        """Count a call that is turned away, where that is for a budget."""
        if not isinstance(refusal, BudgetSpent | BudgetAway):
            return
        self._turnings.count(refusal.told["budget"], refusal.code)
        if isinstance(refusal, BudgetSpent) and refusal.told["may_come_to"] is not None:
            for claim in claims:
                if claim.budget.name == refusal.told["budget"]:
                    scale = NANO if claim.budget.unit is BudgetUnit.MONEY else 1
                    amount = round(refusal.told["may_come_to"] * scale)
                    self._turnings.note(claim, amount, self.allowances.granted(claim))

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
        wanted = [amount_of(amount) for amount in amounts]
        try:
            grant = await self.allowances.reserve(claims, wanted, may_refuse=not self.is_off())
        except BudgetSpent as refusal:
            self.release(Leave(None, rates))
            raise await self.refusal_now(refusal, claims, wanted) from None
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

    __slots__ = ("_asked", "_beyond", "_claims", "_context", "_explores", "_home", "_is_counted")

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

    def holds(self, endpoint: Endpoint) -> bool:
        """Return whether some budget or limit may hold for an attempt at an endpoint."""
        rates = endpoint.rates
        return bool(self._claims or rates.said or rates.unsaid)

    async def reserve(self, endpoint: Endpoint) -> Leave | None:
        """Return leave for an attempt at an endpoint; None where no budget and no limit holds.

        Raises:
            BudgetSpent, BudgetAway, RateShareSpent: it does not fit.
            AmountUnknown: what it may come to is not known, and a hard budget holds.
        """
        amounts = [self._amount(claim, endpoint) for claim in self._claims]
        rates = self._home.rates.take(endpoint, self._context)
        try:
            return await self._home.reserve(self._claims, amounts, rates)
        except BudgetSpent as refusal:
            raise self.with_hint(refusal, endpoint) from None

    def amounts(self, claims: Claims, endpoint: Endpoint) -> list[int]:
        """Return what an attempt at an endpoint may come to in accounts, each in its unit.

        Raises:
            AmountUnknown: it is not known, and a hard budget holds.
        """
        return [amount_of(self._amount(claim, endpoint)) for claim in claims]

    def with_hint(self, refusal: BudgetSpent, endpoint: Endpoint) -> BudgetSpent:
        """Return a refusal that says by which limit on its answer a call would fit, if by any."""
        asked, request = self._asked, self._context.request
        if asked is None or self._home.is_off():
            return refusal  # no hard budget was asked for money or tokens
        rooms = [
            (claim, self._home.standing(claim).left_of(claim.limit))
            for claim in self._claims
            if claim.budget.may_refuse
        ]

        def fits(wanted: AskedTokens) -> bool:
            return all(amount_of(self._amount(c, endpoint, wanted)) <= left for c, left in rooms)

        hint = hint_of(asked, request.dialect, endpoint, fits)
        return BudgetSpent(refusal.told, f"{refusal}; {hint}") if hint else refusal

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

    def _amount(
        self, claim: BudgetClaim, endpoint: Endpoint, asked: AskedTokens | None = None
    ) -> int | Bound:
        """Return what an attempt may come to in an account, in its unit.

        Args:
            asked: instead of what the call asks for.
        """
        unit, context = claim.budget.unit, self._context
        is_hard = claim.budget.is_hard and not self._home.is_off()
        if unit is BudgetUnit.CALLS:
            # Of those that do not explore nothing is reserved: they are only counted.
            is_bound = self._explores or not claim.budget.only_steers
            amount = int(is_bound and not self._is_counted)
            return ONE_CALL if is_hard and amount else amount
        if is_hard:
            return self._most(unit, endpoint, asked)
        posterior, task = context.beliefs.place(context.category)
        usual = usual_nano if unit is BudgetUnit.MONEY else usual_tokens
        amount = math.ceil(usual(posterior, task, endpoint))
        if self._beyond is not None and is_of_choice(claim):
            return self._beyond.of(amount)
        return amount

    def _most(self, unit: BudgetUnit, endpoint: Endpoint, asked: AskedTokens | None) -> Bound:
        context = self._context
        if self._asked is None:
            self._asked = asked_of(context.request)
        tokens = most_tokens_at(asked or self._asked, endpoint)
        most = tokens.tokens_in + tokens.tokens_out
        if unit is BudgetUnit.MONEY:
            most = most_nano_at(tokens, endpoint, at_s=context.at.epoch_s)
        if most and no_bound(context.translations.keeping(endpoint)) is not None:
            raise AmountUnknown(Exclusion.UNBOUNDED)
        if not math.isfinite(most):
            raise AmountUnknown(Exclusion.UNBOUNDED)
        prices = endpoint.prices if unit is BudgetUnit.MONEY else None
        return Bound(math.ceil(most), tokens, prices, context.at.epoch_s)
