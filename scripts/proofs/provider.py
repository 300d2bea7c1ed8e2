"""A provider on loopback that says exact bytes at exact times, over a bare socket.

A server library would mend what is to be broken: frames, lengths, ends. Here a reply is a list of
steps, and each request that comes is kept with the moment at which it came.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class Send:
    """Bytes in one write."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Wait:
    """Seconds without a byte; they end early with the connection."""

    s: float


class Cut(StrEnum):
    """How a connection ends; without one it is kept for the next request."""

    CLOSE = "close"
    RESET = "reset"


Step = Send | Wait | Cut


@dataclass(frozen=True, slots=True)
class ProviderRequest:
    """One attempt as the provider saw it."""

    at: float  # monotonic seconds
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    n_before: int  # requests on the same connection before this one

    @property
    def model(self) -> str:
        """The model that is asked for."""
        return str(self.body.get("model", ""))

    @property
    def streamed(self) -> bool:
        """Whether a stream is asked for."""
        return self.body.get("stream") is True

    @property
    def asks_usage(self) -> bool:
        """Whether a stream is to end with its usage."""
        return bool((self.body.get("stream_options") or {}).get("include_usage"))


Script = Callable[[ProviderRequest], Sequence[Step]]


@dataclass(slots=True)
class ScriptedProvider:
    """Plays what `script` says to each request; bound at once, so that its port is known."""

    script: Script
    _socket: socket.socket = field(default_factory=socket.socket)
    _open: set[asyncio.Transport] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._socket.bind(("", 0))  # all of 127.0.0.0/8; who comes from elsewhere is cut off

    def url(self, number: int = 0) -> str:
        """Return one of its addresses, without a path.

        Of two numbers the hosts differ: so no client uses a connection of one for the other.
        """
        host = f"127.{1 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
        return f"http://{host if number else '127.0.0.1'}:{self._socket.getsockname()[1]}"

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Serve while the block runs."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: _ProviderConnection(self), sock=self._socket, backlog=BACKLOG
        )
        try:
            yield
        finally:
            server.close()
            for transport in tuple(self._open):
                transport.abort()
            await asyncio.sleep(0)


class _ProviderConnection(asyncio.Protocol):
    """One connection: requests one after another, each answered by its steps."""

    def __init__(self, provider: ScriptedProvider) -> None:
        self._provider = provider
        self._buffer = b""
        self._gone = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._n_before = 0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._provider._open.add(transport)
        if not transport.get_extra_info("peername")[0].startswith("127."):
            transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._take()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone.set()
        self._provider._open.discard(self._transport)

    def _take(self) -> None:
        """Answer the next request once it is there in full and the last one is answered."""
        if self._task is not None:
            return
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        body = json.loads(rest[:length]) if length else {}
        path = first.split(" ")[1]
        request = ProviderRequest(time.monotonic(), path, headers, body, self._n_before)
        self._n_before += 1
        self._task = asyncio.ensure_future(self._play(self._provider.script(request)))

    async def _play(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if self._gone.is_set():
                return
            if isinstance(step, Send):
                self._transport.write(step.data)
                await asyncio.sleep(0)
            elif isinstance(step, Wait):
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._gone.wait(), step.s)
            else:
                self._cut(step)
                return
        self._task = None
        self._take()

    def _cut(self, how: Cut) -> None:
        if how is Cut.CLOSE:
            self._transport.close()
            return
        end = self._transport.get_extra_info("socket")
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()
