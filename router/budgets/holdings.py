"""What one process holds of the accounts of budgets: one allowance an account, until it ends.

Who gave everything back is *parked*: of its allowance stay the number of its last word and what it
spent, in some 200 bytes, as no later allowance of this process may begin from nothing. Beyond
`MAX_HELD` those parked that end first are forgotten: the account has both on record.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Protocol

from router.budgets.standings import BudgetStanding
from telemetry.allowances import LEASE_S, BudgetAllowance, BudgetReservation
from telemetry.budget_accounts import BudgetPeriod, TakeAsked

MAX_HELD = 100_000
"""Accounts known to a process: 20 MB."""
KEPT_S = 3600.0
"""How long one is known after its period ended: calls that began before reserve for later attempts
there."""
WORST_CASES = 4
"""How many of the dearest calls fit into a lease at least: so a store that is away, or slow, stops
nobody at once."""
_PARKED = struct.Struct("<qqqq?")
_KEY = struct.Struct("<QIQ")


class AccountClaim(Protocol):
    """What has to be allowed, and by which account."""

    @property
    def account(self) -> BudgetPeriod:
        """Whose, and of which period."""

    @property
    def limit(self) -> int:
        """What all may come to in it."""

    @property
    def is_hard(self) -> bool:
        """Whether it is never exceeded."""

    @property
    def ends_s(self) -> int:
        """When its period ends, in epoch seconds."""


class AccountWord:
    """A word to an account that is under way, for a call that waits for it or for none."""

    __slots__ = ("asked", "done", "is_awaited", "overrun")

    def __init__(self, asked: TakeAsked, *, overrun: int, is_awaited: bool) -> None:
        """Begin to wait.

        Args:
            overrun: of which the account is told by it.
        """
        self.asked = asked
        self.overrun = overrun
        self.done: asyncio.Future[BudgetReservation | None] = (
            asyncio.get_running_loop().create_future()
        )
        self.is_awaited = is_awaited


class HeldAccount:
    """An account that this process lately reserved from."""

    __slots__ = (
        "allowance",
        "claim",
        "due_s",
        "granted",
        "largest",
        "n_open",
        "recorded",
        "timer",
        "told",
        "unbacked",
        "word",
    )

    def __init__(self, claim: AccountClaim, allowance: BudgetAllowance) -> None:
        """Begin with nothing open."""
        self.claim = claim
        self.allowance = allowance
        self.word: AccountWord | None = None  # under way
        self.timer: asyncio.TimerHandle | None = None
        self.due_s = 0.0  # when the timer goes off, if there is one
        self.n_open = 0  # grants that are not settled
        self.largest = 0  # amount that a call asked for
        self.granted = 0  # the largest that was reserved for a call
        self.recorded = allowance.spent  # by this process, as the account last had it
        self.told = 0  # of the overrun, in all
        self.unbacked = 0  # what open grants go for without a reservation

    def follow(self, claim: AccountClaim) -> None:
        """Go by what the claim of a configuration says, whichever came last."""
        if claim is not self.claim:
            self.claim = claim
            self.allowance.is_hard = claim.is_hard
            if claim.limit != self.allowance.limit:
                self.allowance.set_limit(claim.limit, lease=self.allowance.lease)

    def ask(self, now_s: float, amount: int) -> TakeAsked | None:
        """Return the next word, with a lease by what is used here by now.

        A lease is twice what calls of half its time come to: renewed before it is used up.
        """
        allowance = self.allowance
        wanted = max(2 * allowance.drawn, WORST_CASES * self.largest)
        allowance.lease = min(wanted, allowance.limit)
        return allowance.ask(now_s, amount)

    def standing(self, limit: int) -> BudgetStanding:
        """Return how the account stands under a limit; one may change from claim to claim."""
        allowance, heard = self.allowance, self.allowance.heard
        debited = allowance.limit - heard.free if heard is not None else None
        return BudgetStanding(
            spent=allowance.spent,
            held=allowance.reserved + allowance.free,
            untold=self.untold,
            debited=debited,
            free=limit - debited if debited is not None else None,
            n_words=allowance.seq,
            is_unknown=allowance.is_unknown,
            ready=allowance.free,
            others=max(debited - self.recorded, 0) if debited is not None else 0,
        )

    @property
    def untold(self) -> int:
        """What was spent beyond what was granted, and the account does not know of."""
        return self.allowance.overrun - self.told + self.allowance.extra

    def is_unknown(self, amount: int, *, is_late: bool) -> bool:
        """Return whether nobody knows if an amount is left: what was heard last may say it is not.

        Args:
            is_late: the account was asked, and did not reply in time.
        """
        if is_late:
            return self.claim.is_hard or not self.allowance.lacks(amount)
        return self.allowance.is_unknown and amount <= self.claim.limit

    @property
    def fair_extra(self) -> int:
        """What may go on without a word of a store that is busy: a lease, or less near the end.

        Else several processes would exceed a small budget by the whole of it in one moment.
        """
        heard, lease = self.allowance.heard, self.allowance.lease
        if heard is None or heard.is_recovering:
            return lease
        return min(lease, max(heard.free, 0) // (2 * max(heard.n_live, 1)))

    def stop_timer(self) -> None:
        """Have the timer not go off."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Holdings:
    """All accounts of a process."""

    def __init__(
        self, holder: Callable[[], bytes], *, lease_s: float = LEASE_S, most: int = MAX_HELD
    ) -> None:
        """Begin without any.

        Args:
            holder: id of the process's producer, once it has one.
        """
        self._holder = holder
        self._lease_s = lease_s
        self._most = most
        self.live: dict[BudgetPeriod, HeldAccount] = {}
        self._parked: dict[int, dict[bytes, bytes]] = {}  # by when the period ends
        self.n_parked = 0

    @property
    def holder(self) -> str:
        """The name by which accounts know this process."""
        return self._holder().hex()

    def account(self, claim: AccountClaim) -> HeldAccount:
        """Return the account of a claim, with the claim's limit."""
        account = self.live.get(claim.account)
        if account is None:
            spent, seq, _, granted = self.parked(claim) or (0, 0, None, 0)
            self._drop(claim)
            allowance = BudgetAllowance(
                self.holder,
                limit=claim.limit,
                lease=0,
                lease_s=self._lease_s,
                is_hard=claim.is_hard,
                spent=spent,
                seq=seq,
            )
            account = self.live[claim.account] = HeldAccount(claim, allowance)
            account.granted = granted
        else:
            account.follow(claim)
        return account

    def standing(self, claim: AccountClaim) -> BudgetStanding:
        """Return how an account stands, by what is known here."""
        account = self.live.get(claim.account)
        if account is not None:
            return account.standing(claim.limit)
        spent, n_words, debited, _ = self.parked(claim) or (0, 0, None, 0)
        if debited is None:
            return BudgetStanding(spent=spent, n_words=n_words)
        return BudgetStanding(
            spent=spent,
            debited=debited,
            free=claim.limit - debited,
            n_words=n_words,
            others=max(debited - spent, 0),
        )

    def granted(self, claim: AccountClaim) -> int:
        """Return the largest amount that a call reserved here in an account."""
        account = self.live.get(claim.account)
        if account is not None:
            return account.granted
        return (self.parked(claim) or (0, 0, None, 0))[-1]

    def park(self, account: HeldAccount, now_s: float) -> None:
        """Keep of an account that is at rest what a later one goes on from."""
        account.stop_timer()
        claim, allowance = account.claim, account.allowance
        self.live.pop(claim.account, None)
        if now_s < claim.ends_s + KEPT_S:
            heard = allowance.heard
            debited = allowance.limit - heard.free if heard else 0
            kept = allowance.spent, allowance.seq, debited, account.granted, heard is not None
            place = self._parked.setdefault(claim.ends_s, {})
            self.n_parked += _key(claim) not in place
            place[_key(claim)] = _PARKED.pack(*kept)
        self._forget(now_s)

    def parked(self, claim: AccountClaim) -> tuple[int, int, int | None, int] | None:
        """Return what is known of a parked one: None if nothing is.

        What it spent, the number of its last word, what all had then, and its largest reservation.
        """
        data = self._parked.get(claim.ends_s, {}).get(_key(claim))
        if data is None:
            return None
        spent, seq, debited, granted, is_heard = _PARKED.unpack(data)
        return spent, seq, debited if is_heard else None, granted

    def _drop(self, claim: AccountClaim) -> None:
        gone = self._parked.get(claim.ends_s, {}).pop(_key(claim), None)
        self.n_parked -= gone is not None

    def _forget(self, now_s: float) -> None:
        """Forget what ended, and beyond the most what ends first."""
        while self._parked:
            ends_s = min(self._parked)
            place = self._parked[ends_s]
            if not place or now_s >= ends_s + KEPT_S:
                self.n_parked -= len(self._parked.pop(ends_s))
            elif len(self.live) + self.n_parked > self._most:
                del place[next(iter(place))]
                self.n_parked -= 1
            else:
                return


def _key(claim: AccountClaim) -> bytes:
    account = claim.account
    return _KEY.pack(account.digest, account.start_s, account.length_s)
