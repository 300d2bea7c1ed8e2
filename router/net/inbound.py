"""A client's connection: requests as llhttp parses them, served one after another, within limits.

Headers must be small and whole soon, and a body must get on. The common request arrives in one
piece and never starts a clock. An offer to speak something else than HTTP/1.1 is not taken up: the
call is served as if it had not been made.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, cast

import httptools

from router.net.bodies import BodyBudget
from router.net.deadline import Clock, idle_clock_of
from router.net.exchange import Exchange
from router.net.refusals import BROKEN, refusal, refuse_websocket
from router.net.served import MAX_ARRIVED_BYTES, ServedExchange

HEADER_S = 10.0
"""From the connection, or the first byte of a request, to the end of its headers."""
BODY_S = 30.0
"""In so many seconds a body gets on by `BODY_BYTES`, or is whole."""
BODY_BYTES = 16 << 10
"""In `BODY_S`: half of what the slowest modem sends (9.6 kbit/s). Less is nobody who gets on."""
KEEPALIVE_S = 75.0
"""Above the SDKs' own pools' idle time, so that it is they who close."""
MAX_HEADERS = 100
MAX_HEADER_BYTES = 32 << 10
"""Of the URL, the headers, and the trailers behind a body."""
VERSIONS = ("1.1", "1.0")

MAX_FED_BYTES = 512 << 10
"""So much may come before a head is whole, or behind the last piece of a body; with it may come
the end of what was before."""

Serve = Callable[[Exchange], Awaitable[None]]


class _TooLarge(ValueError):
    """What is no request of ours, by its size or version."""


class Reception:
    """What the connections of one server share."""

    def __init__(self, serve: Serve, budget: BodyBudget | None = None) -> None:
        self.serve = serve
        self.budget = budget
        self.connections: set[ClientConnection] = set()


class ClientConnection(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, home: Reception) -> None:
        self.loop = asyncio.get_running_loop()
        self.is_gone = False  # nobody reads what is written any more
        self.writable: asyncio.Event | None = None  # is set once the client reads on
        self.due_at = 0.0  # monotonic seconds: when it goes, while it is idle
        self._home = home
        self._transport: asyncio.Transport = cast(Any, None)
        self.write: Callable[[bytes], None] = cast(Any, None)  # sends; the transport's own
        self._idle: Clock = idle_clock_of(self.loop)
        self._clock: asyncio.TimerHandle | None = None
        self._current: ServedExchange | None = None  # the one that is served
        self._latest: ServedExchange | None = None  # the one whose head came last
        self._waiting: deque[tuple[ServedExchange, Serve]] = deque()  # for those before them
        self._is_paused = False  # we do not read
        self._n_data = self._n_fed = 0  # bytes at hand; those with the request at hand, or more
        self._n_got = 0  # bytes, since the clock was looked at last
        self._whole = True  # the request at hand
        self._in_body = False
        self._is_offer = False  # the head at hand offers another protocol
        self._is_handshake = False  # of a websocket
        self._is_rest = False  # of a body whose request is answered already
        self._refused = False
        self._why = ""
        self._url = b""
        self._plain = b""  # a target that came, and is its path: the next one is the same, mostly
        self._headers: list[tuple[bytes, bytes]] = []
        self._new_parser()

    def _new_parser(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)

    # -- called by the loop -----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock: a connection that says nothing goes as well."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by name
        self.write = self._transport.write
        self._home.connections.add(self)
        self._clock = self.loop.call_later(HEADER_S, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever still serves this connection."""
        self._stop_clock()
        self._idle.remove(self)
        self._home.connections.discard(self)
        self.is_gone = True
        self.resume_writing()
        self._waiting.clear()
        current, self._current, self._latest = self._current, None, None
        if current is not None:
            current.wake()
            if current.gone is not None:
                current.gone()

    def data_received(self, data: bytes) -> None:
        """Parse; time whatever is not whole yet."""
        if self._refused:
            return
        self._idle.remove(self)
        self._n_data = len(data)
        self._n_fed += self._n_data
        try:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as stopped:
                self._feed_rest(data, stopped)
            if not self._whole:
                self._require_small()
        except (httptools.HttpParserError, _TooLarge):
            why = self._why or "this is no HTTP request"
            self._refuse(refusal("400 Bad Request", "bad_request", why))
        if self._whole:
            if self._current is None and not self._refused:
                self._stay_idle()
            elif self._clock is not None:
                self._stop_clock()
        elif self._clock is None:
            self._n_got = 0
            limit_s = BODY_S if self._in_body else HEADER_S
            self._clock = self.loop.call_later(limit_s, self._too_slow)
        else:
            self._n_got += len(data)

    def pause_writing(self) -> None:
        """The client does not read for now."""
        self.writable = asyncio.Event()

    def resume_writing(self) -> None:
        """It does again."""
        if self.writable is not None:
            self.writable.set()
            self.writable = None

    # -- called by the parser ---------------------------------------------------------------

    def _feed_rest(self, data: bytes, stopped: httptools.HttpParserUpgrade) -> None:
        """Parse on: where a request offers another protocol, the parser stops after its head.

        Then a new one is given that head without the offer, and what follows.
        """
        while self._parser.get_method() != b"CONNECT":
            data = self._head_without_offer() + data[stopped.args[0] :]
            self._new_parser()
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as again:
                stopped = again
        message = "CONNECT is not served: this is no proxy"
        self._refuse(refusal("405 Method Not Allowed", "method_not_allowed", message))

    def _head_without_offer(self) -> bytes:
        method, version = self._parser.get_method(), self._parser.get_http_version().encode()
        offers = [value for name, value in self._headers if name == b"upgrade"]
        kept = [header for header in self._headers if header[0] != b"upgrade"]
        protocols = [part.strip().lower() for part in b",".join(offers).split(b",")]
        has_key = any(name == b"sec-websocket-key" for name, _ in kept)
        self._is_handshake = b"websocket" in protocols and (has_key or len(protocols) == 1)
        lines = [b"%b %b HTTP/%b" % (method, self._url, version)]
        lines += [b"%b: %b" % header for header in kept]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def on_message_begin(self) -> None:
        """A request begins."""
        self._url, self._headers, self._n_fed = b"", [], self._n_data
        self._whole = self._in_body = self._is_rest = False

    def on_url(self, url: bytes) -> None:
        """Keep the target, or a piece of it."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; trailers are kept for nobody."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Serve the request, or have it wait for those before it; its body has its own clock."""
        parser = self._parser
        self._is_offer = parser.should_upgrade()
        if self._is_offer:
            return
        if self._clock is not None:
            self._stop_clock()
        version, served = parser.get_http_version(), self._home.serve
        if version not in VERSIONS:
            self._stop_parsing("only HTTP/1.1 is spoken here")
        headers = self._headers
        if self._n_fed > MAX_HEADER_BYTES or len(headers) > MAX_HEADERS:
            self._require_small()  # what is short cannot have too many bytes of them
        self._headers = []
        if self._is_handshake:
            self._is_handshake, served = False, refuse_websocket
        url = raw_path = self._url
        query = b""
        if url != self._plain:
            raw_path, query = _target(url)
            self._plain = url if url == raw_path else b""
        exchange = ServedExchange(
            self, parser.get_method().decode(), raw_path, query, headers, self._home.budget
        )
        if version == "1.0":
            exchange.keep_alive = exchange.in_chunks = False
        elif not parser.should_keep_alive():
            exchange.keep_alive = False
        self._in_body, self._latest = True, exchange
        if self._current is None:
            self._begin(exchange, served)
        else:
            self._pause_reading()
            self._waiting.append((exchange, served))

    def on_body(self, body: bytes) -> None:
        """Keep a piece, unless its request is answered already."""
        self._n_fed = self._n_data  # what comes behind it may be the start of a trailer
        latest = self._latest
        if latest is None or latest.complete:
            return
        latest.arrive(body)
        if latest.n_arrived > MAX_ARRIVED_BYTES:
            self._pause_reading()

    def on_message_complete(self) -> None:
        """The request is whole, or its head is and offers another protocol."""
        if not self._is_offer:
            if self._headers:
                self._require_small()
            self._whole = True
            if self._latest is not None:
                self._latest.end_body()

    def _require_small(self) -> None:
        """Stop where there are too many headers or trailers."""
        headers = self._headers
        n = len(self._url) + sum(len(name) + len(value) for name, value in headers)
        is_endless = self._n_fed > MAX_FED_BYTES
        if len(headers) > MAX_HEADERS or n > MAX_HEADER_BYTES or is_endless:
            self._stop_parsing(f"over {MAX_HEADERS} headers or {MAX_HEADER_BYTES} bytes of them")

    def _stop_parsing(self, why: str) -> None:
        self._why = why
        raise _TooLarge(why)

    # -- requests in their turn -------------------------------------------------------------

    def _begin(self, exchange: ServedExchange, serve: Serve) -> None:
        self._current = exchange
        run = self._run(exchange, serve)  # with a name: to make one up takes as long as the rest
        exchange.task = asyncio.Task(run, loop=self.loop, name="exchange")

    async def _run(self, exchange: ServedExchange, serve: Serve) -> None:
        try:
            await serve(exchange)
        finally:
            if not (exchange.complete or self.is_gone):  # nobody meant it to end like this
                if not exchange.started:
                    self._transport.write(BROKEN)
                self.cut()

    def answered(self, exchange: ServedExchange) -> None:
        """Go on with the next request, or wait for one."""
        self._current = None
        transport = self._transport
        if not exchange.keep_alive:
            transport.close()
        if transport.is_closing():
            return
        if self._waiting:
            self._begin(*self._waiting.popleft())
        else:
            if self._is_paused:
                self.resume_reading()
            self.due_at = time.monotonic() + KEEPALIVE_S
            self._idle.add(self)

    def cut(self) -> None:
        """Close it, the answer unfinished; what was written leaves if it is read."""
        self.is_gone = True
        if self.writable is not None:
            self._transport.abort()
        else:
            self._transport.close()

    def shutdown(self) -> None:
        """Take no further request."""
        last = self._waiting[-1][0] if self._waiting else self._current
        if last is None:
            self._transport.close()
        else:
            last.keep_alive = False

    def abort(self) -> None:
        """Close it at once."""
        self._transport.abort()

    def ring(self) -> None:
        """Nothing was asked for long."""
        self._transport.close()

    def resume_reading(self) -> None:
        """Read on, where reading was paused."""
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()

    def _pause_reading(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    # -- limits -----------------------------------------------------------------------------

    def _refuse(self, answer: bytes) -> None:
        """Send a last answer; where an earlier request waits for its own, that is the last."""
        is_served = self._in_body and not self._whole  # the request at hand, already
        self._whole = self._refused = True
        latest = self._latest
        if is_served and self._waiting:  # it is not, and will not be: those before it are
            self._waiting.pop()
            is_served, latest = False, self._waiting[-1][0] if self._waiting else self._current
        if is_served and latest is not None and latest.started:
            answer = b""
        elif not is_served and latest is not None and not latest.complete:
            latest.keep_alive = False
            return
        if not self._transport.is_closing():
            self._transport.write(answer)
            self._transport.close()

    def _too_slow(self) -> None:
        self._clock = None
        if self._whole:
            self._transport.close()
        elif self._in_body and self._gets_on():
            self._clock = self.loop.call_later(BODY_S, self._too_slow)
        else:
            message = "the request was not whole in time"
            self._refuse(refusal("408 Request Timeout", "request_timeout", message))

    def _gets_on(self) -> bool:
        """Return whether a body came on since the clock was looked at last."""
        if self._latest is None or self._latest.complete:  # the rest is dropped, for one turn
            goes, self._is_rest = not self._is_rest, True
            return goes
        if self._is_paused:  # it is we who do not read; that counts for the next turn, too
            self._n_got = BODY_BYTES
            return True
        n_got, self._n_got = self._n_got, 0
        return n_got >= BODY_BYTES

    def _stay_idle(self) -> None:
        """Blank lines came, or the rest of a body that was answered: still nobody asks for more."""
        if not self.due_at:  # nor has anybody yet: the first clock goes on
            return
        if self._clock is not None:
            self._stop_clock()
            self.due_at = time.monotonic() + KEEPALIVE_S
        self._idle.add(self)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None


def _target(url: bytes) -> tuple[bytes, bytes]:
    """Return path and query of a request's target.

    Raises:
        httptools.HttpParserInvalidURLError, ValueError: it is none.
    """
    if not url.isascii():
        raise ValueError("a target is not ASCII")
    if url[:1] == b"/" != url[1:2] and url.find(b"#") < 0:
        path, _, query = url.partition(b"?")
        return path, query
    parsed = httptools.parse_url(url)
    if not parsed.path:
        raise ValueError("a target has no path")
    return parsed.path, parsed.query or b""
