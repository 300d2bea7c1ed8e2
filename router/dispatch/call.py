"""One call of a client: a plan, attempts, an answer, and outcomes in the books.

An outcome is in the journal before the answer's end leaves for the client.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import structlog

from router.config.entries import UnitKind
from router.decision import planner
from router.decision.context import CallContext
from router.decision.decide import Decider, Decision
from router.dialects.chat import ChatRequest
from router.dispatch.attempt import (
    MAX_ATTEMPTS,
    Attempt,
    AttemptFailed,
    Dispatcher,
    Ending,
    Reply,
    limit_s,
    order,
)
from router.dispatch.booking import FINAL, RESULT_NAMES, STREAMED, Booking, decision_flags
from router.dispatch.fates import Fate
from router.dispatch.headers import forward_headers, returned_headers
from router.dispatch.observer_line import ObserverLine
from router.dispatch.retries import may_take_over, pause_before_repeat_s
from router.dispatch.stream import StreamedAnswer
from router.endpoints.catalog import Endpoint
from router.endpoints.retries import RetryBudget
from router.errors import AllEndpointsFailed, Misconfigured
from router.net.asgi import DisconnectGuard, Exchange, Header
from telemetry.events import Result
from telemetry.observed import Observed

log = structlog.get_logger()


class Calls:
    """Serves calls that are decided here."""

    def __init__(
        self,
        decider: Decider,
        dispatcher: Dispatcher,
        booking: Booking,
        *,
        observer: ObserverLine | None = None,
        note: Callable[[Decision], None] = lambda decision: None,
    ) -> None:
        self.decider = decider
        self.dispatcher = dispatcher
        self.booking = booking
        self.observer = observer
        self.note = note  # of every decision, for later explanations
        self.budget = RetryBudget()

    async def serve(self, context: CallContext, request: ChatRequest, exchange: Exchange) -> None:
        """Answer one call.

        Raises:
            NoCandidates: no endpoint may serve it.
            AllEndpointsFailed: no endpoint did.
        """
        decision = await self.decider.decide(context, request)
        decide_s = time.monotonic() - context.at.monotonic_s
        self.note(decision)
        metrics = self.booking.metrics
        metrics.decide_s.observe(decide_s)
        if decision.plan.drawn_now:
            metrics.decisions[(context.strategy.name, decision.plan.step or "")] += 1
        guard = DisconnectGuard(exchange.line)
        call = _Call(self, decision, request, exchange, guard, decide_s)
        try:
            await call.run()
        except asyncio.CancelledError:
            call.note_client_gone()
            if not guard.client_gone:
                raise
            guard.forgive()


class _Failed(NamedTuple):
    endpoint: Endpoint
    failure: AttemptFailed


class _Call:
    """The state of one call while it is served."""

    def __init__(
        self,
        home: Calls,
        decision: Decision,
        request: ChatRequest,
        exchange: Exchange,
        guard: DisconnectGuard,
        decide_s: float,
    ) -> None:
        self.home = home
        self.decision = decision
        self.request = request
        self.exchange = exchange
        self.guard = guard
        self.decide_s = decide_s
        self.configuration = decision.context.beliefs.configuration
        self.deadline_s = self.configuration.server.deadline_s
        self.deadline = decision.context.at.monotonic_s + self.deadline_s
        self.flags = decision_flags(decision)
        self.failures: list[_Failed] = []
        self.pending: Attempt | None = None
        observes = decision.context.caller.app.entry.signals
        self.observer = home.observer if observes else None

    async def run(self) -> None:
        """Send the first answer that may go to the client."""
        reply = await self._dispatch()
        if reply.chunks is None:
            await self._send_whole(reply)
            return
        token = self.home.booking.token(self.decision, reply.attempt.endpoint)
        stream = StreamedAnswer(
            reply,
            self.exchange,
            self.guard,
            deadline=self.deadline,
            keep=self.observer is not None,
            book=lambda said, whole: self._end_stream(reply.attempt, said, whole=whole),
        )
        await stream.send(self._response_headers(reply, token))

    async def _dispatch(self) -> Reply:
        """Return the first answer that may go to the client, and see to every other attempt.

        Where none came, the refusal of whoever was asked last goes to the client: so its SDK does
        what it would have done without us.
        """
        plan, health, budget = self.decision.plan, self.home.dispatcher.health, self.home.budget
        budget.earn()
        usable = planner.may_serve(plan, plan.drawn)
        candidates = order(plan.drawn, plan.then(), health, usable=usable)
        endpoint, following, n_repeats = next(candidates, None), None, 0
        if endpoint is None:
            catalog = self.configuration.catalog
            endpoint = planner.last_resort(plan.route, plan.eligibility, catalog)
        while endpoint is not None and time.monotonic() < self.deadline:
            was_down = health.is_blocked(endpoint.index, time.monotonic())
            attempt = self.pending = Attempt(endpoint=endpoint, number=len(self.failures) + 1)
            try:
                return await self._attempt(attempt)
            except AttemptFailed as failure:
                self._fail(attempt, failure)
            if len(self.failures) >= MAX_ATTEMPTS:
                break
            if following is None:
                following = self._next(candidates, endpoint)
            if not was_down and await self._waits_to_repeat(n_repeats, following):
                n_repeats += 1
                continue
            if following is not None and not self._may_ask(following):
                break
            endpoint, following, n_repeats = following, None, 0
        return self._end_without_answer()

    def _next(self, candidates: Iterator[Endpoint], after: Endpoint) -> Endpoint | None:
        fate = self.failures[-1].failure.fate
        return next((e for e in candidates if may_take_over(e, after, fate)), None)

    async def _waits_to_repeat(self, n_repeats: int, following: Endpoint | None) -> bool:
        """Return whether the same endpoint is to be asked again, once it is time."""
        wait_s = pause_before_repeat_s(
            self.failures[-1].failure,
            n_repeats,
            has_others=following is not None,
            left_s=self.deadline - time.monotonic(),
            random=random.random,
        )
        if wait_s is None or not self.home.budget.spend():
            return False
        await asyncio.sleep(wait_s)
        return True

    def _may_ask(self, endpoint: Endpoint) -> bool:
        """Return whether a fallback may be tried: freely, unless it failed just now itself."""
        failed_just_now = self.home.dispatcher.health.failed_lately(
            endpoint.index, time.monotonic()
        )
        return not failed_just_now or self.home.budget.spend()

    def _end_without_answer(self) -> Reply:
        """Return the refusal that the client is to see.

        Raises:
            Misconfigured: who could be asked turns our key or model down.
            AllEndpointsFailed: nobody came back with a status.
        """
        self.pending = None
        if not self.failures:
            raise AllEndpointsFailed([], timed_out=True)
        last = self.failures[-1].endpoint
        self._tell(self.home.booking.token(self.decision, last), b"", answered=False)
        told = [f for f in self.failures if f.failure.own is not None]
        for failed in reversed(told):
            if failed.failure.fate is not Fate.ENDPOINT and failed.failure.own is not None:
                return failed.failure.own
        if told:
            raise Misconfigured(told[-1].endpoint.id)
        timed_out = time.monotonic() >= self.deadline
        raise AllEndpointsFailed(
            [(f.endpoint.id, str(f.failure)) for f in self.failures], timed_out=timed_out
        )

    async def _attempt(self, attempt: Attempt) -> Reply:
        plan, endpoint, streamed = self.decision.plan, attempt.endpoint, self.request.streamed
        attempt.limit_s = limit_s(
            endpoint,
            plan.beliefs,
            plan.category,
            streamed=streamed,
            deadline_s=self.deadline_s,
        )
        body, hide_usage = self.request.rewritten(endpoint)
        headers = forward_headers(
            self.exchange.raw_headers,
            self.decision.context.caller,
            endpoint,
            key_headers=self.configuration.catalog.key_headers,
        )
        self.home.dispatcher.health.begin(endpoint.index, time.monotonic())
        return await self.home.dispatcher.attempt(
            attempt,
            headers,
            body,
            streamed=streamed,
            hide_usage=hide_usage,
            n_choices=self.request.n_choices,
            deadline=self.deadline,
        )

    def _fail(self, attempt: Attempt, failure: AttemptFailed) -> None:
        attempt.result, attempt.status = failure.result, failure.status
        attempt.latency_s = time.monotonic() - attempt.began_at
        self.failures.append(_Failed(attempt.endpoint, failure))
        self._end(attempt, final=False, retry_after_s=failure.retry_after_s)
        if failure.result is Result.REFUSED:
            log.error(
                "an endpoint turns down its key or its model; set auth, or upstream_model",
                endpoint=attempt.endpoint.id,
                address=str(attempt.endpoint.target.url),
                status=failure.status,
            )
            return
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

    async def _send_whole(self, reply: Reply) -> None:
        if self.pending is None:  # booked already: a refusal, after nobody else answered
            token = self.home.booking.token(self.decision, reply.attempt.endpoint)
        else:
            token = self._end(reply.attempt, final=True)
        self.guard.finish()
        assert reply.body is not None
        if reply.attempt.result is Result.OK:
            self._tell(token, reply.body if reply.is_read else b"", answered=reply.is_read)
        headers = self._response_headers(reply, token)
        await self.exchange.respond(reply.status, reply.body, headers)

    def _end_stream(self, attempt: Attempt, said: bytes, *, whole: bool) -> None:
        token = self._end(attempt, final=True)
        self._tell(token, said, answered=whole)

    def _end(self, attempt: Attempt, *, final: bool, retry_after_s: float | None = None) -> bytes:
        """Book an attempt: health, journal, metrics. Return its packed token."""
        self.pending = None
        booking, context, endpoint = self.home.booking, self.decision.context, attempt.endpoint
        self.home.dispatcher.health.end(
            endpoint.index, attempt.result, time.monotonic(), retry_after_s=retry_after_s
        )
        flags = self.flags | (STREAMED if self.request.streamed else 0) | (FINAL if final else 0)
        cost_nano = _cost_nano(endpoint, attempt)
        token = booking.token(self.decision, endpoint)
        booking.write(
            token,
            attempt,
            app=context.caller.app.name,
            flags=flags,
            cost_nano=cost_nano,
            reference=context.hints.reference,
        )
        booking.count(endpoint, context.task.name, attempt, cost_nano)
        return token

    def _tell(self, token: bytes, answer: bytes, *, answered: bool) -> None:
        """Tell the observer how the call ended."""
        if self.observer is None:
            return
        context = self.decision.context
        declared = context.unit.is_session or context.hints.user is not None
        self.observer.tell(
            Observed(
                decision=token,
                app=context.caller.app.digest,
                unit=context.unit.key if declared and context.unit.key else b"",
                stateless=context.caller.app.entry.unit is UnitKind.CALL,
                answered=answered,
                streamed=self.request.streamed,
                began_at_s=self.decision.decided_at_ms / 1e3,
                ended_at_s=time.time(),
                request=self.request.body,
                answer=answer,
            )
        )

    def _response_headers(self, reply: Reply, token: bytes) -> list[Header]:
        decision, context = self.decision, self.decision.context
        out = returned_headers(reply.headers, named=context.route.by_name)
        timing = (
            f"decide;dur={self.decide_s * 1e3:.2f}, "
            f"upstream;dur={(reply.attempt.ttft_s or reply.attempt.latency_s) * 1e3:.1f}"
        )
        out += [
            (b"x-request-id", decision.nonce.hex().encode()),
            (b"x-router-decision-id", self.home.booking.seal.close(token).encode()),
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


def _cost_nano(endpoint: Endpoint, attempt: Ending) -> int | None:
    usage = attempt.usage
    if usage is None:
        return None
    return endpoint.cost_nano(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
