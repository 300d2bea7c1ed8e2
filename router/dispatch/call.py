"""One chat call: body in, plan, attempts, answer out, outcomes written.

An outcome is in the journal before the answer's end leaves for the client.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import structlog

from router.beliefs.choices import release_key
from router.config.entries import UnitKind
from router.decision import planner
from router.decision.decide import CallContext, Decider, Decision
from router.decision.seal import Seal
from router.dialects import chat
from router.dialects.errors import error_body
from router.dispatch.attempt import (
    MAX_ATTEMPTS,
    Attempt,
    AttemptFailed,
    Dispatcher,
    Reply,
    limit_s,
    order,
)
from router.dispatch.observer_line import ObserverLine
from router.endpoints.catalog import Endpoint
from router.errors import AllEndpointsFailed, NoCandidates
from router.net.asgi import Header, Scope, Send, respond
from router.net.deadline import Deadline
from router.net.inbound import GONE, WHOLE, Whole
from router.policy.callers import Caller
from telemetry import events
from telemetry.events import Flag, Result, Token, digest16
from telemetry.metrics import Metrics
from telemetry.observed import MAX_PART_BYTES, Observed
from telemetry.writer import Writer

log = structlog.get_logger()
STARTED = "pointsman.started"
"""Key in the scope once the answer's head has left."""
# Flags and names as plain values: arithmetic on enum members costs a microsecond an operation.
STREAMED, USAGE_KNOWN, ROUTED = int(Flag.STREAMED), int(Flag.USAGE_KNOWN), int(Flag.ROUTED)
BY_INCUMBENT, DRAWN_NOW, FINAL = int(Flag.BY_INCUMBENT), int(Flag.DRAWN_NOW), int(Flag.FINAL)
PRICED, TTFT_KNOWN = int(Flag.PRICED), int(Flag.TTFT_KNOWN)
RESULT_NAMES = {result: result.name.lower() for result in Result}
NOT_FORWARDED = frozenset(
    b"host connection content-length transfer-encoding keep-alive te trailer upgrade expect "
    b"proxy-authorization proxy-connection authorization x-api-key api-key cookie origin referer "
    b"x-goog-api-key accept-encoding content-encoding x-forwarded-for x-forwarded-host "
    b"x-forwarded-proto forwarded via x-real-ip".split()
)
PASSED_BACK = frozenset(
    b"content-type content-encoding retry-after retry-after-ms openai-processing-ms".split()
)
DONE_S = 1.0
"""How long the connection may stay open after the terminator; then we close it."""
FINISHED_S = 5.0
"""How long the terminator may take after a finish reason; some providers never send it."""
RATE_HEADERS = (b"x-ratelimit-", b"anthropic-ratelimit-")
"""Passed back only to a caller who named the model: of an unnamed one they say nothing."""


class Completions:
    """Serves `POST /v1/chat/completions`."""

    def __init__(
        self,
        decider: Decider,
        dispatcher: Dispatcher,
        writer: Writer,
        seal: Seal,
        metrics: Metrics,
        *,
        n_shards: int,
        deadline_s: float,
        signals: ObserverLine | None = None,
        note: Callable[[Decision], None] = lambda decision: None,
    ) -> None:
        self.decider = decider
        self._note = note  # of every decision, for later explanations
        self._signals = signals
        self._dispatcher = dispatcher
        self._writer = writer
        self._seal = seal
        self._metrics = metrics
        self._n_shards = n_shards
        self._deadline_s = deadline_s
        catalog = decider.keeper.current.configuration.catalog
        keyed = {e.auth_header[0] for e in catalog.endpoints if e.auth_header}
        self._not_forwarded = NOT_FORWARDED | keyed

    async def serve(
        self,
        context: CallContext,
        headers: Mapping[bytes, bytes],
        request: chat.Request,
        body: bytes,
        scope: Scope,
        send: Send,
        *,
        began_at: float,
    ) -> None:
        """Answer one call.

        Raises:
            NoCandidates: no endpoint may serve it.
            AllEndpointsFailed: no endpoint did.
        """
        decision = await self.decider.decide(context, request)
        decide_s = time.monotonic() - began_at
        self._note(decision)
        self._metrics.decide_s.observe(decide_s)
        step = decision.plan.step
        if decision.plan.drawn_now:
            self._metrics.decisions[(context.strategy.name, step or "")] += 1
        call = _Call(self, decision, request, body, headers, began_at, decide_s)
        watcher = DisconnectGuard(scope)
        try:
            await call.run(send, watcher)
        except asyncio.CancelledError:
            call.note_client_gone()
            if not watcher.client_gone:
                raise
            watcher.forgive()

    def headers_for(
        self, headers: Mapping[bytes, bytes], caller: Caller, endpoint: Endpoint
    ) -> list[Header]:
        """Return the headers that go to an endpoint: the client's own, less what is ours."""
        out = [
            (name, value)
            for name, value in headers.items()
            if name not in self._not_forwarded and not name.startswith(b"x-router-")
        ]
        out.append((b"accept-encoding", b"identity"))
        if endpoint.auth_header is not None:
            out.append(endpoint.auth_header)
        elif endpoint.client_auth and caller.credential is not None:
            out.append(caller.credential)
        return out


class _Call:
    """The state of one call while it is served."""

    def __init__(
        self,
        home: Completions,
        decision: Decision,
        request: chat.Request,
        body: bytes,
        headers: Mapping[bytes, bytes],
        began_at: float,
        decide_s: float,
    ) -> None:
        self.home = home
        self.decision = decision
        self.request = request
        self.body = body
        self.headers = headers
        self.deadline = began_at + home._deadline_s
        self.decide_s = decide_s
        plan = decision.plan
        self.flags = (
            (ROUTED if plan.route.routed else 0)
            | (BY_INCUMBENT if plan.by_incumbent else 0)
            | (DRAWN_NOW if plan.drawn_now else 0)
        )
        self.attempts: list[tuple[str, str]] = []
        self.pending: Attempt | None = None
        self.last: Endpoint = plan.drawn  # who was asked last
        self.said: list[bytes] = []  # of a stream, for the observer
        self.said_bytes = 0
        told = home._signals is not None and decision.context.caller.app.entry.signals
        self.signals = home._signals if told else None

    async def run(self, send: Send, watcher: DisconnectGuard) -> None:
        reply = await self._dispatch()
        if reply.chunks is None:
            await self._send_whole(reply, send, watcher)
        else:
            await self._send_stream(reply, send, watcher)

    async def _dispatch(self) -> Reply:
        """Return the first answer that may go to the client."""
        home, plan = self.home, self.decision.plan
        health = home._dispatcher.health
        usable = planner.may_serve(plan, plan.drawn)
        streamed = bool(self.request.stream)
        timed_out = False
        for endpoint in order(plan.drawn, plan.then(), health, usable=usable):
            left = self.deadline - time.monotonic()
            if left <= 0 or len(self.attempts) >= MAX_ATTEMPTS:
                timed_out = left <= 0
                break
            attempt = self.pending = Attempt(endpoint, len(self.attempts) + 1)
            self.last = endpoint
            attempt.limit_s = limit_s(
                endpoint,
                plan.beliefs,
                plan.category,
                streamed=streamed,
                deadline_s=home._deadline_s,
            )
            body, hide_usage = chat.rewrite(self.body, self.request, endpoint)
            headers = home.headers_for(self.headers, self.decision.context.caller, endpoint)
            health.begin(endpoint.index, time.monotonic())
            try:
                reply = await home._dispatcher.attempt(
                    attempt,
                    headers,
                    body,
                    streamed=streamed,
                    hide_usage=hide_usage,
                    n_choices=max(self.request.n or 1, 1),
                    deadline=self.deadline,
                )
            except AttemptFailed as failure:
                self._fail(attempt, failure)
                continue
            return reply
        self.pending = None
        if not self.attempts:
            catalog = plan.beliefs.configuration.catalog
            raise NoCandidates(plan.eligibility.exclusions(catalog))
        self._tell(self._token(self.last), b"", answered=False)
        raise AllEndpointsFailed(self.attempts, timed_out=timed_out)

    def _fail(self, attempt: Attempt, failure: AttemptFailed) -> None:
        attempt.result, attempt.status = failure.result, failure.status
        attempt.latency_s = time.monotonic() - attempt.began_at
        self.attempts.append((attempt.endpoint.id, str(failure)))
        self._end(attempt, final=False, retry_after_s=failure.retry_after_s)
        log.warning(
            "attempt failed",
            endpoint=attempt.endpoint.id,
            result=RESULT_NAMES[failure.result],
            detail=str(failure),
        )

    def note_client_gone(self) -> None:
        """Book the attempt that was under way when the client left."""
        if self.pending is not None:
            self.pending.result = Result.CLIENT_GONE
            self.pending.latency_s = time.monotonic() - self.pending.began_at
            token = self._end(self.pending, final=False)
            self._tell(token, b"", answered=False)

    async def _send_whole(self, reply: Reply, send: Send, watcher: DisconnectGuard) -> None:
        token = self._end(reply.attempt, final=True)
        watcher.finish()
        assert reply.body is not None
        if reply.attempt.result is Result.OK:
            self._tell(token, reply.body, answered=True)
        headers = self._response_headers(reply, token)
        if watcher.whole is None or not watcher.whole(reply.status, headers, reply.body):
            await respond(send, reply.status, reply.body, headers)

    async def _send_stream(self, reply: Reply, send: Send, watcher: DisconnectGuard) -> None:
        """Pass the stream on; its outcome is written before its end is."""
        assert reply.stream is not None
        stream, attempt = reply.stream, reply.attempt
        token = self._token(attempt.endpoint)
        headers = self._response_headers(reply, token)
        ended: bytes | None = None
        try:
            watcher.scope[STARTED] = True
            await send({"type": "http.response.start", "status": reply.status, "headers": headers})
            held = b"".join(reply.held)
            self._keep(held)
            if stream.done:
                ended = self._end_stream(reply)
            await _send_chunk(send, held)
            if ended is None:
                ended = await self._pass_on(reply, send)
            watcher.finish()
            self.pending = None
            await send({"type": "http.response.body", "body": ended, "more_body": False})
        finally:
            if reply.response is not None:
                await reply.response.aclose()

    async def _pass_on(self, reply: Reply, send: Send) -> bytes:
        """Send chunks until the stream ends; return what is still to be sent at its end."""
        assert reply.stream is not None
        assert reply.chunks is not None
        stream, stall_s = reply.stream, reply.attempt.endpoint.timeouts.stall_s
        try:
            with Deadline(stall_s) as limit:
                async for chunk in reply.chunks:
                    passed = stream.feed(chunk)
                    self._keep(chunk)
                    if stream.done and self.pending is not None:
                        self._end_stream(reply)
                    if passed:
                        await _send_chunk(send, passed)
                    wait_s = DONE_S if stream.done else FINISHED_S if stream.finished else stall_s
                    left = self.deadline - time.monotonic()
                    limit.move(min(wait_s, max(left, 0.0)))
        except (TimeoutError, httpx.RemoteProtocolError) as error:
            inside = stream.is_inside_event
            return self._end_stream(reply, failure=type(error).__name__, inside=inside)
        inside = stream.is_inside_event
        rest = stream.flush()
        return rest + self._end_stream(reply, inside=inside)

    def _end_stream(
        self, reply: Reply, *, failure: str | None = None, inside: bool = False
    ) -> bytes:
        """Book how a stream ended; return the error event that tells of a cut one."""
        stream, attempt = reply.stream, reply.attempt
        assert stream is not None
        if self.pending is None:
            return b""
        attempt.usage, attempt.answer_id = stream.usage, stream.id
        attempt.latency_s = time.monotonic() - attempt.began_at
        if not stream.complete:
            attempt.result = Result.TIMEOUT if failure == "TimeoutError" else Result.CUT
        token = self._end(attempt, final=True)
        self._tell(token, b"".join(self.said), answered=stream.complete)
        if stream.complete:
            return b""
        if stream.failed:
            return b""  # the provider's own error event has told the client
        why = "the endpoint stopped sending" if failure == "TimeoutError" else "the stream was cut"
        message = f"{why}; the answer above is not whole"
        error = error_body(message, code="stream_cut", param=None, status=502)
        return (b"\n\n" if inside else b"") + b"data: " + error + b"\n\n"

    def _keep(self, chunk: bytes) -> None:
        """Keep a copy of what a stream says, as far as the observer takes it."""
        if self.signals is not None and self.said_bytes <= MAX_PART_BYTES:
            self.said.append(chunk)
            self.said_bytes += len(chunk)

    def _tell(self, token: bytes, answer: bytes, *, answered: bool) -> None:
        """Tell the observer how the call ended."""
        if self.signals is None:
            return
        context = self.decision.context
        declared = context.unit.is_session or context.wish.user is not None
        self.signals.tell(
            Observed(
                decision=token,
                app=context.caller.app.digest,
                unit=context.unit.key if declared and context.unit.key else b"",
                stateless=context.caller.app.entry.unit is UnitKind.CALL,
                answered=answered,
                streamed=bool(self.request.stream),
                began_at_s=self.decision.decided_at_ms / 1e3,
                ended_at_s=time.time(),
                request=self.body,
                answer=answer,
            )
        )

    def _end(self, attempt: Attempt, *, final: bool, retry_after_s: float | None = None) -> bytes:
        """Book an attempt: health, journal, metrics. Return its packed token."""
        self.pending = None
        home, context = self.home, self.decision.context
        endpoint, usage = attempt.endpoint, attempt.usage
        home._dispatcher.health.end(
            endpoint.index, attempt.result, time.monotonic(), retry_after_s=retry_after_s
        )
        flags = (STREAMED if self.request.stream else 0) | (FINAL if final else 0)
        tokens_in = tokens_out = cached = reasoning = 0
        cost: int | None = None
        if usage is not None:
            flags |= USAGE_KNOWN
            tokens_in, tokens_out = usage.prompt_tokens, usage.completion_tokens
            cached, reasoning = usage.cached_tokens, usage.reasoning_tokens
            cost = endpoint.cost_nano(tokens_in, tokens_out, cached)
        if cost is not None:
            flags |= PRICED
            home._metrics.cost_usd[endpoint.id] += cost / 1e9
        if attempt.ttft_s is not None:
            flags |= TTFT_KNOWN
            home._metrics.observe(home._metrics.ttft_s, endpoint.id, attempt.ttft_s)
        token = self._token(endpoint)
        app = context.caller.app.name
        reference = context.wish.reference
        home._writer.put(
            events.outcome(
                token,
                result=attempt.result,
                attempt=attempt.number,
                status=attempt.status,
                flags=flags | self.flags,
                tokens_in=tokens_in,
                tokens_out=tokens_out,
                tokens_cached=cached,
                tokens_reasoning=reasoning,
                latency_s=attempt.latency_s,
                ttft_s=attempt.ttft_s or 0.0,
                cost_nano=cost or 0,
                response=digest16(app, "response", attempt.answer_id)
                if final and attempt.answer_id
                else events.NO_DIGEST,
                reference=digest16(app, "ref", reference)
                if final and reference
                else events.NO_DIGEST,
            )
        )
        home._metrics.attempts[(endpoint.id, context.task.name, RESULT_NAMES[attempt.result])] += 1
        home._metrics.observe(home._metrics.upstream_s, endpoint.id, attempt.latency_s)
        return token

    def _token(self, executed: Endpoint) -> bytes:
        decision, context = self.decision, self.decision.context
        plan, beliefs = decision.plan, context.beliefs
        return Token(
            key_id=self.home._seal.key_id,
            shard=decision.nonce[0] % self.home._n_shards,
            flags=self.flags,
            nonce=decision.nonce,
            decided_at_ms=decision.decided_at_ms,
            category=beliefs.configuration.task_digests[plan.category],
            drawn=plan.drawn.digest,
            executed=executed.digest,
            strategy=context.strategy.digest,
            app=context.caller.app.digest,
            release_key=release_key(context.caller.app.digest, context.draw_key),
            session=int.from_bytes((context.unit.key or decision.nonce)[:8], "little"),
            propensity=plan.propensity,
            predicted=float(beliefs.quality_mean[plan.category, executed.group]),
            predicted_sd=float(beliefs.quality_sd[plan.category, executed.group]),
            spread=float(beliefs.quality_spread[plan.category, executed.group]),
            regime=beliefs.known[executed.index].regimes.now,
        ).pack()

    def _response_headers(self, reply: Reply, token: bytes) -> list[Header]:
        decision, context = self.decision, self.decision.context
        named = context.route.by_name
        out = []
        for name, value in reply.headers:
            lower = name.lower()
            if lower in PASSED_BACK or (named and lower.startswith(RATE_HEADERS)):
                out.append((lower, value))
            elif lower == b"x-request-id":
                out.append((b"x-router-upstream-request-id", value))
        decision_id = self.home._seal.close(token).encode()
        timing = (
            f"decide;dur={self.decide_s * 1e3:.2f}, "
            f"upstream;dur={(reply.attempt.ttft_s or reply.attempt.latency_s) * 1e3:.1f}"
        )
        out += [
            (b"x-request-id", decision.nonce.hex().encode()),
            (b"x-router-decision-id", decision_id),
            (b"x-router-endpoint", reply.attempt.endpoint.id.encode()),
            (b"x-router-task", context.task.name.encode()),
            (b"x-router-strategy", context.strategy.name.encode()),
            (b"x-router-propensity", f"{decision.plan.propensity:.6g}".encode()),
            (b"x-router-posterior-version", str(context.beliefs.version).encode()),
            (b"x-router-attempts", str(reply.attempt.number).encode()),
            (b"server-timing", timing.encode()),
        ]
        if context.task.warning:
            out.append((b"x-router-warning", context.task.warning.encode("ascii", "replace")))
        return out


class DisconnectGuard:
    """Cancels the call when its client closes the connection."""

    def __init__(self, scope: Scope) -> None:
        self.client_gone = False
        self._call: Any = asyncio.current_task()
        self.scope = scope
        # Taken out of the scope, and GONE later: what holds itself waits for the collector.
        self.whole: Whole | None = scope.pop(WHOLE, None)
        scope[GONE] = self._gone

    def _gone(self) -> None:
        self.client_gone = True
        self._call.cancel()

    def finish(self) -> None:
        """The answer is complete: from now on the client may go."""
        self.scope.pop(GONE, None)

    def forgive(self) -> None:
        """The cancellation was ours, and is dealt with."""
        self._call.uncancel()


async def _send_chunk(send: Send, chunk: bytes) -> None:
    if chunk:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
