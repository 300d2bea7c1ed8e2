"""Round trips of asyncio to the store, without a client library between where one server is.

A client for every case takes seventy microseconds for a round trip, of which the system's share is
ten; calls wait for a handful. So a plain connection (a socket of this machine, or TCP) is written
to and read from here. Clusters, sentinels and TLS keep the client that knows them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import hiredis
import redis
from redis.exceptions import NoScriptError

from telemetry.address import Topology, parse_topology
from telemetry.scripts import Argument
from telemetry.store import Address, Client, connect_async

AWAY_CODES = ("LOADING", "MASTERDOWN")
"""Words of a server that is not there yet, or not any more."""


class ExchangeLine(Protocol):
    """One round trip at a time."""

    async def exchange(self, commands: Sequence[tuple[Argument, ...]]) -> list[object]:
        """Return the replies to commands, in their order; errors of the server among them.

        Raises:
            redis.RedisError, OSError: the store is away, or too slow: what it did is not known.
        """

    async def close(self) -> None:
        """Let go of the connection; the next round trip makes another one."""


def line_to(address: Address, *, timeout_s: float) -> ExchangeLine:
    """Return a line that connects with its first round trip, and raises after `timeout_s`."""
    topology = parse_topology(address.url)
    if topology.is_cluster or topology.is_sentinel or topology.is_encrypted:
        return _ByClient(connect_async(address, timeout_s=timeout_s))
    return DirectLine(topology, timeout_s=timeout_s)


class _ByClient:
    def __init__(self, client: Client) -> None:
        self._client = client

    async def exchange(self, commands: Sequence[tuple[Argument, ...]]) -> list[object]:
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return list(await pipeline.execute(raise_on_error=False))

    async def close(self) -> None:
        await self._client.aclose()


class DirectLine:
    """A connection to one server, made when it is needed."""

    def __init__(self, topology: Topology, *, timeout_s: float) -> None:
        self._topology, self._timeout_s = topology, timeout_s
        self._connection: _Connection | None = None

    async def exchange(self, commands: Sequence[tuple[Argument, ...]]) -> list[object]:
        """Return the replies to commands, as of `ExchangeLine`."""
        connection = self._connection
        if connection is None or connection.is_closed:
            connection = self._connection = await self._connect()
        return await connection.exchange(commands, within_s=self._timeout_s)

    async def close(self) -> None:
        """Let go of the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop(redis.ConnectionError("the connection was closed"))
            await connection.ended.wait()

    async def _connect(self) -> _Connection:
        of, loop = self._topology, asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s):
                if of.path:
                    _, connection = await loop.create_unix_connection(_Connection, of.path)
                else:
                    _, connection = await loop.create_connection(_Connection, *of.hosts[0])
        except TimeoutError:
            raise redis.TimeoutError("the store cannot be reached in time") from None
        if greeting := _greeting(of):
            for reply in await connection.exchange(greeting, within_s=self._timeout_s):
                if isinstance(reply, Exception):
                    connection.drop(reply)
                    raise reply
        return connection


class _Connection(asyncio.Protocol):
    """One connection, from its begin to its end."""

    def __init__(self) -> None:
        self.is_closed = False
        self.ended = asyncio.Event()  # the transport is gone as well
        self._transport: asyncio.WriteTransport | None = None
        self._replies = hiredis.Reader(protocolError=redis.InvalidResponse, replyError=_error)
        self._found: list[object] = []
        self._n_wanted = 0
        self._done: asyncio.Future[list[object]] | None = None

    async def exchange(
        self, commands: Sequence[tuple[Argument, ...]], *, within_s: float
    ) -> list[object]:
        assert self._transport is not None
        assert self._done is None
        loop = asyncio.get_running_loop()
        self._found, self._n_wanted = [], len(commands)
        done: asyncio.Future[list[object]] = loop.create_future()
        self._done = done
        timer = loop.call_later(within_s, self._give_up)
        self._transport.write(b"".join(map(_pack, commands)))
        try:
            return await done
        except asyncio.CancelledError:  # whoever asked next would be told these replies
            self.drop(redis.ConnectionError("nobody waits any more"))
            raise
        finally:
            timer.cancel()

    def drop(self, error: Exception) -> None:
        self.is_closed = True
        if self._transport is not None:
            self._transport.abort()
        done, self._done = self._done, None
        if done is not None and not done.done():
            done.set_exception(error)

    def _give_up(self) -> None:
        self.drop(redis.TimeoutError("the store did not reply in time"))

    # -- what the transport calls --------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's are not of that class

    def data_received(self, data: bytes) -> None:
        try:
            self._replies.feed(data)
            while len(self._found) < self._n_wanted:
                reply = self._replies.gets()
                if reply is False:  # there is more to come
                    return
                self._found.append(reply)
        except redis.RedisError as error:  # that is no such server
            self.drop(error)
            return
        done, self._done = self._done, None
        if done is not None and not done.done():
            done.set_result(self._found)

    def connection_lost(self, exc: Exception | None) -> None:
        self.drop(redis.ConnectionError("the store closed the connection"))
        self.ended.set()


_pack: Callable[[tuple[Argument, ...]], bytes] = cast(Any, hiredis.pack_command)
"""Its stub takes tuples of one."""


def _error(said: str) -> Exception:
    """Return what a server's error is to us; those that say that it is not there as well."""
    code, _, rest = said.partition(" ")
    if code in AWAY_CODES:
        return redis.ConnectionError(said)
    if code == "NOSCRIPT":
        return NoScriptError(rest)
    return redis.ResponseError(said)


def _greeting(topology: Topology) -> list[tuple[Argument, ...]]:
    """Return what is said at first: who we are, and which of the server's databases is meant."""
    said = topology.credentials
    out: list[tuple[Argument, ...]] = []
    if "password" in said:
        who = (said["username"],) if "username" in said else ()
        out.append(("AUTH", *who, said["password"]))
    if topology.db:
        out.append(("SELECT", topology.db))
    return out
