"""One call to one endpoint, made: until there is an answer, or a failure of which kind.

Where another endpoint may serve the call, nothing of an answer is let go before its first content;
where none may, it passes as it comes.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx

from router.budgets.leaves import is_bounded
from router.dialects.request import Outgoing
from router.dialects.unread import LateAnswer, LateTranslation, UnreadStream
from router.dispatch.attempt import (
    Attempt,
    AttemptFailed,
    Reply,
    Sending,
    StreamOptionsRefused,
)
from router.dispatch.codes import shown_code
from router.dispatch.fates import (
    Fate,
    ThoughtsRefused,
    is_about_stream_options,
    is_about_thoughts,
    read_refusal,
    retry_after_s,
)
from router.dispatch.heads import contents_of
from router.dispatch.held import HeldStream, Hold, StreamFailed, first_bytes
from router.dispatch.intents import Intents
from router.dispatch.redirects import MAX_REDIRECTS, REDIRECTS, followed, header_of
from router.endpoints.health import Health
from router.endpoints.machine_time import MachineTime
from router.net.answer import Answer
from router.net.codings import CodedAnswer, decoded
from router.net.deadline import Deadline
from router.net.pool import Upstream, UpstreamResponse
from telemetry.events import Result
from telemetry.wire.sse import may_be_events

MAX_ANSWER_BYTES = 64 << 20
COMMIT_S = 1.0
"""Where nobody else may serve an unstreamed call, a body that still comes after this passes as it
comes: some providers send white space until the answer is there, and clients wait on that."""


@dataclass(slots=True)
class Dispatcher:
    """Makes upstream calls; one for the process."""

    upstream: Upstream
    health: Health
    intents: Intents
    machines: MachineTime = field(default_factory=MachineTime)
    most_redirects: int = MAX_REDIRECTS

    async def attempt(self, attempt: Attempt, sending: Sending, clock: Deadline) -> Reply:
        """Make one upstream call; return its answer once it may be let go.

        Args:
            clock: within which this is awaited; its limit is set here.

        Raises:
            AttemptFailed: there is none; says of what kind, and why.
            StreamOptionsRefused, ThoughtsRefused: there is none, because of what need not be sent.
        """
        now = attempt.began_at = time.monotonic()
        if attempt.endpoint.place.terms.is_subscribed:
            attempt.had_headroom = self.health.had_headroom(attempt.endpoint.digest, now)
        limits = attempt.limits
        request, body, headers = sending.request, sending.body, sending.headers
        limit_s = limits.first_token_s if request.streamed else limits.answer_s
        left_s = attempt.deadline - now
        if left_s < limit_s:
            limit_s = left_s if left_s > 0.0 else 0.0
        target = limits.target.with_query(sending.query) if sending.query else limits.target
        may_repeat = request.repeatable and not is_bounded(attempt.grant)
        clock.move(limit_s)
        try:
            response = await self.upstream.send(
                "POST", target, headers, body, repeatable=may_repeat
            )
            if response.status in REDIRECTS:
                response = await followed(
                    self.upstream,
                    response,
                    target,
                    headers,
                    body,
                    repeatable=may_repeat,
                    most=self.most_redirects,
                )
            try:
                whole = self._take_head(attempt, response, sending)
                if whole is not None:
                    return _whole(attempt, response, sending, whole)  # most often
                response = decoded(response)
                return await self._read(attempt, response, sending, clock)
            except BaseException:
                await response.aclose()
                raise
        except httpx.ConnectTimeout:
            raise AttemptFailed(Result.CONNECT, "no connection in time", is_sent=False) from None
        except httpx.ConnectError as error:
            raise AttemptFailed(Result.CONNECT, f"no connection ({error})", is_sent=False) from None
        except httpx.LocalProtocolError as error:
            raise AttemptFailed(Result.CONNECT, f"not sent ({error})", is_sent=False) from None
        except httpx.TransportError as error:
            raise AttemptFailed(Result.CONNECT, f"connection broke ({error})") from None
        except (ValueError, RuntimeError) as error:
            raise AttemptFailed(
                Result.CONNECT, f"not sent ({type(error).__name__})", is_sent=False
            ) from None

    def _take_head(
        self, attempt: Attempt, response: UpstreamResponse, sending: Sending
    ) -> bytes | None:
        """Take note of an answer's head; return its body, where that is there and plainly one."""
        status = attempt.status = response.status
        has_coding, tells_limits, tells_cost = contents_of(response.headers)
        if tells_cost:
            attempt.read_head(response.headers)
        if tells_limits and not attempt.endpoint.client_auth:  # else they are the caller's own
            self.health.note_headers(
                attempt.endpoint.digest, response.headers, time.monotonic(), now_s=time.time()
            )
        if has_coding or sending.request.streamed or not 200 <= status < 300:
            return None
        return response.rest() if isinstance(response, Answer) else None

    async def _read(
        self, attempt: Attempt, response: UpstreamResponse, sending: Sending, clock: Deadline
    ) -> Reply:
        if not 200 <= response.status < 300:
            return await self._read_refusal(attempt, response, sending, clock)
        if isinstance(response, CodedAnswer):
            if sending.request.is_translated:
                why = f"status {response.status} in a coding that cannot be translated"
                raise AttemptFailed(Result.BAD_REPLY, why, status=response.status, fate=Fate.FIT)
            return await _read_unread(attempt, response, sending, clock)
        chunks, first = aiter(response), b""
        if sending.streamed:
            if not _is_events(response):
                first = await _peek(chunks, response.status)
            if not first or may_be_events(first):
                clock.move(math.inf)  # from here on the stream has limits of its own
                stream = await _open(attempt, sending, response, chunks, first)
                return Reply(attempt, response.status, response.headers, None, stream, response)
        patience_s = math.inf
        if not sending.streamed:
            patience_s = COMMIT_S if attempt.hold is Hold.NOTHING else attempt.let_go_s
        body, is_end = await _read_body(attempt, chunks, first, clock, patience_s=patience_s)
        if not is_end:
            clock.move(math.inf)
            late = _unread(attempt, _late(sending.request), chunks, body)
            return Reply(attempt, response.status, response.headers, None, late, response)
        reply = _whole(attempt, response, sending, body)
        await response.aclose()
        return reply

    async def _read_refusal(
        self, attempt: Attempt, response: UpstreamResponse, sending: Sending, clock: Deadline
    ) -> Reply:
        status, endpoint = response.status, attempt.endpoint
        body = await _read_whole(attempt, aiter(response), b"", clock)
        await response.aclose()
        attempt.latency_s = time.monotonic() - attempt.began_at
        if sending.hide_usage and is_about_stream_options(status, body):
            raise StreamOptionsRefused
        if sending.may_shed and is_about_thoughts(status, body):
            raise ThoughtsRefused
        found = read_refusal(status, body, client_auth=endpoint.client_auth)
        attempt.result = found.result
        attempt.take_told(body)
        told = sending.request.refusal_as_callers(status, body)
        own = Reply(attempt, status, response.headers, told)
        code = shown_code(found.code)
        raise AttemptFailed(
            found.result,
            f"status {status}" + (f" ({code})" if code else ""),
            status=status,
            fate=found.fate,
            retry_after_s=retry_after_s(response.headers, now_s=time.time()),
            own=own,
            refusal=found,
        )


def _whole(attempt: Attempt, response: UpstreamResponse, sending: Sending, body: bytes) -> Reply:
    """Return an answer that is there in full."""
    attempt.latency_s = time.monotonic() - attempt.began_at
    answer = sending.request.read_answer(body)
    told = sending.request.as_callers(body) if answer is not None else None
    if answer is None or told is None:
        attempt.take_told(body)
        said = sending.request.instead_as_callers(response.status, body)
        own = Reply(attempt, said[0], response.headers, said[1]) if said else None
        why = f"status {response.status} without an answer"
        raise AttemptFailed(Result.BAD_REPLY, why, status=response.status, fate=Fate.FIT, own=own)
    attempt.usage, attempt.answer_id, attempt.model = answer.usage, answer.id, answer.model
    attempt.fingerprint, attempt.thoughts = answer.fingerprint, answer.thoughts
    attempt.container, attempt.item_ids = answer.container, answer.item_ids
    return Reply(attempt, response.status, response.headers, told)


def _is_events(response: UpstreamResponse) -> bool:
    """Return whether an answer calls itself a stream."""
    return header_of(response, b"content-type").lower().find(b"event-stream") >= 0


def _late(request: Outgoing) -> LateAnswer:
    """Return what an answer goes through that passes before all of it is there."""
    if request.is_translated:
        return LateTranslation(request.read_answer, request.as_callers)
    return LateAnswer(request.read_answer)


async def _read_unread(
    attempt: Attempt, response: CodedAnswer, sending: Sending, clock: Deadline
) -> Reply:
    """Return an answer that nobody here can read: it counts as one by its status."""
    status, headers, chunks = response.status, response.headers, aiter(response)
    if sending.streamed and _is_events(response):
        clock.move(math.inf)
        attempt.ttft_s = time.monotonic() - attempt.began_at
        stream = _unread(attempt, UnreadStream(), chunks, b"")
        return Reply(attempt, status, headers, None, stream, response)
    body = await _read_whole(attempt, chunks, b"", clock)
    await response.aclose()
    attempt.latency_s = time.monotonic() - attempt.began_at
    return Reply(attempt, status, headers, body, is_read=False)


async def _open(
    attempt: Attempt,
    sending: Sending,
    response: UpstreamResponse,
    chunks: AsyncIterator[bytes],
    first: bytes,
) -> HeldStream:
    """Return a stream of which as much is there as must be, before it is let go."""
    content_by = configured_by = attempt.began_at + attempt.limits.first_token_s
    if attempt.hold is not Hold.NOTHING:
        content_by = min(content_by, attempt.deadline)
    stream = attempt.stream = HeldStream(
        sending.request.open_stream(hide_usage=sending.hide_usage),
        chunks,
        first,
        content_by=content_by,
        silence_s=min(attempt.limits.stall_s, attempt.deadline_s),
    )
    try:
        let_go_at = attempt.began_at + attempt.let_go_s
        await stream.hold(attempt.hold, let_go_at=let_go_at, then_by=configured_by)
    except StreamFailed as failed:
        said = b"".join(stream.held)
        own = Reply(attempt, response.status, response.headers, said, is_events=True)
        raise AttemptFailed(
            failed.result,
            str(failed),
            status=response.status,
            fate=failed.fate,
            own=own if stream.state.told else None,
        ) from None
    if stream.spoke_at is not None:
        attempt.ttft_s = stream.spoke_at - attempt.began_at
    return stream


async def _peek(chunks: AsyncIterator[bytes], status: int) -> bytes:
    try:
        return await first_bytes(chunks)
    except httpx.RemoteProtocolError as error:
        raise AttemptFailed(Result.CUT, f"cut ({error})", status=status) from None


def _unread(
    attempt: Attempt, state: UnreadStream, chunks: AsyncIterator[bytes], first: bytes
) -> HeldStream:
    """Return an answer that passes as it comes."""
    silence_s = min(attempt.limits.stall_s, attempt.deadline_s)
    return HeldStream(state, chunks, first, content_by=math.inf, silence_s=silence_s)


async def _read_whole(
    attempt: Attempt, chunks: AsyncIterator[bytes], first: bytes, clock: Deadline
) -> bytes:
    return (await _read_body(attempt, chunks, first, clock, patience_s=math.inf))[0]


async def _read_body(
    attempt: Attempt,
    chunks: AsyncIterator[bytes],
    first: bytes,
    clock: Deadline,
    *,
    patience_s: float,
) -> tuple[bytes, bool]:
    """Return a body, and whether that is all; as it comes, only a configured limit ends it.

    Args:
        patience_s: where more comes after this, what there is is returned.
    """
    parts, size, status = [first], len(first), attempt.status
    end_by = attempt.began_at + attempt.limits.answer_s
    let_go_at = time.monotonic() + patience_s
    try:
        clock.move(min(attempt.deadline_s, end_by - time.monotonic()))
        async for chunk in chunks:
            parts.append(chunk)
            size += len(chunk)
            if size > MAX_ANSWER_BYTES:
                raise AttemptFailed(Result.BAD_REPLY, "answer over 64 MiB", status=status)
            now = time.monotonic()
            if now > let_go_at:
                return b"".join(parts), False
            clock.move(min(attempt.deadline_s, end_by - now))
    except httpx.RemoteProtocolError as error:
        raise AttemptFailed(Result.CUT, f"cut ({error})", status=status) from None
    return b"".join(parts), True
