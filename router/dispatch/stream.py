"""A streamed answer on its way to the client: its outcome is written before its end is sent."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import httpx

from router.dialects.errors import error_event
from router.dialects.stream import AnswerStream
from router.dialects.unread import UnreadStream
from router.dispatch.attempt import Reply
from router.dispatch.ending import take_said
from router.net.deadline import Deadline
from router.net.exchange import DisconnectGuard, Exchange, Header
from telemetry.events import Result
from telemetry.observed import MAX_PART_BYTES

CUT, SILENT = "the stream was cut", "the endpoint stopped sending"
UNREADABLE = "the endpoint sent an event that cannot be read"
FAILED = "the endpoint says that its answer failed"
"""Why a stream ended before its end, in the event that tells of it."""


class StreamedAnswer:
    """Passes one stream on."""

    def __init__(
        self,
        reply: Reply,
        exchange: Exchange,
        guard: DisconnectGuard,
        *,
        keep: bool,
        book: Callable[[bytes, bool], None],
        on_ids: Callable[[str | None, str | None], None],
    ) -> None:
        """Prepare.

        Args:
            keep: keep a copy of what is said, as far as the observer takes it.
            book: writes how the answer ended; is given that copy, and whether it was whole.
            on_ids: hears the ids of the answer and of its container before the client does.
        """
        assert reply.stream is not None
        self._reply = reply
        self._source = reply.stream
        self._stream = reply.stream.state
        self._exchange = exchange
        self._guard = guard
        self._keeps = keep
        self._book = book
        self._on_ids = on_ids
        self._told_id: str | None = None
        self._told_container: str | None = None
        self._booked = False
        self._ending = b""
        self._untold = b""  # what was read last, and has not left
        self._limit: Deadline
        self._said: list[bytes] = []
        self._said_bytes = 0

    async def send(self, headers: Sequence[Header]) -> None:
        """Send all of it, from its head to its end."""
        exchange = self._exchange
        if not isinstance(self._stream, UnreadStream):  # only whole events leave
            exchange.tell = self._error
        try:
            held = b"".join(self._source.held)
            self._keep(held)
            self._tell_ids()
            if self._stream.done or self._stream.unreadable:
                await self._begin(headers)
                ended = self._end(ended_well=False)
                await exchange.part(held)
            else:
                await self._begin(headers, held)
                ended = await self._pass_on()
            self._guard.finish()
            await exchange.end(ended)
        finally:
            await self._reply.aclose()

    async def _begin(self, headers: Sequence[Header], first: bytes = b"") -> None:
        """Send the head, and with it what is there; a stream may have begun with comments."""
        if self._exchange.started:
            await self._exchange.part(first)
        else:
            await self._exchange.start(self._reply.status, headers, first)

    async def _pass_on(self) -> bytes:
        """Send whole events until the stream ends; return what is still to be sent at its end."""
        stream, source = self._stream, self._source
        try:
            with Deadline(source.left_s()) as self._limit:
                while not await source.pour(self._take):
                    if stream.done or stream.unreadable or stream.told:
                        self._ending = self._ending or self._end(ended_well=False)
                    await self._exchange.part(self._untold)
                    if stream.unreadable or (stream.done and self._ending):
                        return self._ending
                    self._limit.move(source.left_s())
        except (TimeoutError, httpx.RemoteProtocolError) as error:
            rest = stream.close()
            self._keep(rest)
            return rest + self._end(ended_well=False, timed_out=isinstance(error, TimeoutError))
        rest = stream.flush()
        self._keep(rest)
        return rest + self._end(ended_well=True)

    def _take(self, chunk: bytes) -> bool:
        """Read what came and send it on, most often at once; else return False: it is to be sent.

        Not at once is what a client has no room for, and what an outcome is to be written before.
        """
        stream, source = self._stream, self._source
        passed = source.feed(chunk)
        if self._keeps:
            self._keep(passed)
        if stream.id is not self._told_id or stream.container is not self._told_container:
            self._tell_ids()
        has_end = stream.done or stream.unreadable or stream.told
        if has_end or not self._exchange.part_now(passed):
            self._untold = passed
            self._limit.move(math.inf)  # what a slow client takes is not the provider's
            return False
        self._limit.move(source.left_s())
        return True

    def _end(self, *, ended_well: bool, timed_out: bool = False) -> bytes:
        """Book how the stream ended; return the error event that tells of one that is not whole.

        Args:
            ended_well: the connection came to its proper end.
        """
        if self._booked:
            return b""
        self._booked = True
        stream, attempt = self._stream, self._reply.attempt
        take_said(attempt, stream)
        if self._source.spoke_at is not None:
            attempt.ttft_s = self._source.spoke_at - attempt.began_at
        attempt.latency_s = time.monotonic() - attempt.began_at
        whole = stream.is_whole(ended_well=ended_well)
        if not whole:
            attempt.result = _result(stream, timed_out=timed_out)
        if isinstance(stream, UnreadStream):
            self._book(b"".join(self._said) if stream.is_read else b"", whole and stream.is_read)
            if stream.unreadable or not ended_well:
                raise ConnectionResetError("cut, where nothing can be said")
            return b""
        self._book(b"".join(self._said), whole)
        if whole or stream.told or stream.is_empty:  # its own event has told the client
            return b""
        message = f"{_why(stream, timed_out=timed_out)}; the answer above is not whole"
        return self._error("stream_cut", message)

    def _error(self, code: str, message: str) -> bytes:
        path, number = self._exchange.path, self._stream.n_events
        return error_event(path, code, message, number=number)

    def _tell_ids(self) -> None:
        stream = self._stream
        if stream.id is not self._told_id or stream.container is not self._told_container:
            self._told_id, self._told_container = stream.id, stream.container
            self._on_ids(stream.id, stream.container)

    def _keep(self, chunk: bytes) -> None:
        if self._keeps and self._said_bytes <= MAX_PART_BYTES:
            self._said.append(chunk)
            self._said_bytes += len(chunk)


def _result(stream: AnswerStream, *, timed_out: bool) -> Result:
    if stream.failed or stream.unreadable or stream.is_empty:
        return Result.BAD_REPLY
    return Result.TIMEOUT if timed_out else Result.CUT


def _why(stream: AnswerStream, *, timed_out: bool) -> str:
    if stream.unreadable:
        return UNREADABLE
    if stream.failed:
        return FAILED
    return SILENT if timed_out else CUT
