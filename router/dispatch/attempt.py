"""One call to one endpoint: until there is an answer, or a failure of which kind.

Where another endpoint may serve the call, nothing of an answer is let go before its first content;
where none may, it passes as it comes.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import httpx

from router.budgets.leaves import Leave, is_bounded
from router.dialects.request import Outgoing
from router.dialects.unread import LateAnswer, LateTranslation, UnreadStream
from router.dispatch.codes import shown_code
from router.dispatch.ending import Ending
from router.dispatch.fates import (
    Fate,
    Refusal,
    ThoughtsRefused,
    is_about_stream_options,
    is_about_thoughts,
    read_refusal,
    retry_after_s,
)
from router.dispatch.held import HeldStream, Hold, StreamFailed, first_bytes
from router.dispatch.intents import Intents
from router.dispatch.redirects import MAX_REDIRECTS, header_of, post
from router.dispatch.time_limits import TimeLimits
from router.endpoints.catalog import Endpoint
from router.endpoints.health import Health
from router.endpoints.machine_time import MachineTime
from router.net.answer import Header
from router.net.codings import CodedAnswer, decoded
from router.net.deadline import Deadline
from router.net.pool import Upstream, UpstreamResponse
from telemetry.events import Result
from telemetry.wire.sse import may_be_events

MAX_ANSWER_BYTES = 64 << 20
COMMIT_S = 1.0
"""Where nobody else may serve an unstreamed call, a body that still comes after this passes as it
comes: some providers send white space until the answer is there, and clients wait on that."""
MAX_ATTEMPTS = 3
"""More than one retry storm is not worth anybody's wait."""


@dataclass(slots=True, kw_only=True, eq=False)
class Attempt(Ending):
    """One call to an endpoint."""

    endpoint: Endpoint
    limits: TimeLimits
    deadline: float  # monotonic seconds: of the call, for content
    deadline_s: float
    let_go_s: float = math.inf  # of a client that is less patient: signs of life pass after this
    hold: Hold = Hold.CONTENT
    stream: HeldStream | None = None
    outgoing: Outgoing | None = None  # as it was sent
    grant: Leave | None = None  # by the budgets and limits that hold for its call

    @property
    def is_translated(self) -> bool:
        """Whether the call was said in another dialect than it came in."""
        return self.outgoing is not None and self.outgoing.is_translated

    @property
    def was_told_all(self) -> bool:
        """Whether the endpoint was sent all that the call says, so that its count is of that."""
        sent = self.outgoing
        return sent is not None and (sent.is_translated or not sent.left_out)

    @property
    def has_spoken(self) -> bool:
        """Whether there is content of its answer, be it held or not."""
        return self.stream is not None and self.stream.state.spoke


@dataclass(slots=True)
class Sending:
    """What goes out, and how its answer is to be read."""

    headers: list[Header]
    body: bytes
    request: Outgoing
    hide_usage: bool
    query: bytes = b""  # of the client's own URL
    may_shed: bool = False  # it holds thoughts that the endpoint may not have made

    @property
    def streamed(self) -> bool:
        """Whether the answer is to come in pieces."""
        return self.request.streamed


@dataclass(slots=True)
class Reply:
    """An answer that may go to the client: status, headers, and the body whole or in chunks."""

    attempt: Attempt
    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes | None
    stream: HeldStream | None = None
    response: UpstreamResponse | None = None
    is_events: bool = False  # `body` is of a stream
    is_read: bool = True  # else its body is in a coding that we do not know

    async def aclose(self) -> None:
        """Give it up."""
        if self.response is not None:
            await self.response.aclose()


class AttemptFailed(Exception):
    """One attempt gave no answer that may go to the client.

    `own` is the provider's own refusal, for the client to see where nobody else may answer.
    """

    def __init__(
        self,
        result: Result,
        detail: str,
        *,
        status: int = 0,
        fate: Fate = Fate.MOMENT,
        retry_after_s: float | None = None,
        own: Reply | None = None,
        is_sent: bool = True,
        refusal: Refusal | None = None,
    ) -> None:
        self.result = result
        self.status = status
        self.fate = fate
        self.retry_after_s = retry_after_s
        self.own = own
        self.is_sent = is_sent  # the endpoint may have begun to work on it
        self.refusal = refusal
        super().__init__(detail)


class StreamOptionsRefused(Exception):
    """The endpoint turns down a field that we added: the call is to be sent without it."""


@dataclass(slots=True)
class Dispatcher:
    """Makes upstream calls; one for the process."""

    upstream: Upstream
    health: Health
    intents: Intents
    machines: MachineTime = field(default_factory=MachineTime)
    most_redirects: int = MAX_REDIRECTS

    async def attempt(self, attempt: Attempt, sending: Sending) -> Reply:
        """Make one upstream call; return its answer once it may be let go.

        Raises:
            AttemptFailed: there is none; says of what kind, and why.
            StreamOptionsRefused, ThoughtsRefused: there is none, because of what need not be sent.
        """
        now = attempt.began_at = time.monotonic()
        if attempt.endpoint.terms.is_subscribed:
            attempt.had_headroom = self.health.had_headroom(attempt.endpoint.digest, now)
        limits = attempt.limits
        first_s = limits.first_token_s if sending.streamed else limits.answer_s
        limit_s = max(min(first_s, attempt.deadline - now), 0.0)
        try:
            with Deadline(limit_s) as clock:
                target = limits.target.with_query(sending.query)
                sent = await post(
                    self.upstream,
                    target,
                    sending.headers,
                    sending.body,
                    repeatable=sending.request.repeatable and not is_bounded(attempt.grant),
                    most=self.most_redirects,
                )
                response = decoded(sent)
                try:
                    return await self._read(attempt, response, sending, clock)
                except BaseException:
                    await response.aclose()
                    raise
        except TimeoutError:
            waited_s = time.monotonic() - now
            raise AttemptFailed(Result.TIMEOUT, f"nothing within {waited_s:.1f} s") from None
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

    async def _read(
        self, attempt: Attempt, response: UpstreamResponse, sending: Sending, clock: Deadline
    ) -> Reply:
        attempt.status = response.status
        attempt.read_head(response.headers)
        if not attempt.endpoint.client_auth:  # else the limits are the caller's own
            self.health.note_headers(
                attempt.endpoint.digest, response.headers, time.monotonic(), now_s=time.time()
            )
        if not 200 <= response.status < 300:
            return await self._read_refusal(attempt, response, sending, clock)
        if isinstance(response, CodedAnswer):
            if sending.request.is_translated:
                why = f"status {response.status} in a coding that cannot be translated"
                raise AttemptFailed(Result.BAD_REPLY, why, status=response.status, fate=Fate.FIT)
            return await _read_unread(attempt, response, sending, clock)
        chunks, first = aiter(response), b""
        if sending.streamed:
            if b"event-stream" not in header_of(response, b"content-type").lower():
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
        attempt.latency_s = time.monotonic() - attempt.began_at
        answer = sending.request.read_answer(body)
        told = sending.request.as_callers(body) if answer is not None else None
        if answer is None or told is None:
            attempt.take_told(body)
            said = sending.request.instead_as_callers(response.status, body)
            own = Reply(attempt, said[0], response.headers, said[1]) if said else None
            why = f"status {response.status} without an answer"
            raise AttemptFailed(
                Result.BAD_REPLY, why, status=response.status, fate=Fate.FIT, own=own
            )
        attempt.usage, attempt.answer_id, attempt.model = answer.usage, answer.id, answer.model
        attempt.fingerprint, attempt.thoughts = answer.fingerprint, answer.thoughts
        attempt.container, attempt.item_ids = answer.container, answer.item_ids
        await response.aclose()
        return Reply(attempt, response.status, response.headers, told)

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
    is_stream = b"event-stream" in header_of(response, b"content-type").lower()
    if sending.streamed and is_stream:
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
