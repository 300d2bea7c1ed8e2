"""uvicorn's HTTP protocol with the limits that it lacks, and word of clients that leave.

Headers must be small, and a request must be whole soon. The common request arrives in one piece
and never starts a clock; the common answer leaves in one piece.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from router.net.asgi import LINE, ClientLine
from router.net.deadline import Clock, clock_of

HEADER_S = 10.0
"""From the connection, or the first byte of a request, to the end of its headers."""
BODY_S = 30.0
"""From there to the end of its body: 4 MiB at 1 Mbit/s."""
MAX_HEADERS = 100
MAX_HEADER_BYTES = 32 << 10


def _refusal(status: str, code: str, message: str) -> bytes:
    """Return a whole answer in OpenAI's shape, for what never became a request."""
    body = (
        f'{{"error":{{"message":"{message}","type":"invalid_request_error",'
        f'"param":null,"code":"{code}"}}}}'
    )
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n{body}".encode()


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


def cut(cycle: RequestResponseCycle) -> None:
    """Close a connection whose answer is not finished; what was written leaves if it is read."""
    cycle.disconnected = True  # else uvicorn would miss the end of the answer, aloud
    if cycle.flow.write_paused:
        cycle.transport.abort()
    else:
        cycle.transport.close()


class LimitedProtocol(HttpToolsProtocol):
    """Closes connections that trickle a request, or send too many headers."""

    _clock: asyncio.TimerHandle | None = None
    _idle: Clock
    _header_bytes = 0
    _whole = True
    _in_body = False
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
        super().data_received(data)
        if self._whole:
            self._stop_clock()
        elif self._clock is None:
            self._clock = self.loop.call_later(
                BODY_S if self._in_body else HEADER_S, self._too_slow
            )

    def on_message_begin(self) -> None:
        """A request begins."""
        self._header_bytes, self._whole, self._in_body = 0, False, False
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
        self._stop_clock()
        self._in_body = True
        super().on_headers_complete()
        cycle = self.cycle
        line = ClientLine(partial(write_whole, cycle), partial(cut, cycle))
        self.scope[LINE] = line  # type: ignore[literal-required]

    def on_message_complete(self) -> None:
        """The request is whole."""
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
        self._whole = True
        if self.transport.is_closing():
            return
        why = self._why or "this is no HTTP request"
        self.transport.write(_refusal("400 Bad Request", "bad_request", why))
        self.transport.close()

    def _too_slow(self) -> None:
        self._clock = None
        if not self.transport.is_closing():
            answered = self._in_body and self.cycle is not None and self.cycle.response_started
            if not self._whole and not answered:
                message = "the request was not whole in time"
                self.transport.write(_refusal("408 Request Timeout", "request_timeout", message))
            self.transport.close()

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
