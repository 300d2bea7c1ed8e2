"""What a process knows of units is bounded and small, and what it forgot the store tells it."""

from __future__ import annotations

import asyncio
import os
import random
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import LEARN, ROUTED, Provider, Sidecar, endpoint, serving
from msgspec import structs

from bandit.steps import Step
from router.decision import shared_draws
from router.decision.draws import MAX_UNITS, RENEW_S, Draws
from router.decision.recent import RecentlyUsed
from router.decision.shared_draws import StoredDraw
from router.decision.store_line import MAX_UNWRITTEN
from router.decision.units import SESSION_IDLE_S, SESSION_S, Unit
from telemetry import conversations, keys
from telemetry.store import Address

NOWHERE = Address("unix:///nowhere/store.sock")
NOW = 1_700_000_000.0


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine may be busy: a look-up that takes long says nothing here."""
    monkeypatch.setattr(shared_draws, "LOOK_UP_S", 2.0)


def key(i: int) -> bytes:
    return i.to_bytes(16)


def session(i: int = 0) -> Unit:
    return Unit(key(i), True, 0.0)


def given(endpoint_: int, at: float = NOW) -> StoredDraw:
    return StoredDraw(endpoint_, 0.25, int(at * 1000), 7, Step.STAY)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


# -- the table ----------------------------------------------------------------------------------


def test_what_goes_was_used_less_recently_than_all_that_stays() -> None:
    chance, most = random.Random(5), 8
    table, used = RecentlyUsed(most), dict[bytes, bytes]()
    for _ in range(5000):
        name = key(chance.randrange(24))
        if chance.random() < 0.5:
            value = table.get(name)
            assert value is None or value == used.pop(name)
        else:
            value = chance.randbytes(4)
            table.put(name, value)
            used.pop(name, None)
        if value is not None:
            used[name] = value

        held = {n for n in used if n in table._young or n in table._old}
        assert len(held) == len(table) <= most
        assert held == set(list(used)[-len(held) :])
        assert len(held) >= min(len(used), most // 2)


def test_what_is_dropped_is_gone() -> None:
    table = RecentlyUsed(4)
    for i in range(4):
        table.put(key(i), b"x")

    table.drop(key(0))
    table.drop(key(3))
    table.drop(key(9))

    assert [table.get(key(i)) for i in range(4)] == [None, b"x", b"x", None]
    assert len(table) == 2


# -- what this process knows --------------------------------------------------------------------


def test_a_known_draw_comes_back_as_it_was_given() -> None:
    draws, slot = Draws(NOWHERE), Unit(key(1), False, NOW + 600.5)
    exact = StoredDraw(2**64 - 1, 1 / 3, 1_700_000_000_123, 2**40, Step.ONLY_ALLOWED)
    draws.keep(key(0), exact, session(), now=NOW)
    draws.keep(key(1), exact, slot, now=NOW)

    assert draws.get(key(0), now=NOW) == draws.get(key(1), now=NOW) == exact
    assert draws.get(key(2), now=NOW) is None


def test_a_slot_ends_with_its_span_however_much_it_is_used() -> None:
    draws = Draws(NOWHERE)
    draws.keep(key(0), given(1), Unit(key(0), False, NOW + 600.5), now=NOW)

    assert draws.get(key(0), now=NOW + 600.4) == given(1)
    assert draws.get(key(0), now=NOW + 600.5) is None
    assert draws.n_known == 0


def test_a_session_ends_when_it_was_idle_and_after_a_day_at_most() -> None:
    draws, now = Draws(NOWHERE), NOW
    draws.keep(key(0), given(1), session(), now=now)
    draws.keep(key(1), given(1), session(1), now=now)
    while now < NOW + SESSION_S - SESSION_IDLE_S:
        now += SESSION_IDLE_S - 0.5
        assert draws.get(key(0), now=now) == given(1)

    assert draws.get(key(1), now=NOW + SESSION_IDLE_S) is None
    assert draws.get(key(0), now=NOW + SESSION_S - 0.5) == given(1)
    assert draws.get(key(0), now=NOW + SESSION_S) is None


def test_a_unit_takes_less_than_200_bytes() -> None:
    most = MAX_UNITS // 8
    draws = Draws(NOWHERE, most=most)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for i in range(most):
            fresh = StoredDraw(int.from_bytes(os.urandom(8)), i / most, i << 20, i << 10, Step.STAY)
            draws.keep(os.urandom(16), fresh, session(), now=NOW + i)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert draws.n_known == most
    assert (after - before) / most <= 180  # the allocator rounds key and value up: 17 more


# -- what it forgot, or could not write ---------------------------------------------------------


def test_a_unit_that_was_dropped_keeps_its_draw(address: Address, client: Any) -> None:
    async def run() -> None:
        draws, now = Draws(address, most=4), time.time()
        draws.start()
        units = [session(i) if i % 2 else Unit(key(i), False, now + 600) for i in range(40)]
        for i, unit in enumerate(units):
            await draws.claim(key(i), given(i, now), unit, now=now)
        await until(lambda: not draws.shared.n_unwritten and draws.shared.answers)
        assert draws.n_known <= 4

        for i, unit in enumerate(units):
            held = draws.get(key(i), now=now)
            if held is None:
                held = await draws.claim(key(i), given(99, now + 1), unit, now=now + 1)
                await until(lambda: not draws.shared.n_unwritten)  # should the store be slow
                held = draws.get(key(i), now=now + 1) or held
            assert held == given(i, now)
        await draws.stop()

    asyncio.run(asyncio.wait_for(run(), 30))
    assert client.pttl(keys.draw(key(2).hex())) <= 600_000


def test_a_session_that_is_dropped_between_its_calls_goes_on(address: Address, client: Any) -> None:
    """Its process never knows it for long enough to push its end out later."""
    name = keys.draw(key(0).hex())

    async def run() -> None:
        draws, now = Draws(address, most=2), time.time()
        draws.start()
        await draws.claim(key(0), given(1, now), session(), now=now)
        await until(lambda: not draws.shared.n_unwritten)
        client.pexpire(name, 60_000)  # a while later
        held = None
        while held != given(1, now):  # the store may be slow at first
            await until(lambda: not draws.shared.n_unwritten)
            for i in (1, 2, 3):
                draws.keep(key(i), given(i, now), session(i), now=now)
            assert draws.get(key(0), now=now) is None
            held = await draws.claim(key(0), given(2, now + 1), session(), now=now)

        await until(lambda: client.pttl(name) > (SESSION_IDLE_S - RENEW_S) * 1000)
        await draws.stop()

    asyncio.run(asyncio.wait_for(run(), 30))


def test_a_conversation_and_a_stand_in_that_were_dropped_are_found_again(address: Address) -> None:
    async def run() -> None:
        draws, now = Draws(address, most=2), time.time()
        draws.start()
        draws.note_conversation(key(0), given(1, now), now=now)
        await draws.claim(key(1), given(2, now), session(1), now=now)
        await until(lambda: not draws.shared.n_unwritten and draws.shared.answers)
        for i in (2, 3, 4):
            draws.keep(key(i), given(i, now), session(i), now=now)

        async def found(i: int) -> StoredDraw | None:
            """What is found once the store is quick enough."""
            while True:
                if i == 0:
                    got = await draws.find_conversation(key(0), now=now)
                else:
                    got = await draws.find_stand_in(key(i), session(i), first=given(9), now=now)
                if got is not None or draws.shared.answers:
                    return got
                await asyncio.sleep(0.01)

        assert await found(0) == given(1, now)
        assert await found(1) == given(2, now)
        assert await found(7) is None
        await draws.stop()

    asyncio.run(asyncio.wait_for(run(), 30))


def test_a_store_without_room_takes_no_new_draw_and_what_it_knows_holds(
    address: Address, client: Any
) -> None:
    """What it was told before holds everywhere; a new draw holds where it was made, untold."""

    async def run() -> None:
        room = True
        first, second = Draws(address), Draws(address, has_room=lambda: room)
        for draws in (first, second):
            draws.start()
        await first.claim(key(1), given(1), session(1), now=NOW)
        first.note_conversation(key(2), given(2), now=NOW)
        await until(lambda: first.shared.n_unwritten == 0)
        n_keys, room = client.dbsize(), False

        assert await second.claim(key(1), given(9), session(1), now=NOW) == given(1)
        assert await second.find_conversation(key(2), now=NOW) == given(2)
        ended = given(1)
        mine = await second.claim(key(1), given(8), session(1), now=NOW, instead_of=ended)
        assert mine == given(8)
        assert await second.claim(key(3), given(3), session(3), now=NOW) == given(3)
        second.note_conversation(key(4), given(4), now=NOW)
        assert second.get(key(3), now=NOW) == given(3)
        assert second.get(key(4), now=NOW) == given(4)
        assert second.shared.n_unwritten == 0
        assert client.dbsize() == n_keys
        room = True
        assert await second.claim(key(5), given(5), session(5), now=NOW) == given(5)
        assert client.dbsize() == n_keys + 1
        for draws in (first, second):
            await draws.stop()

    asyncio.run(run())


def test_what_came_about_without_the_store_is_written_in_its_order(
    address: Address, client: Any
) -> None:
    async def run() -> None:
        draws, now = Draws(address), time.time()
        first, second = given(1, now), given(2, now + 1)
        for i in range(1200):
            await draws.claim(key(i), first, session(i), now=now)
        await draws.claim(key(7), second, session(7), now=now, instead_of=first)
        draws.note_conversation(key(5000), first, now=now)
        client.set(keys.draw(key(8).hex()), given(3, now).pack())
        assert draws.shared.n_unwritten == 1202

        draws.start()
        await until(lambda: not draws.shared.n_unwritten)

        stored = [StoredDraw.unpack(client.get(keys.draw(key(i).hex()))) for i in range(1200)]
        assert stored == [{7: second, 8: given(3, now)}.get(i, first) for i in range(1200)]
        assert stored == [draws.get(key(i), now=now) for i in range(1200)]
        assert client.execute_command(*conversations.look_up(key(5000))) == (
            first.pack_conversation()
        )
        assert draws.shared.n_disagreed >= 1
        await draws.stop()

    asyncio.run(asyncio.wait_for(run(), 30))


def test_beyond_a_bound_the_oldest_are_not_written_and_none_takes_over_200_bytes() -> None:
    async def run() -> None:
        draws = Draws(NOWHERE, most=2)
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for i in range(MAX_UNWRITTEN + 100):
                await draws.claim(key(i), given(i), session(i), now=NOW, instead_of=given(i + 1))
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert draws.shared.n_unwritten == MAX_UNWRITTEN
        assert (after - before) / MAX_UNWRITTEN < 200

    asyncio.run(asyncio.wait_for(run(), 30))


def test_calls_follow_their_draws_though_hardly_any_is_remembered(
    provider: Provider, state_dir: Path, address: Address, client: Any
) -> None:
    """Declared sessions, and users' days. Drawn anew they would come to the same endpoint as at
    first, so what is stored is made to name another one."""
    endpoints = [endpoint(provider, name) for name in "abcd"]
    value = {"endpoints": endpoints, "strategies": LEARN, "apps": ROUTED}
    with serving(value, state_dir, address) as sidecar:
        draws = sidecar.app.draws
        draws._known = RecentlyUsed(2)
        units: list[Any] = [{"headers": {"x-router-session-id": f"s{i}"}} for i in range(12)]
        units += [{"user": f"u{i}"} for i in range(12)]
        first = [served(sidecar, unit) for unit in units]
        sidecar.until(lambda: draws.shared.n_unwritten == 0)
        assert len(set(first)) > 1
        for name in list(client.scan_iter(keys.draw("*"))):
            stored = StoredDraw.unpack(client.get(name))
            assert stored is not None
            moved = structs.replace(stored, endpoint=sidecar.digest("a"))
            client.set(name, moved.pack(), keepttl=True)

        for unit in units:
            sidecar.until(lambda u=unit: served(sidecar, u) == "a")  # the store may be slow
        assert draws.n_known <= 2


def served(sidecar: Sidecar, unit: dict[str, Any]) -> str:
    return sidecar.chat(**unit).headers["x-router-endpoint"]
