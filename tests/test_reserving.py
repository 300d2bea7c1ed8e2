"""Calls reserve before they are sent: from what is held here, else at the store, else as told."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import Provider, endpoint, serving

from router.budgets.allowances import Allowances, Grant
from router.budgets.claims import BudgetClaim, find_claims
from router.budgets.holdings import KEPT_S, Holdings
from router.budgets.standings import told
from router.config.budgets import BudgetEntry, BudgetSpan, OnSpent, compile_budgets
from router.errors import BudgetAway, BudgetSpent
from telemetry.budget_accounts import BudgetAccounts
from telemetry.clock import steady
from telemetry.embedded import PID_FILE, PrivateServer
from telemetry.store import Address

pytestmark = pytest.mark.anyio
HOLDER = b"h" * 16
NOBODY: dict[str, str | None] = dict.fromkeys(("app", "user", "tag", "role", "strategy"))


def claim(
    limit: int = 1000,
    *,
    name: str = "all",
    is_hard: bool = True,
    on_spent: OnSpent = OnSpent.REFUSE,
    at_s: float | None = None,
) -> BudgetClaim:
    """A claim in tokens; all claims of one name and unit are of one account."""
    entry = BudgetEntry(per=BudgetSpan.DAY, tokens=limit, hard=is_hard, on_spent=on_spent)
    at_s = steady() if at_s is None else at_s
    (found,) = find_claims(compile_budgets({name: entry}), NOBODY, user_key="", at_s=at_s)
    return found


@asynccontextmanager
async def reserving(
    address: Address, holder: bytes = HOLDER, **more: Any
) -> AsyncIterator[Allowances]:
    allowances = Allowances(address, lambda: holder, **more)
    allowances.start()
    try:
        yield allowances
    finally:
        await allowances.stop()


async def reserve(allowances: Allowances, of: BudgetClaim, amount: int, **more: Any) -> Grant:
    return await allowances.reserve((of,), [amount], **more)


async def until(is_so: Any, within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not is_so():
            await asyncio.sleep(0.005)


@pytest.fixture
def accounts(store: PrivateServer, client: Any) -> BudgetAccounts:
    return BudgetAccounts(client)


@contextmanager
def silent(store: PrivateServer) -> Iterator[None]:
    """A store that takes words and answers none."""
    pid = int((store.directory / PID_FILE).read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_what_calls_came_to_is_all_that_stays_debited_after_the_end(
    address: Address, accounts: BudgetAccounts
) -> None:
    of = claim()
    async with reserving(address) as allowances:
        grants = [await reserve(allowances, of, 100) for _ in range(5)]
        for grant in grants:
            allowances.settle(grant, [30])
            allowances.settle(grant, [30])
        assert allowances.active() == [of]
        assert allowances.standing(of).spent == 150

    read = accounts.read(of.account)
    assert (read.debited, read.takes, read.n_live) == (150, {HOLDER.hex(): 150}, 0)


async def test_a_hard_budget_is_never_exceeded_however_many_ask_at_once(
    address: Address, accounts: BudgetAccounts
) -> None:
    of = claim(1000)
    async with reserving(address) as one, reserving(address, b"i" * 16) as other:
        asking = [reserve(each, of, 70) for each in (one, other) for _ in range(20)]
        got = await asyncio.gather(*asking, return_exceptions=True)

        granted = [grant for grant in got if isinstance(grant, Grant)]
        refused = [error for error in got if isinstance(error, BudgetSpent)]
        assert len(granted) + len(refused) == 40
        assert 10 <= len(granted) <= 1000 // 70
        assert accounts.read(of.account).debited <= 1000
    assert accounts.read(of.account).debited == 70 * len(granted)


async def test_of_two_budgets_none_is_taken_from_where_the_other_refuses(
    address: Address, accounts: BudgetAccounts
) -> None:
    wide, narrow = claim(1000, name="wide"), claim(50, name="narrow")
    async with reserving(address) as allowances:
        with pytest.raises(BudgetSpent) as refusal:
            await allowances.reserve((wide, narrow), [60, 60])

        assert refusal.value.told["budget"] == "narrow"
        assert refusal.value.told["left"] == 50
        grant = await allowances.reserve((wide, narrow), [60, 50])
        assert not allowances.is_spent(wide)
        assert allowances.is_spent(narrow)
        allowances.settle(grant, [60, 50])
    assert accounts.read(wide.account).debited == 60
    assert accounts.read(narrow.account).debited == 50


@pytest.mark.parametrize("may_refuse", [True, False])
async def test_who_is_not_refused_goes_unbacked_and_the_account_exceeds_its_limit(
    address: Address, accounts: BudgetAccounts, may_refuse: bool
) -> None:
    on_spent = OnSpent.CHEAPEST if may_refuse else OnSpent.REFUSE
    of = claim(100, is_hard=False, on_spent=on_spent)
    async with reserving(address) as allowances:
        for _ in range(3):
            grant = await reserve(allowances, of, 80, may_refuse=may_refuse)
            allowances.settle(grant, [80])
        await until(lambda: accounts.read(of.account).debited == 240)
        await until(lambda: allowances.standing(of).free == -140)  # once the reply is here

        assert allowances.is_spent(of)
        with pytest.raises(BudgetSpent, match="240 of 100 tokens"):
            await reserve(allowances, claim(100), 1)


async def test_a_call_that_is_cancelled_while_it_waits_leaves_nothing_reserved(
    address: Address, store: PrivateServer, accounts: BudgetAccounts
) -> None:
    of = claim()
    async with reserving(address) as allowances:
        allowances.settle(await reserve(allowances, of, 10), [10])
        with silent(store):
            waiting = asyncio.create_task(reserve(allowances, of, 500))
            await asyncio.sleep(0.02)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        await until(lambda: not allowances.standing(of).is_unknown)
        allowances.settle(await reserve(allowances, of, 900), [0])
    assert accounts.read(of.account).debited == 10


async def test_a_silent_store_is_waited_for_briefly_then_soft_goes_on_for_a_lease(
    address: Address, store: PrivateServer
) -> None:
    soft, hard = claim(10_000, is_hard=False, name="soft"), claim(10_000, name="hard")
    async with reserving(address) as allowances:
        for of in (soft, hard):
            allowances.settle(await reserve(allowances, of, 100), [100])
        with silent(store):
            began = asyncio.get_running_loop().time()
            got = await asyncio.gather(
                *(reserve(allowances, soft, 390) for _ in range(12)), return_exceptions=True
            )
            soft_s = asyncio.get_running_loop().time() - began
            with pytest.raises(BudgetAway, match="hard"):
                await reserve(allowances, hard, 1000)
            hard_s = asyncio.get_running_loop().time() - began - soft_s

            assert [type(one) for one in got].count(Grant) >= 1
            away = [one for one in got if isinstance(one, BudgetAway)]
            assert away
            assert {str(one).split(" has")[0] for one in away} == {"what budget soft"}
            assert soft_s < 0.5  # once the lease is used it is waited for as for a hard one
            assert 0.1 < hard_s < 0.4


async def test_a_soft_budget_near_its_end_goes_by_what_a_busy_store_says(
    address: Address, store: PrivateServer
) -> None:
    of = claim(10, is_hard=False)
    async with reserving(address) as one, reserving(address, b"i" * 16) as other:
        for each in (one, other):
            await each.look((of,))
        with silent(store):
            calls = [
                asyncio.create_task(reserve(each, of, 1))
                for _ in range(30)
                for each in (one, other)
            ]
            await asyncio.sleep(0.05)
        got = await asyncio.gather(*calls, return_exceptions=True)

        n_granted = [type(one) for one in got].count(Grant)
        assert {type(one) for one in got} == {Grant, BudgetSpent}
        assert 10 <= n_granted <= 10 + 10 // 2  # both go on by a fourth of what was left


async def test_a_soft_budget_that_is_spent_refuses_however_slow_the_store(
    address: Address, store: PrivateServer
) -> None:
    of = claim(100, is_hard=False)
    async with reserving(address) as allowances:
        allowances.settle(await reserve(allowances, of, 100, may_refuse=False), [100])
        await until(lambda: allowances.is_spent(of))
        await asyncio.sleep(0.15)  # it may be asked again
        with silent(store), pytest.raises(BudgetSpent):
            await reserve(allowances, of, 10)


async def test_without_a_store_what_is_held_is_spent_and_nobody_waits(address: Address) -> None:
    hard = claim(1_000)
    away = Address("unix:///tmp/pm-no-store.sock")
    async with reserving(away) as allowances:
        for _ in range(3):
            with pytest.raises(BudgetAway):
                await reserve(allowances, hard, 1)
        assert isinstance(await reserve(allowances, hard, 0), Grant)
        assert isinstance(await reserve(allowances, hard, 5, may_refuse=False), Grant)


async def test_a_store_that_was_killed_is_told_everything_once_it_is_back(
    address: Address, store: PrivateServer, accounts: BudgetAccounts
) -> None:
    of = claim(1000)
    async with reserving(address) as allowances:
        allowances.settle(await reserve(allowances, of, 100), [60])
        pid = int((store.directory / PID_FILE).read_text())
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        grant = await reserve(allowances, of, 100)  # of what is held here
        with pytest.raises(BudgetAway):
            await reserve(allowances, of, 900)
        allowances.settle(grant, [40])
        store.revive()

        await until(lambda: accounts.read(of.account).debited >= 100)
        with pytest.raises(BudgetAway):  # it recovers: others may yet say what they hold
            await reserve(allowances, of, 900)


async def test_after_a_restart_of_the_store_few_calls_wait_for_no_more_than_a_lease_and_a_half(
    address: Address, store: PrivateServer
) -> None:
    of, lease_s = claim(10_000), 2.0
    async with reserving(address, lease_s=lease_s) as allowances:

        async def is_served(amount: int) -> bool:
            try:
                allowances.settle(await reserve(allowances, of, amount), [1])
            except BudgetAway:
                return False
            return True

        assert await is_served(100)
        await asyncio.sleep(0.6 * lease_s)
        pid = int((store.directory / PID_FILE).read_text())
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        store.revive()
        began, refused_s = steady(), 0.0
        while steady() - began < 1.5 * lease_s + 1:
            if await is_served(5000):  # more than it holds
                break
            refused_s = steady() - began
            await asyncio.sleep(0.2)
    assert 0 < refused_s < 1.5 * lease_s


async def test_what_is_not_used_goes_back_and_is_parked_and_taken_up_again(
    address: Address, accounts: BudgetAccounts
) -> None:
    of, at_s = claim(1000), 0.0
    async with reserving(address, clock=lambda: steady() + at_s) as allowances:
        allowances.settle(await reserve(allowances, of, 100), [30])
        for _ in range(4):
            at_s += 5
            for account in list(allowances._held.live.values()):
                account.stop_timer()
                allowances._due(account)
            await asyncio.sleep(0.05)

        assert not allowances._held.live
        assert accounts.read(of.account).debited == 30
        assert allowances.standing(of).spent == 30
        allowances.settle(await reserve(allowances, of, 970), [970])
        assert allowances.is_spent(of)
    assert accounts.read(of.account).takes == {HOLDER.hex(): 1000}


async def test_what_was_forgotten_here_goes_on_from_what_the_account_has_on_record(
    address: Address, accounts: BudgetAccounts
) -> None:
    of = claim(1000)
    async with reserving(address) as allowances:
        allowances.settle(await reserve(allowances, of, 100), [70])
    async with reserving(address) as allowances:  # of the same process, which knows nothing of it
        with pytest.raises(BudgetAway):
            await reserve(allowances, of, 100)
        await until(lambda: allowances.standing(of).spent == 70)
        allowances.settle(await reserve(allowances, of, 930), [930])
        assert allowances.is_spent(of)
    assert accounts.read(of.account).takes == {HOLDER.hex(): 1000}


async def test_a_look_tells_a_new_process_that_an_account_is_spent(
    address: Address, accounts: BudgetAccounts
) -> None:
    of, fresh = claim(100), claim(100, name="fresh")
    async with reserving(address) as allowances:
        allowances.settle(await reserve(allowances, of, 100), [100])
    async with reserving(address, b"i" * 16) as allowances:
        assert not allowances.is_spent(of)
        await allowances.look((of, fresh))

        await until(lambda: allowances.is_spent(of))
        assert not allowances.is_spent(fresh)
        assert allowances.standing(fresh).free == 100
        assert told(of, allowances.standing(of)) == {
            "budget": "all",
            "scope": {},
            "note": "",
            "per": "day",
            "unit": "tokens",
            "limit": 100,
            "spent": 100,
            "held": 0,
            "left": 0,
            "resets_at": resets_at(of),
        }
    assert accounts.read(fresh.account).debited == 0


def resets_at(of: BudgetClaim) -> str:
    return datetime.fromtimestamp(of.ends_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def test_nobody_is_granted_less_than_nothing_or_another_number_of_amounts(
    address: Address,
) -> None:
    of = claim()
    async with reserving(address) as allowances:
        with pytest.raises(ValueError, match="-1"):
            await reserve(allowances, of, -1)
        with pytest.raises(ValueError, match="2 claims"):
            await allowances.reserve((of, of), [1])
        grant = await reserve(allowances, of, 1)
        with pytest.raises(ValueError, match="-2"):
            allowances.settle(grant, [-2])
        allowances.settle(grant, [1])
        assert allowances.standing(of).spent == 1


async def test_what_no_limit_allows_is_refused_without_a_word(address: Address) -> None:
    of = claim(100)
    async with reserving(address) as allowances:
        with pytest.raises(BudgetSpent, match="has 100 tokens left"):
            await reserve(allowances, of, 2**60)
        assert allowances.standing(of).n_words == 0


async def test_parked_accounts_are_forgotten_when_they_ended_and_beyond_the_most() -> None:
    held = Holdings(lambda: HOLDER, most=3)
    claims = [claim(name=f"b{n}") for n in range(5)]
    ended = claim(name="ended", at_s=steady() - 2 * 86_400)
    held.park(held.account(ended), steady())
    assert held.n_parked == 0
    for n, of in enumerate(claims):
        account = held.account(of)
        account.allowance.charge(n)
        held.park(account, steady())

    assert held.n_parked == 3
    assert [held.parked(of) is not None for of in claims] == [False, False, True, True, True]
    assert held.account(claims[4]).allowance.spent == 4
    assert held.n_parked == 2
    held.park(held.account(claims[4]), claims[4].ends_s + KEPT_S)
    assert held.n_parked == 0


async def test_a_limit_that_changes_holds_from_the_next_call_on(address: Address) -> None:
    async with reserving(address) as allowances:
        allowances.settle(await reserve(allowances, claim(1000), 400), [400])
        with pytest.raises(BudgetSpent):
            await reserve(allowances, claim(500), 101)
        allowances.settle(await reserve(allowances, claim(500), 100), [100])
        with pytest.raises(BudgetSpent, match="500 of 500"):
            await reserve(allowances, claim(500), 1)
        allowances.settle(await reserve(allowances, claim(2000), 1500), [1500])


def test_a_sidecar_reserves_under_the_id_of_its_journal_and_gives_back_at_its_end(
    provider: Provider, state_dir: Path, address: Address, accounts: BudgetAccounts
) -> None:
    of = claim()
    with serving({"endpoints": [endpoint(provider, "a")]}, state_dir, address) as sidecar:
        allowances, loop = sidecar.app.allowances, sidecar.running.loop
        reserved = asyncio.run_coroutine_threadsafe(reserve(allowances, of, 100), loop)
        grant = reserved.result(10)
        loop.call_soon_threadsafe(allowances.settle, grant, [40])
        producer = sidecar.app.writer.producer.hex()

    assert accounts.read(of.account).takes == {producer: 40}
