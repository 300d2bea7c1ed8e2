"""An answer that is poured: what arrives is taken at once, as long as more is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import httpx
import pytest
import uvloop

from router.net.answer import Answer
from router.net.connection import MAX_UNREAD_BYTES, Connection

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def in_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    @wraps(test)
    def run() -> None:
        uvloop.run(asyncio.wait_for(test(), 20))

    return run


class Wire(asyncio.Transport):
    """The provider's side of a connection, as far as it is told something."""

    def __init__(self) -> None:
        super().__init__()
        self.is_read = True

    def write(self, data: Any) -> None:
        pass

    def abort(self) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True


class Taker:
    """Takes what comes; declines what is `refused`."""

    def __init__(self, refused: bytes = b"") -> None:
        self.taken: list[bytes] = []
        self.refused = refused

    def __call__(self, data: bytes) -> bool:
        self.taken.append(data)
        return data != self.refused


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def begun() -> tuple[Connection, Answer, Wire]:
    loop = asyncio.get_running_loop()
    connection = Connection(loop, on_free=lambda _: None, on_lost=lambda _: None)
    wire = Wire()
    connection.connection_made(wire)
    answer = connection.exchange(b"GET", b"", is_head=False)
    connection.data_received(HEAD)
    return connection, answer, wire


async def pouring(answer: Answer, take: Callable[[bytes], bool]) -> asyncio.Task[bool]:
    task = asyncio.create_task(answer.pour(take))
    await asyncio.sleep(0)
    return task


@in_a_loop
async def test_what_arrives_is_taken_before_the_loop_turns() -> None:
    connection, answer, _ = begun()
    take = Taker()
    connection.data_received(chunk(b"before"))
    task = await pouring(answer, take)

    for n in range(3):
        connection.data_received(chunk(b"a%d" % n) + chunk(b"b%d" % n))
        assert take.taken[-1] == b"a%db%d" % (n, n)
    connection.data_received(chunk(b"last") + b"0\r\n\r\n")

    assert take.taken == [b"before", b"a0b0", b"a1b1", b"a2b2", b"last"]
    assert await task


@in_a_loop
async def test_who_takes_no_more_gets_the_rest_once_it_asks_again() -> None:
    connection, answer, wire = begun()
    take = Taker(refused=b"full")
    task = await pouring(answer, take)

    connection.data_received(chunk(b"full"))
    connection.data_received(chunk(b"x" * (MAX_UNREAD_BYTES + 1)))

    assert not await task
    assert take.taken == [b"full"]
    assert not wire.is_read
    task = await pouring(answer, take)
    assert take.taken[1:] == [b"x" * (MAX_UNREAD_BYTES + 1)]
    assert wire.is_read
    connection.data_received(b"0\r\n\r\n")
    assert await task


@in_a_loop
async def test_what_came_is_taken_before_its_connection_is_missed() -> None:
    connection, answer, _ = begun()
    take = Taker()
    task = await pouring(answer, take)

    connection.data_received(chunk(b"some"))
    connection.connection_lost(None)

    with pytest.raises(httpx.RemoteProtocolError):
        await task
    assert take.taken == [b"some"]


@in_a_loop
async def test_a_fault_of_who_takes_is_raised_where_it_waits() -> None:
    connection, answer, _ = begun()

    def take(data: bytes) -> bool:
        raise LookupError(data)

    task = await pouring(answer, take)
    connection.data_received(chunk(b"odd"))

    with pytest.raises(LookupError, match="odd"):
        await task


@in_a_loop
async def test_who_was_cancelled_takes_nothing_any_more() -> None:
    connection, answer, _ = begun()
    take = Taker()
    task = await pouring(answer, take)

    task.cancel()
    connection.data_received(chunk(b"late"))

    with pytest.raises(asyncio.CancelledError):
        await task
    assert take.taken == []
    assert await anext(answer) == b"late"
