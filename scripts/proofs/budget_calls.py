"""Processes of the proof of budgets that reserve as the sidecar's calls do: several at once."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from ctypes import c_bool, c_longlong
from pathlib import Path
from random import Random
from typing import Any

from router.budgets.allowances import Allowances, Grant
from router.budgets.claims import BudgetClaim
from router.config.budgets import Budget, BudgetSpan, BudgetUnit, OnSpent
from router.errors import BudgetAway, BudgetSpent
from scripts.proofs.budget_play import (
    AMOUNT,
    LEAST,
    MOST,
    PATIENCE,
    REFUSED_S,
    UNDER_WAY,
    BudgetGame,
    BudgetSignals,
    BudgetTally,
    drawn_call,
    holder_of,
)
from telemetry.budget_accounts import BudgetPeriod
from telemetry.clock import steady
from telemetry.store import Address

AT_ONCE = (1, 16)


def claim_of(period: BudgetPeriod, limit: int) -> BudgetClaim:
    """Return the claim of the one hard budget that there is."""
    unit, span = BudgetUnit.MONEY, BudgetSpan.HOUR
    budget = Budget("all", 1, {}, unit, limit, {}, span, "UTC", True, OnSpent.REFUSE)
    return BudgetClaim(budget, period, limit)


class CallsPlayer:
    """One process, whose calls are under way side by side."""

    def __init__(self, game: BudgetGame, name: str, allowances: Allowances, book: Path) -> None:
        self.game = game
        self.tally = BudgetTally()
        self._rng = Random(name)  # noqa: S311 - a game
        self._allowances = allowances
        self._claim = claim_of(game.period, game.limit)
        self._book = os.open(book, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    async def play(self, done: c_longlong, in_full: c_bool) -> None:
        """Make all reservations but those that a process before this one made."""
        await asyncio.gather(*(self._calls(done, in_full) for _ in range(UNDER_WAY)))

    async def finish(self) -> None:
        """Spend the last of the money, in ever smaller pieces; end when there is none for long."""
        last = steady()
        while steady() < last + PATIENCE * self.game.lease_s:
            amount = MOST
            while amount >= LEAST:
                if (grant := await self._reserve(amount, amount)) is not None:
                    self._allowances.settle(grant, [amount])
                    last = steady()
                else:
                    amount //= 10
            await asyncio.sleep(0.02)

    async def _calls(self, done: c_longlong, in_full: c_bool) -> None:
        while done.value < self.game.reservations:
            done.value += 1
            amount, actual = drawn_call(self._rng, self.game.billed, in_full.value)
            grant = await self._reserve(amount, actual)
            # A call takes its time. No process may be done before the store forgets: what it spent
            # within the forgotten moment nobody would restate.
            pause_s = UNDER_WAY * self.game.pause_s
            await asyncio.sleep(pause_s or (REFUSED_S if grant is None else 0))
            if grant is not None:
                self._allowances.settle(grant, [actual])

    async def _reserve(self, amount: int, actual: int) -> Grant | None:
        began = self._n_words()
        try:
            grant = await self._allowances.reserve((self._claim,), [amount])
        except (BudgetSpent, BudgetAway) as refusal:
            asked = self._n_words() > began
            self.tally.refused += 1
            self.tally.asked += asked
            self.tally.missed += isinstance(refusal, BudgetAway)
            self.tally.unfit += asked and isinstance(refusal, BudgetSpent)
            return None
        os.write(self._book, AMOUNT.pack(actual))
        self.tally.granted += 1
        self.tally.asked += self._n_words() > began
        return grant

    def _n_words(self) -> int:
        return self._allowances.standing(self._claim).n_words


def play_calls(
    game: BudgetGame,
    name: str,
    address: Address,
    book: Path,
    done: c_longlong,
    shared: BudgetSignals,
) -> None:
    """Be one process of the game, from when it begins; leave beside the book what it did."""
    shared.begin.wait()
    asyncio.run(_play(game, name, address, book, done, shared.in_full))


async def _play(
    game: BudgetGame,
    name: str,
    address: Address,
    book: Path,
    done: c_longlong,
    in_full: c_bool,
) -> None:
    clock = _clock_within(game.period)
    allowances = Allowances(address, lambda: holder_of(name), clock=clock, lease_s=game.lease_s)
    allowances.start()
    player = CallsPlayer(game, name, allowances, book)
    await player.play(done, in_full)
    await player.finish()
    await allowances.stop()
    player.tally.write(book)


def _clock_within(period: BudgetPeriod) -> Callable[[], float]:
    began = steady()
    return lambda: steady() - began + period.start_s


def measured(address: Address, reservations: int) -> dict[str, Any]:
    """Return how long a reservation takes that is made at the store, in ms: median and more."""
    return {
        f"{at_once} at once": asyncio.run(_measured(address, reservations, at_once))
        for at_once in AT_ONCE
    }


async def _measured(address: Address, reservations: int, at_once: int) -> dict[str, float]:
    """Each asks, as it is the first of its account."""
    allowances = Allowances(address, lambda: b"%d" % at_once)
    allowances.start()
    taken: list[float] = []

    async def call(digest: int) -> None:
        claim = claim_of(BudgetPeriod(digest, int(steady()), 3600), 10**9)
        began = time.perf_counter()
        with suppress(BudgetAway):  # a machine that is busy with other things
            allowances.settle(await allowances.reserve((claim,), [MOST // 10]), [LEAST])
        taken.append((time.perf_counter() - began) * 1000)

    for first in range(0, reservations, at_once):
        await asyncio.gather(*(call(first + n) for n in range(at_once)))
    await allowances.stop()
    parts = statistics.quantiles(taken, n=100)
    return {"p50": round(parts[49], 3), "p99": round(parts[98], 3)}
