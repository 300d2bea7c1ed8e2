"""What calls take of providers' limits, leased among the sidecars of a store, without any waiting.

As of budgets each process holds a part of an account, for seconds at most: what it does not use is
soon another's. A call that does not fit into what is held here goes *beyond* it, within what this
process may take by what it knows: of an account that nothing is heard of yet, or that has more
left, its part of that; while the store is away all that it did not take by itself in this minute.
Beyond that the share of an app refuses, and the whole limit never does. What went beyond is told
with the next word, which leaves at once.

What may be taken too much: a part for each sidecar that comes anew to a minute that is used up, and
estimates of tokens that were too low.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from msgspec import Struct

from router.budgets.allowances import Allowances
from router.budgets.holdings import AccountClaim, AccountWord, HeldAccount
from router.budgets.rate_claims import RateClaim
from router.endpoints.rate_limits import MINUTE_S
from telemetry.allowances import BudgetReservation
from telemetry.budget_accounts import MAX_AMOUNT, TakeAnswer
from telemetry.clock import steady
from telemetry.store import Address

RATE_LEASE_S = 2.0
"""What is not used is another sidecar's within a second, of sixty."""
AGAIN_S = 0.5
"""After so long it is asked again what a share that is used up has left."""
LEAST_LIVE = 2
"""Sidecars that there are taken to be: another may come at any moment."""


class RateGrant(Struct):
    """What one attempt took of the limits that it counts in; given back or settled once."""

    claims: Sequence[RateClaim]
    accounts: list[HeldAccount]
    reservations: list[BudgetReservation]
    is_settled: bool = False


class RateAllowances(Allowances):
    """All that this process may take of providers' limits; used from its event loop only."""

    def __init__(
        self, address: Address, holder: Callable[[], bytes], *, clock: Callable[[], float] = steady
    ) -> None:
        """Make it; `start` begins to talk to the store.

        Args:
            holder: id of the process's producer; asked for once there is a claim.
            clock: epoch seconds by a clock that nobody sets.
        """
        super().__init__(address, holder, clock=clock, lease_s=RATE_LEASE_S)
        self._minute = 0  # since the epoch, in which calls came last
        self._live: dict[int, int] = {}  # by minute the most sidecars that words told of

    @property
    def now_s(self) -> float:
        """Epoch seconds, by which minutes begin."""
        return self._clock()

    def is_spent(self, claim: AccountClaim) -> bool:
        """Return whether nothing is left of an account, by what is known here."""
        account = self._held.live.get(claim.account)
        if account is None:
            return False
        own = account.allowance.spent + account.allowance.reserved
        return own >= claim.limit or super().is_spent(claim)

    def take(
        self, claims: Sequence[RateClaim], amounts: Sequence[int], *, may_refuse: bool = True
    ) -> RateGrant | RateClaim:
        """Return leave for an attempt, or the share that it does not fit into.

        Args:
            claims: shares before whole limits.
            amounts: of each claim, in its unit, as far as they can be told.
            may_refuse: False: shares refuse nothing either.
        """
        now_s = self._clock()
        self._sweep(now_s)
        grant = RateGrant(claims, [], [])
        for claim, amount in zip(claims, amounts, strict=True):
            account = self._held.account(claim)
            is_bound = may_refuse and claim.app is not None
            own = self._taken(account, min(amount, claim.limit), now_s, is_bound=is_bound)
            if own is None:
                self.end(grant, [0] * len(grant.reservations))
                return claim
            account.n_open += 1
            grant.accounts.append(account)
            grant.reservations.append(own)
        return grant

    def end(self, grant: RateGrant, amounts: Sequence[int]) -> None:
        """Take what an attempt used for what it took; a second time changes nothing."""
        if grant.is_settled:
            return
        grant.is_settled = True
        now_s = self._clock()
        for account, own, amount in zip(grant.accounts, grant.reservations, amounts, strict=True):
            account.n_open -= 1
            account.allowance.settle(own, amount)
            self._tend(account, now_s)

    def _taken(
        self, account: HeldAccount, amount: int, now_s: float, *, is_bound: bool
    ) -> BudgetReservation | None:
        """Return a reservation from what is held here, else beyond it; None where that is bound."""
        allowance = account.allowance
        account.largest = max(account.largest, amount)
        own = allowance.reserve(amount, now_s)
        if own is None:
            is_new = allowance.heard is None
            if is_new:
                # Before anything counts: an account that is new to the store takes a first word
                # with something on it for one that the store forgot.
                self._ask(account, now_s)
            most = self._own_part(account, amount) if is_bound else MAX_AMOUNT
            own = allowance.overdraw(amount, is_late=True, most=most)
            if own is None:
                self._look_later(account)
                return None
            if not is_new:
                self._ask(account, now_s)
        self._tend(account, now_s)
        return own

    def _ask(self, account: HeldAccount, now_s: float) -> None:
        if account.word is None and account.allowance.may_ask(0, now_s):
            self._say(account, now_s)

    def _look_later(self, account: HeldAccount) -> None:
        """Hear in a while what others gave back of an account that is used up."""
        if account.timer is None and account.word is None:
            loop = asyncio.get_running_loop()
            account.due_s = self._clock() + AGAIN_S
            account.timer = loop.call_later(AGAIN_S, self._look, account)

    def _look(self, account: HeldAccount) -> None:
        account.timer = None
        self._ask(account, self._clock())

    def _rest(self, account: HeldAccount, now_s: float) -> None:
        """Keep what is known of it while its minute lasts."""

    def _sweep(self, now_s: float) -> None:
        """Forget the minutes that are over, once in each."""
        minute = int(now_s // MINUTE_S)
        if minute == self._minute:
            return
        self._minute = minute
        for account in list(self._held.live.values()):
            is_over = now_s >= account.claim.ends_s and account.n_open == 0
            if is_over and account.word is None and account.allowance.is_at_rest:
                account.stop_timer()
                del self._held.live[account.claim.account]

    def _own_part(self, account: HeldAccount, amount: int) -> int:
        """Return how much may be taken here of what no word has granted."""
        allowance = account.allowance
        heard = allowance.heard
        if allowance.is_unknown:
            return allowance.limit - allowance.spent - allowance.reserved + allowance.extra
        left = allowance.limit if heard is None else heard.free
        n_live = max([LEAST_LIVE, *self._live.values()])
        return max(left // (2 * n_live), amount) if amount <= left else 0

    def _hear(self, account: HeldAccount, word: AccountWord, answer: TakeAnswer | None) -> None:
        if answer is not None:
            minute = account.claim.account.start_s
            if len(self._live) > 1 and minute not in self._live:
                del self._live[min(self._live)]
            self._live[minute] = max(self._live.get(minute, 0), answer.n_live)
        super()._hear(account, word, answer)
