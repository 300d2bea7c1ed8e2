"""One process of the proof of budgets: it reserves and settles, and books what it really spends.

What a call will come to is settled when it begins, and booked then, in a file of the process's
own: a provider bills a call whose router dies, too.
"""

from __future__ import annotations

import math
import os
import struct
import time
from collections import deque
from contextlib import closing
from ctypes import c_bool, c_longlong
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from random import Random

from telemetry.allowances import BudgetAllowance, BudgetReservation
from telemetry.budget_accounts import BudgetAccounts, BudgetPeriod, TakeAsked
from telemetry.clock import steady
from telemetry.store import Address, StoreErrors, connect

LEAST, MOST = 10**3, 10**9
"""Of a reservation, nano-USD: from a millionth of a dollar to one."""
UNDER_WAY = 4
"""Calls of a process at once."""
REFUSED_S = 0.001
"""How long a caller takes who was refused at once, without a question to the store."""
PATIENCE = 1.5
"""How long, in leases, a process goes on asking for the last of the money in vain."""
AMOUNT = struct.Struct("<q")


@dataclass(frozen=True, slots=True)
class BudgetGame:
    """What all processes of one run have in common."""

    period: BudgetPeriod
    limit: int
    lease: int
    lease_s: float
    reservations: int  # of each process
    billed: float  # share of what is reserved that calls come to, on average
    pause_s: float  # after each reservation


@dataclass(frozen=True, slots=True)
class BudgetSignals:
    """What is said to all processes; without locks, which a killed one would keep."""

    begin: Event
    in_full: c_bool  # calls come to all that is reserved for them


@dataclass(slots=True)
class BudgetTally:
    """What a process did, and what it was refused."""

    granted: int = 0
    refused: int = 0
    asked: int = 0  # of the store
    missed: int = 0  # without a reply
    unfit: int = 0  # not granted by it

    def write(self, book: Path) -> None:
        """Leave it beside the book."""
        words = self.granted, self.refused, self.asked, self.missed, self.unfit
        book.with_suffix(".tally").write_text(" ".join(map(str, words)))


class BudgetPlayer:
    """One process, which does one thing after the other."""

    def __init__(self, game: BudgetGame, name: str, address: Address, book: Path) -> None:
        self.game = game
        self.tally = BudgetTally()
        self.rng = Random(name)  # noqa: S311 - a game
        self.client = connect(address)
        self.accounts = BudgetAccounts(self.client)
        self.allowance = BudgetAllowance(
            holder_of(name).hex(),
            limit=game.limit,
            lease=game.lease,
            lease_s=game.lease_s,
            is_hard=True,
        )
        self._book = os.open(book, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._under_way: deque[tuple[BudgetReservation, int]] = deque()

    def play(self, done: c_longlong, in_full: c_bool) -> None:
        """Make all reservations but those that a process before this one made."""
        while done.value < self.game.reservations:
            amount, actual = drawn_call(self.rng, self.game.billed, in_full.value)
            asked = self.tally.asked
            was_granted = self._call(amount, actual)
            done.value += 1
            if self.game.pause_s:
                time.sleep(self.game.pause_s)
            elif not was_granted and self.tally.asked == asked:
                time.sleep(REFUSED_S)

    def finish(self) -> None:
        """Spend the last of the money, in ever smaller pieces; end when there is none for long."""
        self._settle(0)
        last = steady()
        while steady() < last + PATIENCE * self.game.lease_s:
            amount = MOST
            while amount >= LEAST:
                if self._call(amount, amount):
                    last = steady()
                else:
                    amount //= 10
            time.sleep(0.02)
        self._settle(0)
        while (asked := self.allowance.leave(steady())) is not None:
            if self._carry(asked):
                return
            time.sleep(0.05)

    def _call(self, amount: int, actual: int) -> bool:
        """Return whether a call was let through; book what it comes to."""
        if self.allowance.due_s(steady()) <= steady():
            self._say(0)
        reservation = self.allowance.reserve(amount, steady())
        if reservation is None and self.allowance.may_ask(amount, steady()):
            reservation = self._say(amount)
            self.tally.unfit += reservation is None
        if reservation is None:
            self.tally.refused += 1
            self._settle(UNDER_WAY // 2)
            return False
        os.write(self._book, AMOUNT.pack(actual))
        self._under_way.append((reservation, actual))
        self.tally.granted += 1
        self._settle(UNDER_WAY - 1)
        return True

    def _settle(self, keep: int) -> None:
        while len(self._under_way) > keep:
            self.allowance.settle(*self._under_way.popleft())

    def _say(self, amount: int) -> BudgetReservation | None:
        asked = self.allowance.ask(steady(), amount)
        return self._carry_for(asked) if asked is not None else None

    def _carry_for(self, asked: TakeAsked) -> BudgetReservation | None:
        self.tally.asked += 1
        try:
            answer = self.accounts.take(self.game.period, self.allowance.holder, asked)
        except StoreErrors:
            self.tally.missed += 1
            self.allowance.miss(asked, steady())
            return None
        return self.allowance.hear(asked, answer, steady())

    def _carry(self, asked: TakeAsked) -> bool:
        missed = self.tally.missed
        self._carry_for(asked)
        return self.tally.missed == missed


def drawn_call(rng: Random, billed: float, in_full: bool) -> tuple[int, int]:
    """Return what a call reserves, and what it will come to."""
    amount = round(math.exp(rng.uniform(math.log(LEAST), math.log(MOST))))
    part = 1 if in_full else min(rng.expovariate(1 / billed), 1)
    return amount, round(amount * part)


def holder_of(name: str) -> bytes:
    """Return the id by which a process is known to the account."""
    return name.encode()


def booked(book: Path) -> int:
    """Return what a process really spent."""
    data = book.read_bytes() if book.exists() else b""
    return sum(amount for (amount,) in AMOUNT.iter_unpack(data[: len(data) // 8 * 8]))


def play_one(
    game: BudgetGame,
    name: str,
    address: Address,
    book: Path,
    done: c_longlong,
    shared: BudgetSignals,
) -> None:
    """Be one process of the game, from when it begins; leave beside the book what it did."""
    player = BudgetPlayer(game, name, address, book)
    shared.begin.wait()
    with closing(player.client):
        player.play(done, shared.in_full)
        player.finish()
    player.tally.write(book)
