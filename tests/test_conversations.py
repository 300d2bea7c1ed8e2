"""Conversations without a session id lie packed in the store, and are found while they are kept."""

from __future__ import annotations

import asyncio
import math
import random
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given as assuming
from hypothesis import strategies as st

from bandit.steps import Step
from router.decision import shared_draws
from router.decision.draws import Draws
from router.decision.shared_draws import StoredDraw
from router.decision.units import Unit
from telemetry import conversations, keys
from telemetry.conversations import GROUPS, KEPT_S, SPAN_S, SPREAD_S
from telemetry.direct_line import DirectLine
from telemetry.generations import MOST_PARTS
from telemetry.packed import COUNTED, FIELDS, FULL, Command
from telemetry.store import Address

HOUR_S = 3600
FIRST = (int(time.time()) // SPAN_S + 1) * SPAN_S
"""When a span begins, in epoch seconds: notes are given the time until then as well, so that the
store takes them for later ones."""


def key(i: int, *, group: int = 0) -> bytes:
    """Keys as good as random, in one group."""
    drawn = random.Random(i).randbytes(15)
    return (group << 4 | drawn[0] & 15).to_bytes() + drawn


def draw(i: int, at: float = FIRST) -> StoredDraw:
    return StoredDraw(2**64 - 1 - i, 1 / (3 + i), int(at * 1000), 2**31 + i, Step.STAY)


def note(client: Any, keys_: list[bytes], value: bytes, at: float = FIRST) -> list[bytes]:
    """Note conversations as if it were later; return what holds of each."""
    pipeline = client.pipeline(transaction=False)
    for each in keys_:
        ttl_ms = int((KEPT_S + at + 1 - time.time()) * 1000)
        pipeline.execute_command(*conversations.note(each, value, ttl_ms=ttl_ms))
    found: list[bytes] = pipeline.execute()
    return found


def look_up(client: Any, key_: bytes) -> Any:
    return client.execute_command(*conversations.look_up(key_))


def spans(client: Any, group: int = 0) -> list[tuple[int, int]]:
    """Return the spans of a group, counted from the first, and the parts of their generations."""
    said = client.hget(keys.conversations(group), "spans").decode().split()
    pairs = [each.split(":") for each in said]
    return [(int(span) - FIRST // SPAN_S, int(parts)) for span, parts in pairs]


def hashes(client: Any) -> list[bytes]:
    return list(client.scan_iter(keys.conversations_of(0, "*"), count=1000))


async def settled(draws: Draws) -> None:
    async with asyncio.timeout(10):
        while draws.shared.n_unwritten or not draws.shared.answers:
            await asyncio.sleep(0.01)


def with_draws(address: Address, *runs: Callable[[Draws], Awaitable[None]]) -> None:
    """Run each with what another process knows of draws: nothing."""

    async def run() -> None:
        for each in runs:
            draws = Draws(address)
            draws.start()
            await settled(draws)
            await each(draws)
            await settled(draws)
            await draws.stop()

    asyncio.run(asyncio.wait_for(run(), 30))


async def found(draws: Draws, key_: bytes) -> StoredDraw | None:
    """Return what is found once the store is quick enough."""
    while True:
        got = await draws.find_conversation(key_, now=time.time())
        if got is not None or draws.shared.answers:
            return got
        await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy this machine is, a store that is there is heard."""
    monkeypatch.setattr("router.decision.shared_draws.LOOK_UP_S", 5.0)


# -- one conversation ---------------------------------------------------------------------------


@assuming(
    st.integers(0, 2**64 - 1),
    st.floats(0, 1, exclude_min=True),
    st.integers(0, 2**43),
    st.integers(0, 2**64 - 1),
    st.sampled_from(list(Step)),
)
def test_a_draw_comes_back_exactly_in_at_most_thirty_bytes(
    endpoint: int, propensity: float, at_ms: int, version: int, step: Step
) -> None:
    exact = StoredDraw(endpoint, propensity, at_ms, version, step)

    packed = exact.pack_conversation()

    assert StoredDraw.unpack_conversation(packed) == exact
    assert len(packed) <= 30
    assert len(packed) <= 26 or version >= 2**32


@pytest.mark.parametrize("raw", [b"", b"garbage", bytes(21), bytes(31), bytes(16) + b"\x0f" * 6])
def test_what_is_no_draw_is_none(raw: bytes) -> None:
    assert StoredDraw.unpack_conversation(raw) is None


def test_the_step_has_room_in_its_bits() -> None:
    assert len(Step) <= 16


def test_another_process_finds_a_conversation_and_no_other(address: Address) -> None:
    async def notes(draws: Draws) -> None:
        draws.note_conversation(key(1), draw(1), now=time.time())
        draws.note_conversation(key(2, group=15), draw(2), now=time.time())

    async def finds(draws: Draws) -> None:
        assert await found(draws, key(1)) == draw(1)
        assert await found(draws, key(2, group=15)) == draw(2)
        assert await found(draws, key(3)) is None
        assert draws.get(key(1), now=time.time()) == draw(1)

    with_draws(address, notes, finds)


def test_a_note_goes_out_with_the_next_look_up_and_soon_without_one(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a call costs the store one trip, not one for what it asks and one for what it leaves."""
    monkeypatch.setattr(shared_draws, "LOOK_UP_S", 5.0)
    monkeypatch.setattr(shared_draws, "GATHER_S", 60.0)
    trips: list[int] = []
    exchange = DirectLine.exchange

    async def counted(line: DirectLine, commands: Sequence[Command]) -> list[object]:
        trips.append(len(commands))
        return await exchange(line, commands)

    monkeypatch.setattr(DirectLine, "exchange", counted)

    async def notes(draws: Draws) -> None:
        assert await draws.find(key(9), Unit(key(9), True, 0.0), now=time.time()) is None
        draws.note_conversation(key(1), draw(1), now=time.time())
        await asyncio.sleep(0.05)
        assert trips == [1]
        assert await draws.find(key(8), Unit(key(8), True, 0.0), now=time.time()) is None
        assert trips == [1, 2]
        monkeypatch.setattr(shared_draws, "GATHER_S", 0.01)
        draws.note_conversation(key(2), draw(1), now=time.time())
        await settled(draws)
        assert trips == [1, 2, 1]

    with_draws(address, notes)


def test_what_was_noted_first_holds_while_it_is_kept(address: Address, client: Any) -> None:
    """In its span and in later ones."""
    assert note(client, [key(1)], b"first") == [b"first"]
    assert note(client, [key(1)], b"again") == [b"first"]
    note(client, [key(1)], b"later", FIRST + 5 * SPAN_S)
    assert look_up(client, key(1)) == b"first"

    (old,) = (name for name in hashes(client) if f":{FIRST // SPAN_S}:".encode() in name)
    client.delete(old)  # it ended
    assert look_up(client, key(1)) == b"later"

    async def notes(draws: Draws) -> None:
        draws.note_conversation(key(2), draw(1), now=time.time())
        await settled(draws)

    async def is_late(draws: Draws) -> None:
        draws.note_conversation(key(2), draw(2), now=time.time())
        await settled(draws)
        assert draws.shared.n_disagreed == 1

    async def finds(draws: Draws) -> None:
        assert await found(draws, key(2)) == draw(1)

    client.flushall()
    with_draws(address, notes, is_late, finds)


# -- spans --------------------------------------------------------------------------------------


def test_a_conversation_is_found_for_a_day_and_not_for_more_than_a_span_longer(
    client: Any,
) -> None:
    for hour in range(0, 48, 2):
        note(client, [key(hour)], b"%d" % hour, FIRST + hour * HOUR_S)
        kept = [look_up(client, key(before)) for before in range(0, hour + 1, 2)]
        oldest = max(hour - 24, 0)
        assert kept == [
            b"%d" % before if before >= oldest else None for before in range(0, hour + 1, 2)
        ]
        assert [span for span, _ in spans(client)] == [h // 2 for h in range(oldest, hour + 1, 2)]


@pytest.mark.usefixtures("store")  # what ends by itself is the question
def test_all_hashes_end_by_themselves_after_a_day_and_not_all_at_once(client: Any) -> None:
    note(client, [key(i) for i in range(3000)], b"x")

    ends = {name: time.time() + client.pttl(name) / 1000 - FIRST for name in hashes(client)}

    assert len(ends) > 16
    assert min(ends.values()) >= SPAN_S + KEPT_S - 1
    assert max(ends.values()) <= SPAN_S + KEPT_S + SPREAD_S + 1
    assert max(ends.values()) - min(ends.values()) > SPREAD_S * 0.8
    spans_end = time.time() + client.pttl(keys.conversations(0)) / 1000 - FIRST
    assert spans_end >= max(ends.values()) - 1
    assert all(client.ttl(name) > 0 for name in client.scan_iter("*"))


def test_a_span_that_ended_is_not_gone_back_to(client: Any) -> None:
    """What was noted while the store was away, or by a clock that was set back since: a little."""
    note(client, [key(1)], b"new", FIRST + SPAN_S)
    before = set(hashes(client))

    assert note(client, [key(1)], b"late", FIRST - 20 * HOUR_S) == [b"new"]
    assert note(client, [key(2)], b"late", FIRST - 20 * HOUR_S) == [b"late"]

    assert set(hashes(client)) == before
    assert look_up(client, key(2)) == b"late"


def test_a_clock_that_was_far_ahead_for_a_while_keeps_nothing_for_longer(client: Any) -> None:
    note(client, [key(1)], b"ahead", FIRST + 1000 * SPAN_S)
    note(client, [key(2)], b"again right")
    note(client, [key(3)], b"after that", FIRST + SPAN_S)

    found = [look_up(client, key(i)) for i in (1, 2, 3)]

    assert found == [b"ahead", b"again right", b"after that"]
    assert [span for span, _ in spans(client)] == [1000, 0, 1]


def test_a_span_begins_with_as_many_parts_as_the_one_before_it_came_to_need(client: Any) -> None:
    note(client, [key(i) for i in range(1000)], b"x")
    note(client, [key(9000)], b"x", FIRST + SPAN_S)
    uncounted = (COUNTED - 1) * sum(parts for _, parts in spans(client)[:-1])
    span, parts = spans(client)[-1]
    assert span == 1
    assert math.ceil((1000 - uncounted) / FIELDS) <= parts <= math.ceil(1000 / FIELDS)

    note(client, [key(9001)], b"x", FIRST + 3 * SPAN_S)
    assert spans(client)[-1] == (3, 1)


def test_where_there_are_more_than_expected_another_generation_begins_and_all_are_found(
    client: Any,
) -> None:
    """In a burst one has at most eight times the parts of the one before it."""
    names = [key(i) for i in range(1500)]

    for at in range(0, 1500, 100):
        note(client, names[at : at + 100], b"%d" % at)

    assert spans(client) == [(0, 1), (0, 8), (0, 64)]
    assert [look_up(client, name) for name in names] == [
        b"%d" % (i // 100 * 100) for i in range(1500)
    ]


def test_another_generation_has_the_parts_that_are_needed_at_that_pace(client: Any) -> None:
    """Of 192 fields in the first half of the span, as many follow in the second: two parts each."""
    for i in range(FULL):
        note(client, [key(i)], b"x", FIRST + i * SPAN_S / 2 / FULL)

    assert spans(client) == [(0, 1), (0, 2)]


def test_no_generation_has_more_parts_than_two_bytes_tell(client: Any) -> None:
    note(client, [key(0)], b"x")
    client.hset(keys.conversations(0), "n", MOST_PARTS * 100)
    note(client, [key(1)], b"x", FIRST + SPAN_S)
    assert spans(client)[-1] == (1, MOST_PARTS)

    client.hset(keys.conversations(0), "limit", 1)
    note(client, [key(2)], b"x", FIRST + SPAN_S)
    assert spans(client)[-1] == (1, MOST_PARTS)


# -- what they take -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("store")  # what a server takes is the question
def test_a_conversation_takes_at_most_45_bytes_and_all_hashes_stay_packed(client: Any) -> None:
    n_each, value = 20_000, draw(0).pack_conversation()
    names = random.Random(7)
    note(client, [names.randbytes(16) for _ in range(n_each)], value)
    before = int(client.info("memory")["used_memory"])

    for span in range(1, 3):
        note(client, [names.randbytes(16) for _ in range(n_each)], value, FIRST + span * SPAN_S)

    assert (int(client.info("memory")["used_memory"]) - before) / (2 * n_each) <= 45
    for group in range(GROUPS):
        for name in client.scan_iter(keys.conversations_of(group, "*"), count=1000):
            assert client.object("encoding", name) in (b"listpack", b"ziplist")
            assert client.hlen(name) <= 128


# -- what an earlier version left ---------------------------------------------------------------


def test_what_an_earlier_version_noted_is_found_until_it_ends(
    address: Address, client: Any
) -> None:
    """There a conversation was a string, like a unit."""
    name, first = f"pm:draw:{key(1).hex()}", draw(1)
    fields = (first.endpoint, first.propensity, first.decided_at_ms, first.version)
    client.set(name, struct.pack("<QdQQB", *fields, 2), px=86_400_000)

    async def finds_the_first(draws: Draws) -> None:
        assert await found(draws, key(1)) == draw(1)

    async def notes_another(draws: Draws) -> None:
        draws.note_conversation(key(1), draw(2), now=time.time())

    async def finds_the_other(draws: Draws) -> None:
        assert await found(draws, key(1)) == draw(2)

    with_draws(address, finds_the_first, notes_another, finds_the_first)
    client.delete(name)
    with_draws(address, finds_the_other)


def test_what_lies_there_and_cannot_be_read_is_as_if_it_were_not(
    address: Address, client: Any
) -> None:
    client.set(keys.draw(key(1).hex()), b"garbage")
    note(client, [key(1)], draw(1).pack_conversation())
    note(client, [key(2)], b"garbage")

    async def finds(draws: Draws) -> None:
        assert await found(draws, key(1)) == draw(1)
        assert await found(draws, key(2)) is None

    with_draws(address, finds)


# -- a store that refuses -----------------------------------------------------------------------


@pytest.mark.usefixtures("store")  # what a full server says is the question
def test_a_full_store_is_told_when_there_is_room_and_nothing_is_half_written(
    address: Address, client: Any
) -> None:
    client.config_set("maxmemory", "1")

    async def notes(draws: Draws) -> None:
        draws.note_conversation(key(1), draw(1), now=time.time())
        await asyncio.sleep(0.1)
        assert draws.shared.n_unwritten == 1
        assert client.dbsize() == 0
        client.config_set("maxmemory", "0")

    async def finds(draws: Draws) -> None:
        assert await found(draws, key(1)) == draw(1)

    with_draws(address, notes, finds)
