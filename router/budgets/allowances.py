"""What calls reserve from budgets before they are sent, and settle when they ended.

Most calls take from what this process holds free, without any I/O. One that does not fit asks the
account itself, and waits for its reply for `HARD_S`. Where a budget may be exceeded it waits for
`SOFT_S`, then goes on by its part of what is left, and waits on only once that is used: a store
that does not answer at all costs such a budget one extra lease. What is used is topped up in the
background, and what is not goes back.

Nobody is refused by a budget that says what else becomes of its calls (`cheapest`, `local`) and is
not hard, nor where the caller says so: such a call goes *unbacked*, and is charged with what it
came to.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from functools import partial

from msgspec import Struct

from router.budgets.claims import BudgetClaim, Claims
from router.budgets.holdings import AccountClaim, AccountWord, HeldAccount, Holdings
from router.budgets.standings import BudgetStanding
from router.budgets.take_line import STOP_S, TakeLine
from router.budgets.told import refused
from router.errors import BudgetAway, BudgetSpent, DispatchError
from telemetry.allowances import LEASE_S, RETRY_PART, BudgetReservation
from telemetry.budget_accounts import MAX_AMOUNT, TakeAnswer
from telemetry.clock import steady
from telemetry.store import Address

SOFT_S, HARD_S = 0.005, 0.25
"""How long a call waits for one reply of the store: before it goes on without, and at all."""
SOON_S = 0.01
"""Words that no call waits for come no closer to one another, for one account."""


class Grant(Struct):
    """What one attempt may come to in each account that it counts in; settled once."""

    claims: Claims
    accounts: list[HeldAccount]
    reservations: list[BudgetReservation | None]  # None: unbacked
    unbacked: list[int]  # what goes so in each
    is_settled: bool = False


class Allowances:
    """All that this process may spend; used from its event loop only."""

    def __init__(
        self,
        address: Address,
        holder: Callable[[], bytes],
        *,
        clock: Callable[[], float] = steady,
        lease_s: float = LEASE_S,
    ) -> None:
        """Make it; `start` begins to talk to the store.

        Args:
            holder: id of the process's producer; asked for once there is a claim.
            clock: epoch seconds by a clock that nobody sets.
        """
        self._line = TakeLine(address, retry_s=lease_s * RETRY_PART)
        self._held = Holdings(holder, lease_s=lease_s)
        self._clock = clock
        self._is_stopping = False

    def start(self) -> None:
        """Begin to talk to the store."""
        self._line.start()

    async def stop(self) -> None:
        """Give back what is free; what is reserved stays debited, and settles here alone."""
        self._is_stopping = True
        ends_s = self._clock() + STOP_S
        left: set[int] = set()
        while (now_s := self._clock()) < ends_s:
            words = [account.word for account in self._held.live.values() if account.word]
            for account in list(self._held.live.values()):
                account.stop_timer()
                if account.word is None and id(account) not in left:
                    left.add(id(account))
                    words.append(self._say_last(account, now_s))
            if not words:
                break
            await asyncio.wait([word.done for word in words], timeout=ends_s - now_s)
        await self._line.stop()

    async def reserve(
        self, claims: Claims, amounts: Sequence[int], *, may_refuse: bool = True
    ) -> Grant:
        """Return a grant of what an attempt may come to, in each account at once or in none.

        Args:
            amounts: of each claim, in its unit.
            may_refuse: False: whatever does not fit goes unbacked.

        Raises:
            BudgetSpent: an account has less left.
            BudgetAway: the store does not say what it has left, and it is hard or had its extra.
            ValueError: an amount is negative, or there is not one of each claim.
        """
        if len(claims) != len(amounts) or min(amounts, default=0) < 0:
            raise ValueError(f"amounts {list(amounts)} of {len(claims)} claims")
        accounts = [self._held.account(claim) for claim in claims]
        grant = Grant(claims, accounts, [None] * len(claims), [0] * len(claims))
        now_s = self._clock()
        missing = []
        for n, (account, amount) in enumerate(zip(accounts, amounts, strict=True)):
            account.n_open += 1
            account.largest = max(account.largest, min(amount, account.claim.limit))
            if (own := _from_free(account, amount, now_s)) is not None:
                grant.reservations[n] = own
                self._tend(account, now_s)
            else:
                missing.append(n)
        if missing:
            try:
                await self._complete(grant, missing, amounts, may_refuse=may_refuse)
            except BaseException:
                self.settle(grant, [0] * len(claims))
                raise
        return grant

    def settle(self, grant: Grant, amounts: Sequence[int]) -> None:
        """Take what an attempt came to for what was reserved; a second time changes nothing.

        Raises:
            ValueError: an amount is negative, or there is not one of each claim.
        """
        if len(grant.claims) != len(amounts) or min(amounts, default=0) < 0:
            raise ValueError(f"amounts {list(amounts)} of {len(grant.claims)} claims")
        if grant.is_settled:
            return
        grant.is_settled = True
        now_s = self._clock()
        each = zip(grant.accounts, grant.reservations, grant.unbacked, amounts, strict=True)
        for account, reservation, unbacked, amount in each:
            account.n_open -= 1
            account.unbacked -= unbacked
            if reservation is None:
                account.allowance.charge(amount)
            else:
                account.granted = max(account.granted, reservation.amount)
                account.allowance.settle(reservation, amount)
            self._tend(account, now_s)

    async def look(self, claims: Claims, *, afresh: bool = False) -> None:
        """Hear what accounts have left of which nothing is known here, within `SOFT_S`.

        Args:
            afresh: also of those that were heard before, and within `HARD_S`: nobody is kept
                waiting by that but who asked how they stand.
        """
        words = []
        now_s = self._clock()
        for claim in claims:
            if afresh or self.standing(claim).free is None:
                account = self._held.account(claim)
                if account.word is None and account.allowance.may_ask(0, now_s):
                    self._say(account, now_s)
                if account.word is not None:
                    words.append(account.word.done)
        if words:
            await asyncio.wait(words, timeout=HARD_S if afresh else SOFT_S)

    def listen(self, claim: BudgetClaim) -> None:
        """Have it known soon what an account has left, and go on so while this is called."""
        if claim.account not in self._held.live and not self._is_stopping:
            account, now_s = self._held.account(claim), self._clock()
            if account.allowance.may_ask(0, now_s):
                self._say(account, now_s)

    def is_spent(self, claim: AccountClaim) -> bool:
        """Return whether nothing is left of an account, by what is known here.

        What goes unbacked counts as spent while it is under way.
        """
        free = self.standing(claim).free
        account = self._held.live.get(claim.account)
        if free is None or account is None:
            return free is not None and free <= 0
        return free <= account.unbacked + account.untold and not account.allowance.free

    def active(self) -> list[BudgetClaim]:
        """Return those with a limit that were reserved from lately, and have not ended."""
        now_s = self._clock()
        claims = [account.claim for account in self._held.live.values()]
        return [
            claim
            for claim in claims
            if isinstance(claim, BudgetClaim) and now_s < claim.ends_s and claim.limit < MAX_AMOUNT
        ]

    def standing(self, claim: AccountClaim) -> BudgetStanding:
        """Return how an account stands, by what is known here."""
        return self._held.standing(claim)

    def granted(self, claim: AccountClaim) -> int:
        """Return the largest amount that a call reserved here in an account."""
        return self._held.granted(claim)

    # -- a call ------------------------------------------------------------------------------------

    async def _complete(
        self, grant: Grant, missing: Sequence[int], amounts: Sequence[int], *, may_refuse: bool
    ) -> None:
        """Ask accounts side by side for what does not fit; raise why, where one refuses."""
        asking = [self._obtain(grant, n, amounts[n], may_refuse=may_refuse) for n in missing]
        found = [await asking[0]] if len(asking) == 1 else await asyncio.gather(*asking)
        refusals = [refusal for refusal in found if refusal is not None]
        if refusals:  # being spent is no matter of trying again
            raise next((one for one in refusals if isinstance(one, BudgetSpent)), refusals[0])

    async def _obtain(
        self, grant: Grant, n: int, amount: int, *, may_refuse: bool
    ) -> DispatchError | None:
        """Fill in the reservation of one account; return why it refuses, if it does."""
        account, claim = grant.accounts[n], grant.claims[n]
        may_refuse = may_refuse and claim.budget.may_refuse
        own, is_unknown = await self._granted(account, amount, may_refuse=may_refuse)
        grant.reservations[n] = own
        self._tend(account, self._clock())
        if own is None and not may_refuse:
            grant.unbacked[n] = amount
            account.unbacked += amount
        if own is not None or not may_refuse:
            return None
        if is_unknown:
            return BudgetAway(claim.budget.name, is_hard=claim.is_hard)
        return refused(claim, account.standing(claim.limit), amount)

    async def _granted(
        self, account: HeldAccount, amount: int, *, may_refuse: bool
    ) -> tuple[BudgetReservation | None, bool]:
        """Return what an account grants, or its extra lease; and whether it does not answer."""
        is_patient = account.claim.is_hard and may_refuse
        own, is_late = await self._in_time(account, amount, HARD_S if is_patient else SOFT_S)
        # A spent budget has no extra: else a store that is slow had it served on and on.
        is_unknown = account.is_unknown(amount, is_late=is_late)
        may_wait = is_late and may_refuse and not is_patient
        if own is None and is_unknown:
            most = account.fair_extra if may_wait else None
            own = account.allowance.overdraw(amount, is_late=is_late, most=most)
        if own is None and may_wait:
            own, is_late = await self._in_time(account, amount, HARD_S)
            is_unknown = account.is_unknown(amount, is_late=is_late)
            if own is None and is_unknown:
                own = account.allowance.overdraw(amount, is_late=is_late)
        return own, is_unknown

    async def _in_time(
        self, account: HeldAccount, amount: int, patience_s: float
    ) -> tuple[BudgetReservation | None, bool]:
        """Return what an account grants within a time, and whether that passed without a word."""
        try:
            return await self._ask_for(account, amount, patience_s), False
        except TimeoutError:
            return None, True

    async def _ask_for(
        self, account: HeldAccount, amount: int, patience_s: float
    ) -> BudgetReservation | None:
        """Return what the account grants; None where it does not, or is known to be away.

        Calls of one account ask one after the other, and each reply is waited for anew.

        Raises:
            TimeoutError: no reply came in time.
        """
        while True:
            now_s = self._clock()
            own = _from_free(account, amount, now_s)
            word = account.word
            if own is not None or amount > account.allowance.limit:
                return own
            if word is not None:  # another call's, or nobody's
                await asyncio.wait([word.done], timeout=patience_s)
                if not word.done.done():
                    raise TimeoutError
            elif not account.allowance.may_ask(amount, now_s):
                return None
            else:
                return await self._reply_to(account, amount, patience_s)

    async def _reply_to(
        self, account: HeldAccount, amount: int, patience_s: float
    ) -> BudgetReservation | None:
        word = self._say(account, self._clock(), amount)
        try:
            await asyncio.wait([word.done], timeout=patience_s)
        except asyncio.CancelledError:
            if word.done.done() and (own := word.done.result()) is not None:
                account.allowance.settle(own, 0)
            word.is_awaited = False
            raise
        if word.done.done():
            return word.done.result()
        word.is_awaited = False  # what is granted later is free here
        raise TimeoutError

    # -- the accounts ------------------------------------------------------------------------------

    def _say(self, account: HeldAccount, now_s: float, amount: int = 0) -> AccountWord:
        """Send the next word to an account of which none is under way."""
        asked = account.ask(now_s, amount)
        assert asked is not None
        overrun = account.allowance.overrun
        word = account.word = AccountWord(asked, overrun=overrun, is_awaited=amount > 0)
        self._carry(account, word)
        return word

    def _say_last(self, account: HeldAccount, now_s: float) -> AccountWord:
        asked = account.allowance.leave(now_s)
        assert asked is not None
        overrun = account.allowance.overrun
        word = account.word = AccountWord(asked, overrun=overrun, is_awaited=False)
        self._carry(account, word)
        return word

    def _carry(self, account: HeldAccount, word: AccountWord) -> None:
        hear = partial(self._hear, account, word)
        self._line.say(account.claim.account, account.allowance.holder, word.asked, hear)

    def _hear(self, account: HeldAccount, word: AccountWord, answer: TakeAnswer | None) -> None:
        now_s, allowance = self._clock(), account.allowance
        account.word, own = None, None
        if answer is None:
            allowance.miss(word.asked, now_s)
        else:
            is_forgotten = answer.is_old and allowance.heard is None
            if not answer.is_old:
                account.told = word.overrun
                account.recorded = word.asked.mine + answer.granted
            own = allowance.hear(word.asked, answer, now_s)
            if is_forgotten:
                self._recall(account)
        if own is not None and not word.is_awaited:
            allowance.settle(own, 0)
            own = None
        word.done.set_result(own)
        self._tend(account, now_s)

    def _recall(self, account: HeldAccount) -> None:
        """Have an allowance that began from nothing go on from what its account has on record."""

        def hear(held: bytes | None) -> None:
            if held is not None:
                account.allowance.recall(*map(int, held.split()))

        self._line.look_up(account.claim.account, account.allowance.holder, hear)

    def _tend(self, account: HeldAccount, now_s: float) -> None:
        """See to it that the next word leaves when it is due; park who has none to say."""
        if self._is_stopping or account.word is not None:
            return
        allowance = account.allowance
        due_s = allowance.due_s(now_s)
        if due_s == math.inf:
            if account.n_open == 0 and allowance.is_at_rest:
                self._rest(account, now_s)
            return
        due_s = max(due_s, now_s + SOON_S)
        if account.timer is not None:
            if account.due_s <= due_s:
                return
            account.timer.cancel()
        account.due_s = due_s
        account.timer = asyncio.get_running_loop().call_later(due_s - now_s, self._due, account)

    def _rest(self, account: HeldAccount, now_s: float) -> None:
        """Let go of an account that holds nothing, and has nothing to say."""
        self._held.park(account, now_s)

    def _due(self, account: HeldAccount) -> None:
        account.timer = None
        now_s = self._clock()
        if account.word is None and account.allowance.due_s(now_s) <= now_s:
            self._say(account, now_s)
        else:
            self._tend(account, now_s)


def _from_free(account: HeldAccount, amount: int, now_s: float) -> BudgetReservation | None:
    """Return a reservation without any I/O; none of what no account of this limit can have."""
    if amount > account.allowance.limit:
        return None
    return account.allowance.reserve(amount, now_s)
