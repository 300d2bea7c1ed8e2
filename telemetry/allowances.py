"""One holder's part of a budget's account: what may be spent now, without asking anybody. Pure.

`reserve` takes from what is free here and does no I/O; `settle` says what it came to. What is to be
said to the account (`budget_accounts`) is made by `ask`, and its reply heard by `hear`, or `miss`
where none came; whoever owns the allowance carries them, one at a time, whenever `due_s` says so.
A call that does not fit into what is free asks at once (`ask` with its amount), where `may_ask`.

The invariant: spent + reserved + held + free is never above what the account was told, or granted,
but for calls that came to more than was reserved for them, a soft budget's extra, and what was
charged without a grant; all are told with the next word. Who gives something up has given it up
when the word leaves, whether or not it arrives.

Times are seconds by a clock that nobody sets and that counts sleep (`clock.steady`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from telemetry.budget_accounts import TakeAnswer, TakeAsked

LEASE_S = 5.0
"""Bounds how long a restarted store grants nothing, and how long a router goes on without one.
UNVALIDATED."""
EARLY = 1 / 16
"""By which part a lease ends sooner here than at the store: clocks do not run alike."""
RETRY_PART = 1 / 20
"""Of a lease, after no reply: what a store forgot is restated well before it grants again."""
RECOVERING_PART = 1 / 8
"""Of a lease, while nothing is granted: an account that hears nobody for a quarter goes on so."""


@dataclass(slots=True)
class BudgetReservation:
    """An amount that one call may come to; settled once."""

    amount: int
    is_extra: bool = False  # beyond what the account granted
    is_settled: bool = False


class BudgetAllowance:
    """What one process may spend of one budget in one period."""

    def __init__(
        self,
        holder: str,
        *,
        limit: int,
        lease: int,
        lease_s: float = LEASE_S,
        is_hard: bool = True,
        spent: int = 0,
        seq: int = 0,
    ) -> None:
        """Begin with nothing, or where one left off that had left the account.

        Args:
            holder: no other allowance of this account ever had the name, but that one.
            limit: of the budget, by this process's configuration.
            lease: the most to hold free.
            spent: by that one.
            seq: number of the last word of that one.
        """
        self.holder = holder
        self.limit = limit
        self.lease = lease
        self.lease_s = lease_s
        self.is_hard = is_hard
        self.spent = spent
        self.reserved = 0
        self.free = 0
        self.extra = 0  # served beyond what the account granted, and that it does not know of
        self._told_extra = 0  # of that, what the word under way says
        self.extra_in_all = 0
        self.overrun = 0  # spent beyond what was reserved, in all
        self.heard: TakeAnswer | None = None
        self._seq = seq
        self._under_way: TakeAsked | None = None
        self._ends_s = -math.inf  # until then `free` may be spent
        self._renewed_s = -math.inf  # when the lease was last asked for
        self._spoken_s = -math.inf  # when anything was said
        self._retry_s = -math.inf  # no reply came: not before then
        self._recovers_s = -math.inf  # nothing is granted before then
        self._short_s = -math.inf  # until then more than `heard.free` is not asked for
        self._is_away = False  # no reply came to the last word
        self._is_over = False  # more is debited than the limit: nothing is free
        self._is_told_soon = False  # something was given up, or charged, that it does not know of
        self._is_quiet = True
        self._has_changed = False  # since the last renewal
        self._n_still = -1  # renewals since something changed
        self._drawn = [0, 0]  # reserved in this half of the lease, and in the last one
        self._biggest = [0, 0]  # reservation asked for, likewise

    # -- calls -------------------------------------------------------------------------------------

    def reserve(self, amount: int, now_s: float) -> BudgetReservation | None:
        """Return a reservation from what is free here, or None.

        Raises:
            ValueError: the amount is negative.
        """
        if amount < 0:
            raise ValueError(f"a reservation of {amount}")
        self._lapse(now_s)
        self._biggest[0] = max(self._biggest[0], amount)
        if amount > self.free:
            return None
        self.free -= amount
        return self._reserved(amount)

    def overdraw(
        self, amount: int, *, is_late: bool = False, most: int | None = None
    ) -> BudgetReservation | None:
        """Return a reservation although nothing is granted: soft, store away, one lease at most.

        Args:
            is_late: the caller waited for a word under way as long as it can.
            most: instead of one lease.
        """
        is_away = is_late or self.is_unknown
        most = self.lease if most is None else most
        if self.is_hard or not is_away or self.extra + amount > most:
            return None
        self.extra += amount
        self.extra_in_all += amount
        return self._reserved(amount, is_extra=True)

    def settle(self, reservation: BudgetReservation, actual: int) -> None:
        """Take what a call came to for what was reserved; a second time changes nothing.

        What is left of it is free here, and can be spent again at once.

        Raises:
            ValueError: it came to less than nothing.
        """
        if actual < 0:
            raise ValueError(f"a call that came to {actual}")
        if reservation.is_settled:
            return
        reservation.is_settled = True
        self._has_changed = True
        self.reserved -= reservation.amount
        self.spent += actual
        left = reservation.amount - actual
        if reservation.is_extra:
            self.overrun += max(-left, 0)
            return
        self.free += left
        if self.free < 0:
            self.overrun -= self.free
        if self.free < 0 or self._is_over:
            self.free = 0

    def charge(self, actual: int) -> None:
        """Take over what a call came to that nothing was reserved for.

        What is free here pays for it first; the account is told of the rest soon, and takes it even
        beyond its limit.

        Raises:
            ValueError: it came to less than nothing.
        """
        if actual < 0:
            raise ValueError(f"a call that came to {actual}")
        if actual:
            paid = min(actual, self.free)
            self.free -= paid
            self.spent += actual
            self.overrun += actual - paid
            self._has_changed = self._is_told_soon = True

    def set_limit(self, limit: int, *, lease: int) -> None:
        """Go by another limit; under a lower one what is free must be granted anew."""
        if limit < self.limit:
            self.free = 0
            self._is_over = self._is_told_soon = True
        self._short_s = -math.inf  # what did not fit may fit now, and the other way round
        if self.heard is not None:
            self.heard = replace(self.heard, free=self.heard.free + limit - self.limit)
        self.limit, self.lease = limit, lease

    def _reserved(self, amount: int, *, is_extra: bool = False) -> BudgetReservation:
        self.reserved += amount
        self._drawn[0] += amount
        self._has_changed = True
        return BudgetReservation(amount, is_extra)

    def _lapse(self, now_s: float) -> None:
        """Give up what is free once the lease is over: the account may not know of it any more."""
        if now_s >= self._ends_s and self.free:
            self.free = 0

    # -- the account -------------------------------------------------------------------------------

    @property
    def is_asking(self) -> bool:
        """Whether a word is under way."""
        return self._under_way is not None

    @property
    def is_unknown(self) -> bool:
        """Whether what the account has left is not to be had: it did not reply, or recovers."""
        return self._is_away or (self.heard is not None and self.heard.is_recovering)

    def lacks(self, amount: int) -> bool:
        """Return whether the account, as last heard, has less left than a call may come to."""
        known = self.heard
        return known is not None and not known.is_recovering and amount - self.free > known.free

    @property
    def is_at_rest(self) -> bool:
        """Whether it holds nothing, and the account knows all: another may go on from here."""
        return self._is_quiet and not (self._has_changed or self.is_asking or self.reserved)

    @property
    def seq(self) -> int:
        """Number of the last word."""
        return self._seq

    @property
    def drawn(self) -> int:
        """What was reserved in half a lease: in this one or the last one, the larger."""
        return max(self._drawn)

    def recall(self, take: int, seq: int) -> None:
        """Go on from what the account has on record of this holder, who had forgotten it.

        Args:
            take: all of it counts as spent: whoever is forgotten had left.
        """
        self.spent += take
        self._seq = max(self._seq, seq)
        self._is_away, self._retry_s = False, -math.inf

    def may_ask(self, amount: int, now_s: float) -> bool:
        """Return whether the account might grant what is missing for a call."""
        self._lapse(now_s)
        if self.is_asking or now_s < max(self._retry_s, self._recovers_s):
            return False
        known = self.heard.free if self.heard is not None else amount
        return now_s >= self._short_s or amount - self.free <= known

    def due_s(self, now_s: float) -> float:
        """Return from when on a word is due that no call waits for; infinity where none is."""
        recovers = self.heard is not None and self.heard.is_recovering
        if self.is_asking or (self._is_quiet and not (self._has_changed or recovers)):
            return math.inf
        renewal = self._renewed_s + self.lease_s / 2
        if self._is_away:
            return self._retry_s
        if self._is_told_soon:
            return now_s
        if recovers:  # also who left by the word that found it so: calls may come meanwhile
            return min(self._recovers_s, self._spoken_s + self.lease_s * RECOVERING_PART)
        is_used = 2 * self.free < self._target() and self._drawn[0] > 0
        return max(self._short_s, now_s) if is_used and not self._is_low() else renewal

    def ask(self, now_s: float, amount: int = 0) -> TakeAsked | None:
        """Return the next word to the account, for a call of an amount or for none.

        None while one is under way.
        """
        if self.is_asking:
            return None
        self._lapse(now_s)
        self._spoken_s = now_s
        held = min(self.free, amount)
        self.free -= held
        is_renewal = now_s >= self._renewed_s + self.lease_s / 2
        target = self._target()
        if is_renewal:
            self.free = min(self.free, target)
            self._n_still = 0 if self._has_changed else self._n_still + 1
        if amount:
            self._n_still = 0
        # Only after a whole lease without change: by then the store has kept what it was told.
        leaves = self._n_still >= 2 and not self.reserved
        if leaves:
            self.free = 0
        self._is_told_soon, self._told_extra = False, self.extra
        more = 0 if leaves or self._is_low() else max(target - self.free, 0)
        self._seq += 1
        self._under_way = TakeAsked(
            seq=self._seq,
            mine=self.spent + self.reserved + held + self.free,
            want=max(amount - held, min(amount - held + more, self.limit)),
            least=amount - held,
            limit=self.limit,
            lease_ms=0 if leaves else round(self.lease_s * 1000),
            sent_s=now_s,
            amount=amount,
            held=held,
        )
        if is_renewal:
            self._begin_half(now_s)
        return self._under_way

    def leave(self, now_s: float) -> TakeAsked | None:
        """Return the last word: everything but what is spent or reserved goes back.

        None while another is under way. What settles later is told by leaving once more.
        """
        if self.is_asking:
            return None
        self.free = 0
        self._seq += 1
        self._has_changed, self._told_extra = False, self.extra
        mine = self.spent + self.reserved
        self._under_way = TakeAsked(self._seq, mine, 0, 0, self.limit, 0, sent_s=now_s)
        return self._under_way

    def hear(self, asked: TakeAsked, answer: TakeAnswer, now_s: float) -> BudgetReservation | None:
        """Take the account's reply over; return the reservation of the call that waited for it.

        A reply to what is not under way any more changes nothing.
        """
        if asked is not self._under_way:
            return None
        if answer.is_old:  # a repetition of it was heard first, and may have been granted
            self.miss(asked, now_s)
            return None
        self._under_way = None
        self.heard = replace(answer, free=answer.free + self.limit - asked.limit)
        self._is_quiet = asked.lease_ms == 0
        self._is_away = False
        self._recovers_s = now_s + answer.again_s if answer.is_recovering else -math.inf
        is_short = answer.again_s > 0 and not answer.is_recovering
        self._short_s = now_s + answer.again_s if is_short else -math.inf
        self._ends_s = asked.sent_s + asked.lease_ms / 1000 * (1 - EARLY)
        if asked.limit <= self.limit:  # else it is more than the budget has by now
            self.free += answer.granted + asked.held
            self._is_over = answer.free < 0
        if self._is_over:
            self.free = 0
        self._lapse(now_s)
        reservation = self.reserve(asked.amount, now_s) if asked.amount else None
        if asked.amount and reservation is None and self.free and is_short and self._is_low():
            # What is left at each holder may together be what one of them needs.
            self.free, self._is_told_soon = 0, True
        if not answer.is_recovering:
            self._pay_extra()
        return reservation

    def _pay_extra(self) -> None:
        """Take from what is free what was served while the word was under way."""
        untold = self.extra - self._told_extra
        paid = min(untold, self.free)
        self.free -= paid
        self.extra = untold - paid
        self._is_told_soon = self._is_told_soon or untold > 0

    def miss(self, asked: TakeAsked, now_s: float) -> None:
        """Note that no reply came; what it granted, if anything, goes back with the next word."""
        if asked is not self._under_way:
            return
        self._under_way, self._is_away = None, True
        self._retry_s = now_s + self.lease_s * RETRY_PART
        self._renewed_s = -math.inf
        self._has_changed = True  # as far as the account knows
        if not self._is_over:
            self.free += asked.held
        self._lapse(now_s)

    def _target(self) -> int:
        """Return how much to hold free: twice what half a lease uses; at first all."""
        if self.heard is None:
            return self.lease
        return min(self.lease, 2 * max(self._drawn))

    def _is_low(self) -> bool:
        """Return whether the account would grant less than a call may come to: each asks then."""
        if self.heard is None:
            return False
        return self.heard.free // (2 * max(self.heard.n_live, 1)) < max(self._biggest)

    def _begin_half(self, now_s: float) -> None:
        self._renewed_s = now_s
        self._has_changed = False
        self._drawn = [0, self._drawn[0]]
        self._biggest = [0, self._biggest[0]]
