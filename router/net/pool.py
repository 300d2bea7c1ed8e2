"""The one transport seam, and the connection pool behind it.

A request goes out once, on a connection that nothing is known against; whatever goes wrong is the
caller's to deal with. The one exception is a kept connection that its provider closed while the
request was on its way: then it goes out on a new one, if that can do no harm. No decompression, no
redirects, no cookies, no proxies from the environment. A transport of httpx plugs in as well, as
tests do with `httpx.MockTransport`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple, Protocol, cast

import httpx
from aiohappyeyeballs import start_connection

from router.net.answer import Answer, Header
from router.net.connection import BodyInPieces, Connection

CONNECT_S = 10.0
"""Twice what the SDKs of OpenAI and Anthropic wait; nothing was sent, so it can be tried again."""
KEEPALIVE_S = 30.0
"""Below the idle time-out of the providers' front ends (60 s and more)."""
MAX_IDLE = 128
"""Idle connections kept for one host: two bursts of 64, and far below any limit of descriptors."""
NEXT_ADDRESS_S = 0.25
"""A host's next address is tried beside one that has not answered by then (RFC 8305)."""
TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
MAX_KINDS = 512
"""Rows of names that were seen to be names; clients and endpoints that differ in them are few."""
FRAMING = frozenset((b"host", b"content-length", b"transfer-encoding"))
"""Headers that only the pool writes."""
CHUNKED = b"transfer-encoding: chunked"
_NAME = itemgetter(0)
_LINE = b": ".join


class Origin(NamedTuple):
    """What a connection is good for."""

    host: str
    port: int
    tls: bool


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes, as the wire wants it."""

    url: httpx.URL
    origin: Origin
    authority: bytes  # of the host header
    path: bytes  # with its query
    connect_s: float | None = None  # unset: as long as the pool waits
    opening: bytes = field(init=False)  # of a request's head, behind its method

    def __post_init__(self) -> None:
        opening = b" %b HTTP/1.1\r\nhost: %b" % (self.path, self.authority)
        object.__setattr__(self, "opening", opening)

    @classmethod
    def of(cls, url: httpx.URL) -> Target:
        """Return the target of a URL."""
        tls = url.scheme == "https"
        port = url.port or (443 if tls else 80)
        origin = Origin(url.raw_host.decode("ascii"), port, tls)
        return cls(url, origin, url.netloc, url.raw_path)

    def with_query(self, query: bytes) -> Target:
        """Return where the same request goes with a client's query behind its own."""
        if not query:
            return self
        own = self.url.query
        both = own + b"&" + query if own else query
        return replace(Target.of(self.url.copy_with(query=both)), connect_s=self.connect_s)

    def redirected(self, location: bytes) -> Target | None:
        """Return where a redirect leads, if that is the same host, by TLS at least as before.

        Anywhere else our key is nobody's business.
        """
        try:
            url = self.url.join(location.decode("ascii"))
            there = Target.of(url)
        except (httpx.InvalidURL, UnicodeError, ValueError):
            return None
        same = there.origin == self.origin
        secured = there.origin.tls and not self.origin.tls and there.origin.host == self.origin.host
        if not location or not (same or secured):
            return None
        return replace(there, connect_s=self.connect_s)


class UpstreamResponse(Protocol):
    """An answer whose head is there; names of headers are in lower case."""

    @property
    def status(self) -> int:
        """The status code."""

    @property
    def headers(self) -> Sequence[Header]:
        """The headers, in order."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Return the body's bytes as they arrive."""

    async def aclose(self) -> None:
        """Give the answer up; needed unless it was read to its end."""


class Upstream(Protocol):
    """What a call needs of the network."""

    async def send(
        self,
        method: str,
        target: Target,
        headers: list[Header],
        body: bytes | BodyInPieces,
        *,
        repeatable: bool = False,
    ) -> UpstreamResponse:
        """Send one request; return once the answer's head is there.

        A body in pieces may still be on its way then. What goes wrong with it is raised here, or
        where the answer is read.

        Args:
            headers: names in lower case; host and framing are added.
            repeatable: the provider may be asked twice where it never answered.

        Raises:
            httpx.ConnectError, httpx.ConnectTimeout: no connection could be made.
            httpx.RemoteProtocolError: the connection broke before an answer, or it is no HTTP.
            httpx.LocalProtocolError: the request cannot be put on the wire; nothing was sent.
        """

    async def aclose(self) -> None:
        """Close all connections."""


class Pool:
    """Connections to all providers."""

    def __init__(
        self,
        *,
        connect_s: float = CONNECT_S,
        keepalive_s: float = KEEPALIVE_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._connect_s = connect_s
        self._keepalive_s = keepalive_s
        self._tls = tls
        self._idle: dict[Origin, deque[Connection]] = {}
        self._open: dict[Connection, Origin] = {}
        self._sweep: asyncio.TimerHandle | None = None

    @property
    def n_open(self) -> int:
        """Connections that are open, idle ones included."""
        return len(self._open)

    async def send(
        self,
        method: str,
        target: Target,
        headers: list[Header],
        body: bytes | BodyInPieces,
        *,
        repeatable: bool = False,
    ) -> Answer:
        """Send one request; see `Upstream`."""
        kept, is_head = None, method == "HEAD"
        if isinstance(body, bytes):
            head = write_head(method, target, headers, len(body))
            kept = self._take(target.origin, look=not repeatable)
        else:  # pieces are there once: their connection must not be stale
            head = write_head(method, target, headers, body.length)
        if kept is not None:
            try:
                return await kept.exchange(head, body, is_head=is_head).head()
            except httpx.RemoteProtocolError:
                if not kept.may_repeat(repeatable=repeatable):
                    raise
        connection = await self._connect(target)
        return await connection.exchange(head, body, is_head=is_head).head()

    async def aclose(self) -> None:
        """Close all connections."""
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in list(self._open):
            connection.abort()

    def _take(self, origin: Origin, *, look: bool) -> Connection | None:
        """Return the idle connection that was used last.

        Args:
            look: ask the system whether it was closed this very moment, which takes it 2 µs.
        """
        idle = self._idle.get(origin)
        if not idle:
            return None
        stale_since = time.monotonic() - self._keepalive_s
        while idle:
            connection = idle.pop()
            usable = connection.idle_since > stale_since and connection.is_open
            if usable and (not look or connection.is_quiet):
                return connection
            connection.abort()
        return None

    async def _connect(self, target: Target) -> Connection:
        try:
            async with asyncio.timeout(target.connect_s or self._connect_s):
                return await self._open_connection(target.origin)
        except TimeoutError as error:
            raise httpx.ConnectTimeout("no connection in time") from error
        except OSError as error:  # TLS's errors are among them
            raise httpx.ConnectError(type(error).__name__) from error

    async def _open_connection(self, origin: Origin) -> Connection:
        loop = asyncio.get_running_loop()
        addresses = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
        opened = await start_connection(addresses, happy_eyeballs_delay=NEXT_ADDRESS_S, loop=loop)
        try:
            _, connection = await loop.create_connection(
                lambda: Connection(loop, on_free=self._keep, on_lost=self._forget),
                sock=opened,
                ssl=self._tls_context() if origin.tls else None,
                server_hostname=origin.host if origin.tls else None,
            )
        except BaseException:
            opened.close()
            raise
        if not connection.is_open:
            raise ConnectionResetError
        self._open[connection] = origin
        return connection

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls

    def _keep(self, connection: Connection) -> None:
        """Take a connection back whose exchange is over."""
        origin = self._open[connection]
        idle = self._idle.get(origin)
        if idle is None:
            idle = self._idle[origin] = deque()
        connection.idle_since = time.monotonic()
        idle.append(connection)
        if len(idle) > MAX_IDLE:
            idle.popleft().abort()
        if self._sweep is None:
            self._sweep = connection.loop.call_later(self._keepalive_s / 2, self._close_idle)

    def _forget(self, connection: Connection) -> None:
        key = self._open.pop(connection, None)
        idle = self._idle.get(key) if key is not None else None
        if idle is not None and connection in idle:
            idle.remove(connection)

    def _close_idle(self) -> None:
        """Close what nobody has used for long; come again while anything is left."""
        self._sweep = None
        stale_since = time.monotonic() - self._keepalive_s
        for key, idle in list(self._idle.items()):
            while idle and idle[0].idle_since <= stale_since:
                idle.popleft().abort()
            if not idle:
                del self._idle[key]
        if self._idle:
            loop = asyncio.get_running_loop()
            self._sweep = loop.call_later(self._keepalive_s / 2, self._close_idle)


class Adapted:
    """A transport of httpx behind the seam."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def send(
        self,
        method: str,
        target: Target,
        headers: list[Header],
        body: bytes | BodyInPieces,
        *,
        repeatable: bool = False,
    ) -> UpstreamResponse:
        """Send one request; see `Upstream`."""
        n_body = len(body) if isinstance(body, bytes) else body.length
        length = None if n_body is None else (b"content-length", b"%d" % n_body)
        own = [(b"host", target.authority), length or (b"transfer-encoding", b"chunked")]
        stream = httpx.ByteStream(body) if isinstance(body, bytes) else _Stream(body.pieces)
        request = httpx.Request(method, target.url, headers=own + headers, stream=stream)
        return _AdaptedResponse(await self._transport.handle_async_request(request))

    async def aclose(self) -> None:
        """Close the transport."""
        await self._transport.aclose()


class _Stream(httpx.AsyncByteStream):
    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces


class _AdaptedResponse:
    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers = [(name.lower(), value) for name, value in response.headers.raw]
        self._response = response

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(cast(httpx.AsyncByteStream, self._response.stream))

    async def aclose(self) -> None:
        await self._response.aclose()


def write_head(method: str, target: Target, headers: list[Header], n_body: int | None) -> bytes:
    """Return a request's head.

    Args:
        n_body: bytes of the body; None if it comes in chunks.

    Raises:
        httpx.LocalProtocolError: something in it could be read as more than one request.
    """
    _require_names(tuple(map(_NAME, headers)))
    lines, spoken = [*map(_LINE, headers)], method.encode()
    said = b"".join((spoken, target.path, target.authority, *lines))
    if said.find(b"\n") >= 0 or said.find(b"\r") >= 0 or said.find(b"\0") >= 0:
        raise httpx.LocalProtocolError("a line break or NUL inside a request's head")
    framing = CHUNKED if n_body is None else b"content-length: %d" % n_body
    return b"\r\n".join((spoken + target.opening, *lines, framing, b"", b""))


@lru_cache(MAX_KINDS)
def _require_names(names: tuple[bytes, ...]) -> None:
    if not all(names) or b"".join(names).translate(None, TOKEN) or not FRAMING.isdisjoint(names):
        raise httpx.LocalProtocolError("a header's name is none, or is not the caller's to set")
