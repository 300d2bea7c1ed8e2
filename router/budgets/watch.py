"""The task that follows budgets: what is spent of each, whom to warn, and what money costs.

Once a second, and only where accounts are in use. What is waited for, and what takes processor
time, happens in a thread; what calls read is changed in the loop alone.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

import structlog

from router.beliefs.beliefs import Beliefs
from router.budgets.account_names import AccountNames
from router.budgets.call_mix import CallKind
from router.budgets.claims import BudgetClaim
from router.budgets.expected_calls import calls_to_come
from router.budgets.pacing import AccountPaces
from router.budgets.prices import MoneyPrices
from router.budgets.solving import SolvedPrice, solve_price
from router.budgets.standings import BudgetStanding
from router.budgets.turned_away import TurnedAway, Turnings
from router.budgets.warnings import (
    MARKS,
    BudgetWarning,
    WarningBook,
    announce,
    passed_marks,
    warning_of,
)
from router.config.budgets import NANO, BudgetUnit
from telemetry.budget_accounts import BudgetPeriod
from telemetry.budget_rows import NOTHING_FOLDED, FoldedSpend, read_folded
from telemetry.store import Address, Client, StoreErrors, connect

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
LINGER_S = 10.0
"""After a period's end its accounts are looked at for so long: what was spent last is folded."""
AT_ONCE = 2000
"""Accounts looked at in one second; of more, some each time."""
MAX_PACED = 64
"""Accounts of which a price is worked out; those that are spent the fastest."""
TIMEOUT_S = 2.0


class ActiveAccounts(Protocol):
    """Where calls reserve."""

    def active(self) -> list[BudgetClaim]:
        """Return the accounts that were reserved from lately, and have not ended."""

    def standing(self, claim: BudgetClaim) -> BudgetStanding:
        """Return how an account stands, by what is known here."""


@dataclass(slots=True)
class WatchedAccount:
    """An account in use, as it was last looked at."""

    claim: BudgetClaim
    folded: FoldedSpend = NOTHING_FOLDED
    solved_for: tuple[object, ...] = ()
    said: set[tuple[int, int]] = field(default_factory=set)  # limits and marks that were warned of
    turned_away: TurnedAway | None = None
    reserved: int = 0  # in this process, where a call was turned away
    is_named: bool = False  # in the store, where its digest alone would not tell what it is


@dataclass(frozen=True, slots=True)
class _PaceAsked:
    """What an account's price is worked out from."""

    watched: WatchedAccount
    mix: Sequence[tuple[float, CallKind]]
    spent_here: int


class BudgetWatch:
    """Follows the budgets of one process."""

    def __init__(
        self,
        address: Address,
        accounts: ActiveAccounts,
        prices: MoneyPrices,
        *,
        n_shards: int,
        beliefs: Callable[[], Beliefs],
        now_s: Callable[[], float],
        warned: Counter[tuple[str, str]],
        turnings: Turnings,
    ) -> None:
        """Follow none yet.

        Args:
            prices: where calls look what money costs.
            now_s: returns epoch seconds by the store's clock.
            warned: by budget and percent, how many warnings were said here.
            turnings: calls that budgets turned away.
        """
        self.watched: dict[BudgetPeriod, WatchedAccount] = {}
        self.paces = AccountPaces()
        self._address, self._accounts, self.prices = address, accounts, prices
        self._n_shards, self._beliefs, self.now_s = n_shards, beliefs, now_s
        self._warned, self._turnings = warned, turnings
        self.on_warned: Callable[[BudgetWarning, BudgetClaim], None] = lambda warning, claim: None
        self._book = WarningBook()
        self._names = AccountNames()
        self._client: Client | None = None
        self._turn = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to follow."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End that; what is known of the pace is kept."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        with suppress(*StoreErrors):
            await asyncio.to_thread(self._keep)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self.look()
            except StoreErrors:
                continue  # the writer says so
            except Exception as error:  # whatever it is, the next look may go well
                log.error("budgets could not be looked at", error=type(error).__name__)

    async def look(self) -> None:
        """Look once.

        Raises:
            redis.RedisError, OSError: the store is away.
        """
        now_s = self.now_s()
        chosen = self._choose(now_s)
        if not chosen:
            return
        asked = self._asked(chosen)
        said, solved = await asyncio.to_thread(self._look, chosen, asked, now_s)
        for warning, watched in said:
            self._warned[warning.budget, str(warning.percent)] += 1
            announce(warning, watched.claim)
            self.on_warned(warning, watched.claim)
        alive = {of: one for of, one in self.prices.solved.items() if of in self.watched}
        self.prices.solved = MappingProxyType({**alive, **solved})
        self.prices.kept = MappingProxyType(self.paces.prices(now_s))

    def folded(self, account: BudgetPeriod) -> int | None:
        """Return what is folded of an account, as it was last looked at; None: it was not."""
        known = self.watched.get(account)
        if known is None or known.folded is NOTHING_FOLDED:
            return None
        return known.folded.amount

    def standing(self, claim: BudgetClaim) -> BudgetStanding:
        """Return how an account stands, by what is known in this process alone."""
        return self._accounts.standing(claim)

    def totals(self) -> dict[str, tuple[int, int]]:
        """Return of each budget what its accounts in use here may spend, and what is folded."""
        now_s, found = self.now_s(), dict[str, tuple[int, int]]()
        for one in self.watched.values():
            if one.claim.ends_s > now_s:
                limit, spent = found.get(one.claim.budget.name, (0, 0))
                found[one.claim.budget.name] = limit + one.claim.limit, spent + one.folded.amount
        return found

    def _choose(self, now_s: float) -> list[WatchedAccount]:
        """Return the accounts to look at now; those that ended a while ago are dropped."""
        for claim in self._accounts.active():
            if claim.budget.only_steers:  # reports say how those stand
                continue
            known = self.watched.get(claim.account)
            if known is None:
                self.watched[claim.account] = WatchedAccount(claim)
            else:
                known.claim = claim  # its limit may be another by now
        for turned in self._turnings.take():
            own = self.watched.setdefault(turned.claim.account, WatchedAccount(turned.claim))
            own.turned_away = turned.over(own.turned_away)
        for account in [a for a, w in self.watched.items() if now_s > w.claim.ends_s + LINGER_S]:
            del self.watched[account]
            self.prices.drop(account)
        every = list(self.watched.values())
        for one in every:
            if one.turned_away is not None:
                stands = self._accounts.standing(one.claim)
                one.reserved = stands.held - stands.ready
        if len(every) <= AT_ONCE:
            return every
        begin = self._turn % len(every)
        self._turn = begin + AT_ONCE
        return (every + every)[begin : begin + AT_ONCE]

    def _asked(self, chosen: Sequence[WatchedAccount]) -> list[_PaceAsked]:
        money = [one for one in chosen if one.claim.budget.unit is BudgetUnit.MONEY]
        if len(money) > MAX_PACED:
            money = heapq.nlargest(MAX_PACED, money, key=self._pressure)
        return [
            _PaceAsked(one, mix, self._accounts.standing(one.claim).spent)
            for one in money
            if (mix := self.prices.mix_of(one.claim.account))
        ]

    def _pressure(self, watched: WatchedAccount) -> float:
        """Return which part of its limit an account would come to at its own speed."""
        claim, spent = watched.claim, watched.folded.amount
        passed = (self.now_s() - claim.account.start_s) / claim.account.length_s
        return spent / max(passed, 0.01) / max(claim.limit, 1)

    # -- in a thread ---------------------------------------------------------------------------

    def _look(
        self, chosen: Sequence[WatchedAccount], asked: Sequence[_PaceAsked], now_s: float
    ) -> tuple[list[tuple[BudgetWarning, WatchedAccount]], dict[BudgetPeriod, SolvedPrice]]:
        """Read what is folded; return whom to warn, and prices that were solved anew."""
        if self._client is None:
            self._client = connect(self._address, timeout_s=TIMEOUT_S)
        self.paces.load(self._client, now_s=now_s)
        accounts = [one.claim.account for one in chosen]
        folded = read_folded(self._client, self._n_shards, accounts)
        for one, spend in zip(chosen, folded, strict=True):
            one.folded = spend
        self._name(self._client, chosen, now_s)
        said = self._warn(self._client, chosen, now_s)
        beliefs, solved = self._beliefs(), {}
        for each in asked:
            found = self._solve(each, beliefs, now_s)
            if found is not None:
                solved[each.watched.claim.account] = found
        self.paces.keep(self._client, now_s=now_s)
        return said, solved

    def _name(self, client: Client, chosen: Sequence[WatchedAccount], now_s: float) -> None:
        fresh = [one for one in chosen if one.claim.budget.each and not one.is_named]
        self._names.tell(client, [one.claim for one in fresh], now_s=now_s)
        for one in fresh:
            one.is_named = True

    def _warn(
        self, client: Client, chosen: Sequence[WatchedAccount], now_s: float
    ) -> list[tuple[BudgetWarning, WatchedAccount]]:
        due: dict[str, tuple[BudgetWarning, WatchedAccount]] = {}
        for one in chosen:
            for mark in _marks(one):
                if (one.claim.limit, mark) not in one.said:
                    warning = warning_of(one.claim, mark, one.folded.amount, at_s=now_s)
                    due[warning.field] = warning, one
        fresh = self._book.say_first(client, [warning for warning, _ in due.values()])
        for warning, one in due.values():
            one.said.add((warning.limit, warning.percent))
        return [due[warning.field] for warning in fresh]

    def _solve(self, asked: _PaceAsked, beliefs: Beliefs, now_s: float) -> SolvedPrice | None:
        watched = asked.watched
        claim, folded = watched.claim, watched.folded
        record = self.paces.noted(claim.account, folded.n_calls, now_s)
        state = (id(beliefs), folded, asked.spent_here, claim.limit)
        if record is None or state == watched.solved_for or now_s >= claim.ends_s:
            return None
        calls = calls_to_come(record.now, record.last, record.since, at_s=now_s)
        if calls is None:
            return None
        solved = solve_price(
            asked.mix,
            beliefs,
            left_usd=(claim.limit - max(folded.amount, asked.spent_here)) / NANO,
            calls=calls,
            other_prices=lambda claims: self._other_price(claims, claim.account),
        )
        if solved is not None:
            watched.solved_for = state
            self.paces.take(claim.account.digest, solved.price, now_s)
        return solved

    def _other_price(self, claims: Sequence[BudgetClaim], account: BudgetPeriod) -> float:
        return self.prices.expected(tuple(one for one in claims if one.account != account))

    def _keep(self) -> None:
        if self._client is not None:
            try:
                self.paces.keep(self._client, now_s=self.now_s(), at_once=True)
            finally:
                self._client.close()


def _marks(watched: WatchedAccount) -> list[int]:
    """Return which marks an account has passed: the last one also by a call that it refuses."""
    spent, limit = watched.folded.amount, watched.claim.limit
    marks, turned = passed_marks(spent, limit), watched.turned_away
    if MARKS[-1] in marks or turned is None:
        return marks  # most often
    # What is reserved may be among what is folded, and comes back.
    is_used_up = turned.is_used_up(max(spent - watched.reserved, 0), limit)
    return [*marks, MARKS[-1]] if is_used_up else marks
