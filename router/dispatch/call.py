"""One call of a client: a plan, attempts, an answer, and outcomes in the books.

An outcome is in the journal before the answer's end leaves for the client.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial

from router.decision.context import CallContext
from router.decision.decide import Decider, Decision
from router.decision.kinds import DecisionKind
from router.decision.planner import has_others, may_serve
from router.decision.stored_ids import StoredIds
from router.dialects.errors import refusal_event
from router.dispatch.answer_headers import answer_headers, decision_headers
from router.dispatch.asking import Asking
from router.dispatch.attempt import Attempt, AttemptFailed, Reply
from router.dispatch.booking import Booking
from router.dispatch.books import CallBooks
from router.dispatch.chain import AttemptChain
from router.dispatch.decision_flags import EXPLORED
from router.dispatch.diagnosis import Complaints
from router.dispatch.dispatcher import Dispatcher
from router.dispatch.ending import take_said
from router.dispatch.fates import said_of_endpoint
from router.dispatch.fit import note_answered
from router.dispatch.heartbeat import Heartbeat
from router.dispatch.instead import Instead
from router.dispatch.left_there import note_ids, note_thoughts
from router.dispatch.observer_line import ObserverLine
from router.dispatch.prompts import note_version
from router.dispatch.race import (
    Failed,
    Permit,
    Race,
    Unanswered,
    choose_refusal,
    error_of,
)
from router.dispatch.records import FINAL, PROMISED, READ, STREAMED, TRANSLATED
from router.dispatch.sampling import observer_of
from router.dispatch.spending import Spending
from router.dispatch.stream import StreamedAnswer
from router.endpoints.catalog import Endpoint
from router.endpoints.retries import RetryBudget
from router.errors import BudgetAway, BudgetSpent, NoCandidates, RateShareSpent
from router.net.exchange import DisconnectGuard, Exchange, Header
from telemetry.events import Result

NoteDecision = Callable[[Decision, Endpoint | None, DecisionKind], None]
"""Notes a decision, or who else answered it, for later explanations."""


class Calls:
    """Serves calls that are decided here."""

    def __init__(
        self,
        decider: Decider,
        dispatcher: Dispatcher,
        booking: Booking,
        spending: Spending,
        *,
        ids: StoredIds,
        thoughts: StoredIds,
        observer: ObserverLine | None = None,
        note: NoteDecision = lambda decision, answered, kind: None,
    ) -> None:
        self.decider, self.contexts = decider, decider.contexts
        self.dispatcher = dispatcher
        self.booking = booking
        self.spending, self.instead = spending, Instead(decider, spending)
        self.preview = self.instead.preview  # of a dry run
        self.ids = ids
        self.thoughts = thoughts
        self.observer = observer
        self.note = note  # of every decision, for later explanations; then who else answered
        self.budget = RetryBudget()
        self.complaints = Complaints()

    async def serve(self, context: CallContext, exchange: Exchange) -> None:
        """Answer one call; by what its budgets say instead, where they are used up.

        Raises:
            NoCandidates: no endpoint may serve it.
            BudgetSpent, BudgetAway: nothing that may serve it fits into a budget of its.
            RateShareSpent: its app has had its share of whoever may serve it.
            AllEndpointsFailed: no endpoint did.
        """
        try:
            if context.claims:
                context = await self.instead.settled(context)
            while True:
                try:
                    return await self._serve(context, exchange)
                except (BudgetSpent, NoCandidates) as refusal:
                    if exchange.started:
                        raise
                    context = await self.instead.after(context, refusal)
        except (BudgetSpent, BudgetAway, RateShareSpent) as refusal:  # which opens no session
            self.spending.count_refusal(refusal, context.claims)
            await self.decider.sessions.take_back(context.session, now=context.at.epoch_s)
            raise

    async def _serve(self, context: CallContext, exchange: Exchange) -> None:
        decision = await self.decider.decide(context)
        decide_s = time.monotonic() - context.at.monotonic_s
        guard = DisconnectGuard(exchange)
        call = _Call(self, decision, exchange, guard, decide_s)
        exchange.task.get_loop().call_soon(call.note)  # once its request is on its way
        try:
            await call.run()
        except asyncio.CancelledError:
            call.note_client_gone()
            if not guard.client_gone:
                raise
            guard.forgive()
        except BudgetSpent:
            guard.finish()  # nothing was sent, and it may be settled anew
            raise
        except Exception:
            call.note_client_gone()  # whatever failed in here, it was no endpoint
            raise
        finally:
            call.note()
            call.books.let_go()
            context.translations.let_go()


class _Call:
    """The state of one call while it is served."""

    def __init__(
        self,
        home: Calls,
        decision: Decision,
        exchange: Exchange,
        guard: DisconnectGuard,
        decide_s: float,
    ) -> None:
        self.home = home
        self.decision = decision
        self.exchange = exchange
        self.guard = guard
        self.decide_s = decide_s
        context = decision.context
        self.request = request = context.request
        self.configuration = context.beliefs.configuration
        self.repeatable = request.repeatable
        self.books = CallBooks(home.booking, decision)
        explores = bool(self.books.flags & EXPLORED)
        self.spending = home.spending.of(context, explores=explores)
        self.asking = Asking(decision, exchange, home.dispatcher, self.spending)
        self.chain = AttemptChain(decision, home.contexts)
        self.noted = False  # the decision is
        self.promised = False  # its id has left before it was known who answers
        self.under_way: list[Attempt] = []
        self.failures: list[Failed] = []
        self.observer = observer_of(home.observer, context, home.contexts.secret.at)

    def note(self) -> None:
        """Note the decision, once, and make its id: the provider works meanwhile."""
        if self.noted:
            return
        self.noted = True
        home, decision, context = self.home, self.decision, self.decision.context
        keeper = home.contexts.keeper
        home.booking.count_decision(decision, self.decide_s)
        note_version(keeper, context)
        keeper.tag_names.note(context.spend_tag)
        home.note(decision, None, self.books.kind)
        if self.under_way:
            self.books.id(self.under_way[0].endpoint)

    async def run(self) -> None:
        """Send the first answer that may go to the client."""
        if self.request.streamed:
            heartbeat = Heartbeat(self.exchange, self, client_s=self.asking.client_s)
            try:
                reply = await self._dispatch()
            finally:
                if heartbeat.stop():
                    await heartbeat.end()
        else:
            reply = await self._dispatch()
        if reply.stream is None:
            await (self._send_in_stream if self.exchange.started else self._send_whole)(reply)
            return
        stream = StreamedAnswer(
            reply,
            self.exchange,
            self.guard,
            keep=self.observer is not None,
            book=partial(self._end_stream, reply.attempt),
            on_ids=partial(self._note_ids, reply.attempt.endpoint),
        )
        await stream.send(self._response_headers(reply))

    async def _dispatch(self) -> Reply:
        """Return the first answer that may go to the client, and see to every other attempt.

        Where none came, the refusal of whoever was asked last goes to the client: so its SDK does
        what it would have done without us.
        """
        home = self.home
        home.budget.earn()
        usable, may_move = self.books.kind.derive(_prospects, self.decision)
        first, then = self.asking.first(usable=usable)
        race = Race(self, self.asking, then, home.dispatcher.health, home.budget)
        try:
            reply = await race.run(first, has_others=may_move)
        except Unanswered:
            return self._end_without_answer()
        self.books.let_go()
        if len(self.under_way) > 1:
            for attempt in [a for a in self.under_way if a is not reply.attempt]:
                self._end(attempt, Result.OVERTAKEN)
        return reply

    def _end_without_answer(self) -> Reply:
        """Return the refusal that the client is to see.

        Raises:
            Misconfigured: who could be asked turns our key or model down.
            AllEndpointsFailed: nobody came back with a status.
        """
        failures = self.failures
        self.books.let_go(unanswered=True)
        if not failures:
            raise self.asking.unasked()
        last = failures[-1].endpoint
        self._tell(self.books.token(last), b"", answered=False)
        own = choose_refusal(failures)
        if own is not None:
            return own
        raise error_of(failures, timed_out=time.monotonic() >= self.asking.deadline)

    def begin(self, permit: Permit, number: int, *, has_others: bool) -> Attempt:
        """Return an attempt that is under way from now on."""
        waits = has_others or bool(self.under_way)
        attempt = self.asking.begin(permit, number, waits=waits)
        if number > 1:
            self.books.let_go()
        self.under_way.append(attempt)
        if permit.grant is not None:
            token = partial(self.books.token, permit.endpoint)
            self.spending.begin(attempt, token)
        self.chain.begin(permit.endpoint)
        return attempt

    def note_second_start(self, endpoint: Endpoint) -> None:
        """Count that an endpoint is asked beside a slow one."""
        self.home.booking.metrics.second_starts[endpoint.id] += 1

    def fail(self, attempt: Attempt, failure: AttemptFailed) -> None:
        """Book that an attempt failed, and say so in the log."""
        attempt.status, attempt.was_sent = failure.status, failure.is_sent
        self._end(attempt, failure.result, retry_after_s=failure.retry_after_s)
        self.home.complaints.say(attempt.endpoint.id, attempt.limits.target, failure)

    def note_client_gone(self) -> None:
        """Book the attempts that were under way when the client left."""
        for attempt in list(self.under_way):
            if attempt.stream is not None:
                take_said(attempt, attempt.stream.state)
            self._end(attempt, Result.CLIENT_GONE, told=b"")

    async def _send_whole(self, reply: Reply) -> None:
        attempt = reply.attempt
        if attempt in self.under_way:  # else it is booked: a refusal, after nobody else answered
            told = (reply.body if reply.is_read else b"") if attempt.result is Result.OK else None
            self._end(attempt, attempt.result, final=True, told=told, answered=reply.is_read)
        self.guard.finish()
        assert reply.body is not None
        headers = self._response_headers(reply)
        await self.exchange.respond(reply.status, reply.body, headers)

    async def _send_in_stream(self, reply: Reply) -> None:
        """Send a whole body to a client whose stream has begun already."""
        attempt, body = reply.attempt, reply.body or b""
        if attempt in self.under_way:
            told = body if attempt.result is Result.OK else None
            self._end(attempt, attempt.result, final=True, told=told, answered=True)
        self.guard.finish()
        if attempt.result is Result.OK:
            body = self.request.as_stream(body)
        elif not reply.is_events:
            body = refusal_event(self.exchange.path, body)
        await self.exchange.end(body)

    def _end_stream(self, attempt: Attempt, said: bytes, whole: bool) -> None:
        self._end(attempt, attempt.result, final=True, told=said, answered=whole)

    def _end(
        self,
        attempt: Attempt,
        result: Result,
        *,
        final: bool = False,
        retry_after_s: float | None = None,
        told: bytes | None = None,
        answered: bool = False,
    ) -> None:
        """Book an attempt: observer, health, journal, metrics.

        Args:
            told: what the observer is to know of the answer; None where it is told nothing.
            answered: the client has the answer in full.
        """
        self.note()  # before who else answered
        self.under_way.remove(attempt)
        if not final:
            attempt.result, attempt.latency_s = result, time.monotonic() - attempt.began_at
        booking, context, endpoint = self.home.booking, self.decision.context, attempt.endpoint
        health, now = self.home.dispatcher.health, time.monotonic()
        health.end(
            endpoint.digest,
            attempt.result
            if attempt.result is Result.OK
            else said_of_endpoint(
                attempt.result,
                client_auth=endpoint.client_auth,
                silent_s=0.0 if attempt.status else attempt.latency_s,
            ),
            now,
            began_at=attempt.began_at,
            retry_after_s=retry_after_s,
            status=attempt.status,
        )
        if attempt.result is Result.REFUSED and endpoint.key is not None:
            endpoint.key.doubt()
        if final and attempt.result is Result.OK:
            note_answered(endpoint, self.failures, health, fields=self.asking.fields, now=now)
            self.home.decider.progress.note(context, attempt.usage)
        flags = (
            self.books.flags | (STREAMED if self.request.streamed else 0) | (FINAL if final else 0)
        )
        flags |= (TRANSLATED if attempt.is_translated else 0) | (PROMISED if self.promised else 0)
        flags |= booking.note_served(endpoint, attempt, by_profile=context.hints.profile)
        if endpoint.has_machine:
            machines, begun_at = self.home.dispatcher.machines, attempt.machine_s
            attempt.machine_s = machines.end(endpoint.digest, now, begun_at)
        heard = final or (result is Result.CLIENT_GONE and self.exchange.started)
        self.chain.settle(attempt, heard=heard, answer=told)
        token = self.books.token(endpoint)
        self.spending.settle(attempt, token)
        if final:
            self._note_ids(endpoint, attempt.answer_id, attempt.container, attempt.item_ids)
            if endpoint is not self.decision.plan.drawn:
                self.home.note(self.decision, endpoint, self.books.kind)
        note_thoughts(self.home.thoughts, context.caller, attempt)
        if told is not None and self._tell(token, told, answered=answered) and answered:
            flags |= READ
        self.books.write(token, attempt, flags)
        booking.count(endpoint, context.task.name, attempt)

    def _note_ids(
        self,
        endpoint: Endpoint,
        answer_id: str | None,
        container: str | None,
        items: Sequence[str] = (),
    ) -> None:
        """Remember who made what lies there from now on."""
        caller, said = self.decision.context.caller, (answer_id, container)
        note_ids(self.home.ids, caller, self.request, endpoint, self.configuration, said, items)

    def _tell(self, token: bytes, answer: bytes, *, answered: bool) -> bool:
        """Tell the observer how the call ended; return whether it will hear of it."""
        if self.observer is None:
            return False
        return self.observer.tell(self.decision, self.chain, token, answer, answered=answered)

    def _response_headers(self, reply: Reply) -> list[Header]:
        books = self.books
        sealed = books.id(reply.attempt.endpoint)
        return answer_headers(self.decision, sealed, reply, books.kind, decide_s=self.decide_s)

    def lives(self) -> bool:
        """Return whether the client would have a head by now, were it not held for what follows."""
        return self.asking.buffers or any(one.stream is not None for one in self.under_way)

    def early_headers(self) -> list[Header]:
        """Return what can be said before it is known who will answer."""
        self.promised = True
        return decision_headers(self.decision, self.books.early_id(), kind=self.books.kind)


def _prospects(decision: Decision) -> tuple[bool, bool]:
    """Return whether the drawn endpoint may serve the call, and whether anybody else may."""
    plan = decision.plan
    return may_serve(plan, plan.drawn), has_others(plan)
