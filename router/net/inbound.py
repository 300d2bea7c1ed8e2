"""uvicorn's HTTP protocol with the limits that it lacks, and word of clients that leave.

Headers must be small and whole soon, and a body must get on. The common request arrives in one
piece and never starts a clock; the common answer leaves in one piece. An offer to speak something
else than HTTP/1.1 is not taken up: the call is served as if it had not been made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from router.net.asgi import JSON, LINE, ClientLine, Receive, Scope, Send
from router.net.deadline import Clock, clock_of

HEADER_S = 10.0
"""From the connection, or the first byte of a request, to the end of its headers."""
BODY_S = 30.0
"""In so many seconds a body gets on by `BODY_BYTES`, or is whole."""
BODY_BYTES = 16 << 10
"""In `BODY_S`: half of what the slowest modem sends (9.6 kbit/s). Less is nobody who gets on."""
MAX_HEADERS = 100
MAX_HEADER_BYTES = 32 << 10


def _error(code: str, message: str) -> str:
    return (
        f'{{"error":{{"message":"{message}","type":"invalid_request_error",'
        f'"param":null,"code":"{code}"}}}}'
    )


def _refusal(status: str, code: str, message: str) -> bytes:
    """Return a whole answer in OpenAI's shape, for what never became a request."""
    body = _error(code, message)
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n{body}".encode()


async def _refuse_websocket(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a websocket handshake, in its turn."""
    message = "websocket is not served here; use HTTP"
    scope[LINE].release()
    body = _error("upgrade_not_supported", message).encode()
    headers = [JSON, (b"content-length", b"%d" % len(body)), (b"x-should-retry", b"false")]
    await send({"type": "http.response.start", "status": 501, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def write_whole(
    cycle: RequestResponseCycle, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes
) -> bool:
    """Answer a request in one write; return whether that was possible.

    The ASGI way is two messages and two system calls, which cost as much as a draw. The answer to
    HEAD, one after a pause and one with a line break in a header go that way, refusals included.
    """
    if cycle.scope["method"] == "HEAD" or cycle.flow.write_paused or cycle.response_started:
        return False
    lines = [b"%b: %b\r\n" % header for header in headers]
    if not cycle.keep_alive:
        lines.append(b"connection: close\r\n")
    head = b"".join(lines)
    if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines) or b"\0" in head:
        return False
    if cycle.disconnected:
        return True
    cycle.response_started, cycle.waiting_for_100_continue = True, False
    length = b"content-length: %d\r\n\r\n" % len(body)
    cycle.transport.write(b"".join((STATUS_LINE[status], head, length, body)))
    cycle.response_complete = True
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    return True


def write_part(cycle: RequestResponseCycle, data: bytes) -> bool:
    """Send a piece of an answer in chunks; return False where the client has yet to read."""
    if cycle.flow.write_paused or not cycle.chunked_encoding or cycle.scope["method"] == "HEAD":
        return False
    if not cycle.disconnected:
        cycle.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
    return True


def cut(cycle: RequestResponseCycle) -> None:
    """Close a connection whose answer is not finished; what was written leaves if it is read."""
    cycle.disconnected = True  # else uvicorn would miss the end of the answer, aloud
    if cycle.flow.write_paused:
        cycle.transport.abort()
    else:
        cycle.transport.close()


class LimitedProtocol(HttpToolsProtocol):
    """Closes connections that trickle a request, or send too many headers."""

    app: Any
    _clock: asyncio.TimerHandle | None = None
    _idle: Clock
    _header_bytes = 0
    _whole = True
    _in_body = False
    _is_offer = False  # the head at hand offers another protocol
    _is_handshake = False  # of a websocket
    _n_got = 0  # bytes, since the clock was looked at last
    _is_rest = False  # of a body whose request is answered already
    _refused = False
    _why = ""
    due_at = 0.0  # loop seconds: when an idle connection goes

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock: a connection that says nothing goes as well."""
        super().connection_made(transport)
        self._idle = clock_of(self.loop)
        self._clock = self.loop.call_later(HEADER_S, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever still serves this connection."""
        self._stop_clock()
        self._idle.remove(self)
        super().connection_lost(exc)
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            line: ClientLine | None = cycle.scope.get(LINE)  # type: ignore[assignment]
            if line is not None and line.gone is not None:
                line.gone()

    def data_received(self, data: bytes) -> None:
        """Parse; time whatever is not whole yet."""
        if self._refused:
            return
        self._unset_keepalive_if_required()
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self.send_400_response("")
        if self._whole:
            self._stop_clock()
        elif self._clock is None:
            self._n_got = 0
            limit_s = BODY_S if self._in_body else HEADER_S
            self._clock = self.loop.call_later(limit_s, self._too_slow)
        else:
            self._n_got += len(data)

    def _feed(self, data: bytes) -> None:
        """Parse; where a request offers another protocol, the parser stops after its head.

        Then a new one is given that head without the offer, and what follows.
        """
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as stopped:
                if self.parser.get_method() == b"CONNECT":
                    message = "CONNECT is not served: this is no proxy"
                    self._refuse(_refusal("405 Method Not Allowed", "method_not_allowed", message))
                    return
                data = self._head_without_offer() + data[stopped.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def _head_without_offer(self) -> bytes:
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        offers = [value for name, value in self.headers if name == b"upgrade"]
        kept = [header for header in self.headers if header[0] != b"upgrade"]
        protocols = [part.strip().lower() for part in b",".join(offers).split(b",")]
        has_key = any(name == b"sec-websocket-key" for name, _ in kept)
        self._is_handshake = b"websocket" in protocols and (has_key or len(protocols) == 1)
        lines = [b"%b %b HTTP/%b" % (method, self.url, version)]
        lines += [b"%b: %b" % header for header in kept]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def on_message_begin(self) -> None:
        """A request begins."""
        self._header_bytes, self._whole, self._in_body, self._is_rest = 0, False, False, False
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count."""
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEADER_BYTES or len(self.headers) >= MAX_HEADERS:
            self._why = f"over {MAX_HEADERS} headers or {MAX_HEADER_BYTES} bytes of them"
            raise ValueError(self._why)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The body has its own clock."""
        self._is_offer = self.parser.should_upgrade()
        if self._is_offer:
            return
        self._stop_clock()
        served = self.app
        if self._is_handshake:
            self._is_handshake, self.app = False, _refuse_websocket
        super().on_headers_complete()
        self.app, self._in_body = served, True
        cycle = self.cycle
        line = ClientLine(
            partial(write_whole, cycle), partial(cut, cycle), partial(write_part, cycle)
        )
        self.scope[LINE] = line  # type: ignore[literal-required]

    def on_message_complete(self) -> None:
        """The request is whole, or its head is and offers another protocol."""
        if not self._is_offer:
            self._whole = True
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """As uvicorn has it, but for a timer of its own a request."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self.due_at = self.loop.time() + self.timeout_keep_alive
            self._idle.add(self)

    def ring(self) -> None:
        """Nothing was asked for long."""
        self.timeout_keep_alive_handler()

    def _unset_keepalive_if_required(self) -> None:
        self._idle.remove(self)

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, or too much of it, in OpenAI's shape."""
        why = self._why or "this is no HTTP request"
        self._refuse(_refusal("400 Bad Request", "bad_request", why))

    def _refuse(self, answer: bytes) -> None:
        """Send a last answer; where an earlier request waits for its own, that is the last."""
        is_served = self._in_body and not self._whole  # the request at hand, already
        self._whole = self._refused = True
        cycle = self.cycle
        if is_served and (cycle.response_started or self.pipeline):
            answer = b""
        elif not is_served and cycle is not None and not cycle.response_complete:
            cycle.keep_alive = False
            return
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()

    def _too_slow(self) -> None:
        self._clock = None
        if self._whole:
            if not self.transport.is_closing():
                self.transport.close()
        elif self._in_body and self._gets_on():
            self._clock = self.loop.call_later(BODY_S, self._too_slow)
        else:
            message = "the request was not whole in time"
            self._refuse(_refusal("408 Request Timeout", "request_timeout", message))

    def _gets_on(self) -> bool:
        """Return whether a body came on since the clock was looked at last."""
        if self.cycle.response_complete:  # the rest is dropped, for one turn of the clock
            goes, self._is_rest = not self._is_rest, True
            return goes
        if self.flow.read_paused:  # it is we who do not read; that counts for the next turn, too
            self._n_got = BODY_BYTES
            return True
        n_got, self._n_got = self._n_got, 0
        return n_got >= BODY_BYTES

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
