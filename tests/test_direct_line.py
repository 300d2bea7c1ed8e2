"""A line to the store brings all replies in order, and never one that was meant for another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import redis
import uvloop
from redis.exceptions import NoScriptError

from telemetry.direct_line import DirectLine, ExchangeLine, line_to
from telemetry.embedded import PrivateServer
from telemetry.store import Address, AwayErrors, connect

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def on_a_server(
    path: Path, answer: Answer, use: Callable[[ExchangeLine], Awaitable[None]]
) -> None:
    """Run `use` with a line to a server that answers as told."""
    server = await asyncio.start_unix_server(answer, path / "s")
    line = line_to(Address(f"unix://{path}/s"), timeout_s=0.3)
    try:
        await use(line)
    finally:
        await line.close()
        server.close()


def test_replies_come_in_order_with_the_servers_errors_among_them(address: Address) -> None:
    async def run() -> None:
        line = line_to(address, timeout_s=5.0)
        assert isinstance(line, DirectLine)
        found = await line.exchange(
            [("SET", "é", b"\x00\r\n"), ("GET", "é"), ("GET", "none"), ("INCR", "é"), ("PING",)]
        )
        missing, wrong = await line.exchange([("EVALSHA", "0" * 40, 0), ("NOTHING",)])
        assert found[:3] == [b"OK", b"\x00\r\n", None]
        assert isinstance(found[3], redis.ResponseError)
        assert not isinstance(found[3], AwayErrors)
        assert found[4] == b"PONG"
        assert isinstance(missing, NoScriptError)
        assert isinstance(wrong, redis.ResponseError)
        await line.close()

    uvloop.run(run())


def test_another_database_and_password_are_said_first(
    store: PrivateServer, address: Address
) -> None:
    with connect(address) as client:
        client.config_set("requirepass", "of the store")
    try:

        async def run() -> None:
            for url, well in (
                (f"{address.url}?db=3&password=of+the+store", True),
                (address.url, False),
            ):
                line = line_to(Address(url), timeout_s=5.0)
                (reply,) = await line.exchange([("SET", "here", "three")])
                assert (reply == b"OK") is well
                await line.close()
            line = line_to(Address(f"{address.url}?password=wrong"), timeout_s=5.0)
            with pytest.raises(redis.RedisError):
                await line.exchange([("PING",)])

        uvloop.run(run())
        with connect(Address(f"{address.url}?db=3&password=of+the+store")) as client:
            assert client.get("here") == b"three"
    finally:
        with connect(Address(f"{address.url}?password=of+the+store")) as client:
            client.config_set("requirepass", "")


def test_a_reply_that_came_too_late_is_nobodys(tmp_path: Path) -> None:
    """After a time-out the next round trip has a connection of its own."""
    n = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal n
        n += 1
        await reader.read(100)
        if n == 1:
            await asyncio.sleep(0.5)
        writer.write(b"+%d\r\n" % n)
        writer.close()

    async def use(line: ExchangeLine) -> None:
        with pytest.raises(redis.TimeoutError):
            await line.exchange([("GET", "a")])
        assert await line.exchange([("GET", "b")]) == [b"2"]
        await asyncio.sleep(0.4)

    uvloop.run(on_a_server(tmp_path, answer, use))


def test_who_is_cancelled_leaves_no_reply_to_the_next(tmp_path: Path) -> None:
    n = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal n
        n += 1
        await reader.read(100)
        await asyncio.sleep(0.1)
        writer.write(b"+%d\r\n" % n)
        writer.close()

    async def use(line: ExchangeLine) -> None:
        asked = asyncio.create_task(line.exchange([("GET", "a")]))
        await asyncio.sleep(0.05)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert await line.exchange([("GET", "b")]) == [b"2"]

    uvloop.run(on_a_server(tmp_path, answer, use))


def test_a_server_that_hangs_up_is_away_and_then_called_again(tmp_path: Path) -> None:
    said = [b"", b"-LOADING the dataset\r\n", b"*1\r\n", b"no reply\r\n", b"+here\r\n"]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(said.pop(0))
        writer.close()

    async def use(line: ExchangeLine) -> None:
        with pytest.raises(redis.ConnectionError):
            await line.exchange([("GET", "a")])
        (reply,) = await line.exchange([("GET", "a")])
        assert isinstance(reply, AwayErrors)
        await asyncio.sleep(0.05)  # it hears that the server hung up
        with pytest.raises(redis.ConnectionError):  # in the middle of a reply
            await line.exchange([("GET", "a")])
        with pytest.raises(redis.RedisError):
            await line.exchange([("GET", "a")])
        assert await line.exchange([("GET", "a")]) == [b"here"]

    uvloop.run(on_a_server(tmp_path, answer, use))


def test_nobody_there_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        uvloop.run(line_to(Address(f"unix://{tmp_path}/none"), timeout_s=1.0).exchange([("PING",)]))


@pytest.mark.parametrize(
    "url", ["rediss://h:1", "redis+cluster://h:1", "redis+sentinel://h:1/name"]
)
def test_what_takes_more_than_a_connection_keeps_its_client(url: str) -> None:
    assert not isinstance(line_to(Address(url), timeout_s=1.0), DirectLine)
