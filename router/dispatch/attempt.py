"""Running a plan: attempts, fallbacks, one deadline, and an outcome for each attempt.

Nothing reaches the client before the first content of an answer is there; until then a failure
goes on to the next endpoint of the plan. Each failure has one fate, and is evidence.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field

import httpx

from router.beliefs.beliefs import Beliefs
from router.dialects.sse import ChatStream
from router.dialects.unread import UnreadStream
from router.dispatch.fates import Fate, read_refusal, retry_after_s
from router.endpoints.catalog import Endpoint
from router.endpoints.health import Health
from router.net.codings import CodedAnswer, decoded
from router.net.connection import Header
from router.net.deadline import Deadline
from router.net.pool import Upstream, UpstreamResponse
from telemetry.events import Result
from telemetry.wire.chat import Usage, id_of, parse_answer, usage_of

MAX_HELD_BYTES = 256 << 10
"""What is held of a stream before its first content."""
MAX_ANSWER_BYTES = 64 << 20
MAX_ATTEMPTS = 3
"""More than one retry storm is not worth anybody's wait."""
FEW_CALLS = 30
"""Below this many calls in a cell its quantiles say little, and a fixed limit holds."""
FIRST_TOKEN_UNKNOWN_S = 10.0
FIRST_TOKEN_LEAST_S = 5.0
WHOLE_ANSWER_LEAST_S = 20.0


@dataclass(slots=True)
class Ending:
    """How one upstream call ended, as far as it has."""

    number: int = 1
    result: Result = Result.OK
    status: int = 0
    began_at: float = 0.0  # monotonic seconds
    latency_s: float = 0.0
    ttft_s: float | None = None
    usage: Usage | None = None
    answer_id: str | None = None


@dataclass(slots=True, kw_only=True)
class Attempt(Ending):
    """One call to an endpoint."""

    endpoint: Endpoint
    limit_s: float = 0.0


@dataclass(slots=True)
class Reply:
    """An answer that may go to the client: status, headers, and the body whole or in chunks."""

    attempt: Attempt
    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes | None
    stream: ChatStream | None = None
    chunks: AsyncIterator[bytes] | None = None
    held: list[bytes] = field(default_factory=list)
    response: UpstreamResponse | None = None
    is_read: bool = True  # else its body is in a coding that we do not know


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
    ) -> None:
        self.result = result
        self.status = status
        self.fate = fate
        self.retry_after_s = retry_after_s
        self.own = own
        super().__init__(detail)


@dataclass(slots=True)
class Dispatcher:
    """Runs plans; one for the process."""

    upstream: Upstream
    health: Health

    async def attempt(
        self,
        attempt: Attempt,
        headers: list[Header],
        body: bytes,
        *,
        streamed: bool,
        hide_usage: bool,
        n_choices: int,
        deadline: float,
    ) -> Reply:
        """Make one upstream call; return its answer once there is content in it.

        Raises:
            AttemptFailed: there is none; says of what kind, and why.
        """
        attempt.began_at = time.monotonic()
        limit = min(attempt.began_at + attempt.limit_s, deadline)
        try:
            with Deadline(limit - attempt.began_at):
                target = attempt.endpoint.target
                response = decoded(
                    await self.upstream.send("POST", target, headers, body, repeatable=True)
                )
                try:
                    return await self._read(attempt, response, streamed, hide_usage, n_choices)
                except BaseException:
                    await response.aclose()
                    raise
        except TimeoutError:
            raise AttemptFailed(
                Result.TIMEOUT, f"nothing within {limit - attempt.began_at:.1f} s"
            ) from None
        except httpx.ConnectTimeout:
            raise AttemptFailed(Result.CONNECT, "no connection in time") from None
        except httpx.ConnectError as error:
            raise AttemptFailed(Result.CONNECT, f"no connection ({error})") from None
        except httpx.LocalProtocolError as error:
            raise AttemptFailed(Result.CONNECT, f"not sent ({error})") from None
        except httpx.TransportError as error:
            raise AttemptFailed(Result.CONNECT, f"connection broke ({error})") from None
        except (ValueError, RuntimeError) as error:
            raise AttemptFailed(Result.CONNECT, f"not sent ({type(error).__name__})") from None

    async def _read(
        self,
        attempt: Attempt,
        response: UpstreamResponse,
        streamed: bool,
        hide_usage: bool,
        n_choices: int,
    ) -> Reply:
        attempt.status = response.status
        if response.status != 200:
            return await self._read_refusal(attempt, response)
        is_stream = b"event-stream" in _header(response, b"content-type")
        if isinstance(response, CodedAnswer):
            return await _read_unread(attempt, response, is_stream=streamed and is_stream)
        if streamed and is_stream:
            stream = ChatStream(hide_usage=hide_usage, n_choices=n_choices)
            return await _read_first_content(attempt, response, stream)
        body = await _read_whole(response)
        attempt.latency_s = time.monotonic() - attempt.began_at
        answer = parse_answer(body)
        if answer is None:
            raise AttemptFailed(
                Result.BAD_REPLY,
                "status 200 without an answer",
                status=200,
                fate=Fate.FIT,
                own=Reply(attempt, 200, response.headers, body),
            )
        attempt.usage, attempt.answer_id = usage_of(answer.usage), id_of(answer.id)
        await response.aclose()
        return Reply(attempt, 200, response.headers, body)

    async def _read_refusal(self, attempt: Attempt, response: UpstreamResponse) -> Reply:
        status, endpoint = response.status, attempt.endpoint
        body = await _read_whole(response)
        await response.aclose()
        attempt.latency_s = time.monotonic() - attempt.began_at
        found = read_refusal(status, body, client_auth=endpoint.client_auth)
        attempt.result = found.result
        own = Reply(attempt, status, response.headers, body)
        if found.fate is Fate.REQUEST:
            return own
        raise AttemptFailed(
            found.result,
            f"status {status}" + (f" ({found.code[:64]})" if found.code else ""),
            status=status,
            fate=found.fate,
            retry_after_s=retry_after_s(response.headers, now_s=time.time()),
            own=own,
        )


async def _read_unread(attempt: Attempt, response: CodedAnswer, *, is_stream: bool) -> Reply:
    """Return an answer that nobody here can read: it counts as one by its status."""
    if is_stream:
        chunks, stream = aiter(response), UnreadStream()
        attempt.ttft_s = time.monotonic() - attempt.began_at
        return Reply(attempt, 200, response.headers, None, stream, chunks, [], response)
    body = await _read_whole(response)
    await response.aclose()
    attempt.latency_s = time.monotonic() - attempt.began_at
    return Reply(attempt, 200, response.headers, body, is_read=False)


async def _read_first_content(
    attempt: Attempt, response: UpstreamResponse, stream: ChatStream
) -> Reply:
    chunks = aiter(response)
    held: list[bytes] = []
    size = 0
    ended_well = True
    try:
        async for chunk in chunks:
            held.append(stream.feed(chunk))
            size += len(chunk)
            if not stream.spoke and (stream.failed or stream.unreadable):
                why = "an error instead of content"
                raise AttemptFailed(Result.BAD_REPLY, why, status=200, fate=Fate.FIT)
            if stream.spoke or stream.done or size > MAX_HELD_BYTES:
                ended_well = False
                break
    except httpx.RemoteProtocolError as error:
        raise AttemptFailed(Result.CUT, f"cut before content ({error})", status=200) from None
    if ended_well:
        held.append(stream.flush())
        if not stream.is_whole(ended_well=True):
            raise AttemptFailed(Result.CUT, "ended before its end", status=200)
    attempt.ttft_s = time.monotonic() - attempt.began_at
    return Reply(attempt, 200, response.headers, None, stream, chunks, held, response)


async def _read_whole(response: UpstreamResponse) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        async for chunk in response:
            parts.append(chunk)
            size += len(chunk)
            if size > MAX_ANSWER_BYTES:
                raise AttemptFailed(Result.BAD_REPLY, "answer over 64 MiB", status=200)
    except httpx.RemoteProtocolError as error:
        raise AttemptFailed(Result.CUT, f"cut ({error})", status=response.status) from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


def order(
    first: Endpoint, then: Iterator[Endpoint], health: Health, *, usable: bool
) -> Iterator[Endpoint]:
    """Yield whom to try: `first` unless it may not serve, then the others.

    An endpoint whose breaker is open is passed over while there is another one.
    """
    later: list[Endpoint] = []
    if usable:
        if health.is_blocked(first.index, time.monotonic()):
            later.append(first)
        else:
            yield first
    for endpoint in then:
        if health.is_blocked(endpoint.index, time.monotonic()):
            later.append(endpoint)
        else:
            yield endpoint
    yield from later[:1]


def limit_s(
    endpoint: Endpoint, beliefs: Beliefs, category: int, *, streamed: bool, deadline_s: float
) -> float:
    """Return how long an attempt may stay without content.

    A streamed call is held to its first token, an unstreamed one to its whole answer: twice what
    99 % of calls need, within bounds; a fixed limit while there are few calls to go by.
    """
    index = endpoint.index
    known = beliefs.posterior.timed[category, index] >= FEW_CALLS
    if streamed:
        if not known:
            most = endpoint.timeouts.first_token_s
            return min(max(FIRST_TOKEN_UNKNOWN_S, most / 2), most, deadline_s)
        expected = 2 * float(beliefs.ttft_q99_s[category, index])
        return min(max(expected, FIRST_TOKEN_LEAST_S), endpoint.timeouts.first_token_s)
    if not known:
        return max(deadline_s / 2, min(WHOLE_ANSWER_LEAST_S, deadline_s))
    expected = 2 * float(beliefs.latency_q99_s[category, index])
    return min(max(expected, WHOLE_ANSWER_LEAST_S), max(deadline_s / 2, WHOLE_ANSWER_LEAST_S))


def _header(response: UpstreamResponse, name: bytes) -> bytes:
    for key, value in response.headers:
        if key == name:
            return value
    return b""
