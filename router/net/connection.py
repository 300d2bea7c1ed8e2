"""One HTTP/1.1 connection to a provider: a request out, its answer in, bytes as they came.

An exchange has the connection for itself. Whatever is not plainly one whole answer is an error,
and the connection goes; only one whose answer came to its end, and no byte further, serves again.
A body that comes in pieces is taken no faster than the provider takes it, and while it goes out an
answer may come already.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import cast

import httptools
import httpx

from router.net.answer import Answer, Header

MAX_HEAD_BYTES = 128 << 10
"""Of status line, headers and interim answers, and of what else stands between pieces of a body."""
MAX_UNREAD_BYTES = 64 << 10
"""Above this the connection is not read on, so that the provider waits for a slow client."""
MAX_JOINED_BYTES = 64 << 10
"""A longer body is written by itself: joining it to its head would copy it."""


FRAMING = frozenset((b"content-length", b"transfer-encoding"))


@dataclass(frozen=True, slots=True)
class BodyInPieces:
    """A body that goes out while it arrives, once."""

    pieces: AsyncIterator[bytes]
    length: int | None  # bytes, if it is known before the end


class Connection(asyncio.Protocol):
    """A connection, idle or in one exchange."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        on_free: Callable[[Connection], None],
        on_lost: Callable[[Connection], None],
    ) -> None:
        self.loop = loop
        self.idle_since = 0.0  # monotonic seconds
        self._on_free, self._on_lost = on_free, on_lost
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(  # what clients' own parsers take (h11)
            lenient_chunked_length=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )
        self._answer: Answer | None = None
        self._blocked: asyncio.Future[None] | None = None  # while the provider takes no more
        self._unsent = False  # when it was lost
        self._is_head = False  # the answer has no body, whatever its headers say
        self._is_interim = False
        self._is_framed = False  # its headers say where it ends
        self._is_doubtful = False  # and say so twice: what comes next is anybody's guess
        self._whole = False
        self._reusable = False
        self.is_paused = False
        self._headers: list[Header] = []  # of the head at hand, or trailers
        self._n_other_bytes = 0  # since the last byte of a body
        self._is_plain = False  # its first bytes say that it is HTTP/1, which the head then is
        self._why = ""

    @property
    def is_open(self) -> bool:
        """Whether nothing is known that would keep it from serving."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has arrived that the loop has not told of yet: an end, say."""
        if self._transport is None:
            return False
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not poll.poll(0)

    def may_repeat(self, *, repeatable: bool) -> bool:
        """Return whether the exchange that was lost may be made again elsewhere.

        Not once a byte of its answer was read; nor, unless it is `repeatable`, once all of it may
        have left.
        """
        return not self._n_other_bytes and (repeatable or self._unsent)

    def exchange(self, head: bytes, body: bytes | BodyInPieces, *, is_head: bool) -> Answer:
        """Send one request; return its answer, of which nothing is there yet."""
        assert self._transport is not None
        assert self._answer is None
        self._is_head, self._whole, self._is_framed = is_head, False, False
        self._headers, self._n_other_bytes = [], 0
        answer = self._answer = Answer(self)
        if isinstance(body, BodyInPieces):
            self._transport.write(head)
            answer.pump = self.loop.create_task(self._send(body, answer))
        elif len(body) > MAX_JOINED_BYTES:
            self._transport.write(head)
            self._transport.write(body)
        else:
            self._transport.write(head + body)
        return answer

    def abort(self) -> None:
        """Close at once; an answer under way breaks off."""
        if self._transport is not None:
            self._transport.abort()

    def resume(self) -> None:
        """Read on, where reading was paused."""
        if self.is_paused and self._transport is not None:
            self.is_paused = False
            self._transport.resume_reading()

    async def _send(self, body: BodyInPieces, answer: Answer) -> None:
        """Send a body; whatever goes wrong with it ends the exchange."""
        chunked, left = body.length is None, body.length or 0
        try:
            async for piece in body.pieces:
                if not piece:
                    continue
                left -= len(piece)
                self._write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                if self._blocked is not None:
                    await self._blocked
            if chunked:
                self._write(b"0\r\n\r\n")
            elif left:
                raise httpx.LocalProtocolError("the body is not as long as it was said to be")
            answer.pump = None
        except Exception as error:
            answer.pump = None
            if self._answer is answer:
                self._break(error)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:  # else the exchange ends in a moment
            self._transport.write(data)

    # -- called by the loop -----------------------------------------------------------------

    def pause_writing(self) -> None:
        """The provider takes no more for now."""
        self._blocked = self.loop.create_future()

    def resume_writing(self) -> None:
        """It does again."""
        if self._blocked is not None and not self._blocked.done():
            self._blocked.set_result(None)
        self._blocked = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by name

    def data_received(self, data: bytes) -> None:
        """Parse; afterwards the answer is whole, broken, or under way."""
        answer = self._answer
        if answer is None:  # nobody asked
            self.abort()
            return
        if not self._n_other_bytes:
            self._is_plain = not answer.status and data.startswith(b"HTTP/1.")
        self._n_other_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._reusable = False
            if not self._whole:
                why = self._why or f"no HTTP ({type(error).__name__})"
                self._break(httpx.RemoteProtocolError(why))
                return
        if self._whole:
            self._finish()
        elif self._n_other_bytes > MAX_HEAD_BYTES:
            why = f"over {MAX_HEAD_BYTES} bytes that are no body"
            self._break(httpx.RemoteProtocolError(why))
        else:
            if answer.status:
                answer.wake()
            if answer.n_unread > MAX_UNREAD_BYTES and not self.is_paused:
                self.is_paused = True
                cast(asyncio.Transport, self._transport).pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end: a good one only for an answer that is as long as its connection."""
        self._transport = None
        self._unsent = self._blocked is not None
        self.resume_writing()
        answer, self._answer = self._answer, None
        if answer is not None:
            if answer.status and not self._is_framed and exc is None:
                answer.end()
            else:
                answer.end(httpx.RemoteProtocolError(_loss(exc)))
        self._on_lost(self)

    # -- called by the parser ---------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A second answer to one request would be somebody else's."""
        if self._whole:
            raise ValueError("bytes after the answer's end")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; trailers are kept for nobody."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is there, unless it was an interim one."""
        answer, headers, status = self._answer, self._headers, self._parser.get_status_code()
        assert answer is not None
        if not (self._is_plain or self._parser.get_http_version().startswith("1.")):
            self._refuse("another version of HTTP")
        self._is_plain = False  # of what comes behind it nothing is known yet
        if self._n_other_bytes > MAX_HEAD_BYTES:
            self._require_small(headers)
        self._headers = []
        self._is_interim = status < 200
        if self._is_interim:
            if status == 101:
                self._refuse("an upgrade that was not asked for")
            return
        framing = [header for header in headers if header[0] in FRAMING]
        if len(framing) > 1 or (framing and framing[0][0] != b"content-length"):
            self._require_one(framing)
        self._is_framed = bool(framing)
        self._is_doubtful = len(framing) > 1
        answer.headers, answer.status = headers, status
        if self._is_head:
            self._whole = True
            self._reusable = False

    def on_body(self, body: bytes) -> None:
        """Keep a piece."""
        assert self._answer is not None
        if self._is_head:
            return
        self._n_other_bytes = 0
        self._answer.chunks.append(body)
        self._answer.n_unread += len(body)

    def on_message_complete(self) -> None:
        """The end, as the headers announced it."""
        if self._is_interim or self._is_head:
            return
        self._whole = True
        self._reusable = self._parser.should_keep_alive() and not self._is_doubtful

    def _require_small(self, headers: Sequence[Header]) -> None:
        if sum(len(name) + len(value) for name, value in headers) > MAX_HEAD_BYTES:
            self._refuse(f"over {MAX_HEAD_BYTES} bytes of headers")

    def _require_one(self, framing: Sequence[Header]) -> None:
        """Stop where it is not plain how long the answer is."""
        lengths = {value for name, value in framing if name == b"content-length"}
        codings = [value.lower() for name, value in framing if name == b"transfer-encoding"]
        if any(coding != b"chunked" for coding in codings):
            self._refuse("a transfer coding that was not asked for")
        if len(codings) > 1 or len(lengths) > 1:
            self._refuse("two lengths")

    def _refuse(self, why: str) -> None:
        """Stop the parser."""
        self._why = why
        raise ValueError(why)

    def _break(self, error: Exception) -> None:
        answer, self._answer = self._answer, None
        self.abort()
        if answer is not None:
            answer.end(error)

    def _finish(self) -> None:
        """The answer is whole; the connection may serve again if it said all and we did."""
        answer, self._answer = self._answer, None
        assert answer is not None
        transport = self._transport
        assert transport is not None
        unsent = answer.pump is not None or transport.get_write_buffer_size()
        if self._reusable and not transport.is_closing() and not unsent:
            if self.is_paused:
                self.resume()
            self._on_free(self)
        else:
            self.abort()
        answer.end()


def _loss(exc: Exception | None) -> str:
    return "closed before its end" if exc is None else type(exc).__name__
