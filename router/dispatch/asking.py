"""How one call is put to an endpoint: in its dialect, with what it takes of fields and headers.

What need not be sent and is turned down is left out at once, within the same attempt: a field that
we added, and thoughts that the endpoint may not have made.
"""

from __future__ import annotations

import math
import time

import structlog

from router.budgets.amounts import is_priced
from router.config.budgets import BudgetUnit
from router.config.entries import Streaming
from router.decision.decide import Decision
from router.dialects.request import Outgoing
from router.dispatch.attempt import (
    Attempt,
    Dispatcher,
    Reply,
    Sending,
    StreamOptionsRefused,
)
from router.dispatch.fates import ThoughtsRefused
from router.dispatch.headers import forward_headers, forward_query, headers_in
from router.dispatch.held import Hold
from router.dispatch.intents import Recipient, is_recorded
from router.dispatch.race import Permit
from router.dispatch.refusing import least_of
from router.dispatch.spending import AmountUnknown, CallSpending
from router.dispatch.time_limits import TimeLimitTable, beside_s, client_s, deadline_s
from router.dispatch.traces import trace_of
from router.endpoints.catalog import Endpoint
from router.errors import (
    AllEndpointsFailed,
    BudgetAway,
    BudgetSpent,
    DispatchError,
    NoCandidates,
    RateShareSpent,
)
from router.net.asgi import Exchange
from router.policy.constraints import why_forbidden_now

log = structlog.get_logger()


class Asking:
    """Puts one call to endpoints, one attempt after another or side by side."""

    def __init__(
        self,
        decision: Decision,
        exchange: Exchange,
        dispatcher: Dispatcher,
        spending: CallSpending,
    ) -> None:
        self._spending = spending
        self._refused: list[BudgetSpent | BudgetAway | RateShareSpent] = []
        self._context = context = decision.context
        self._plan, self._nonce = decision.plan, decision.nonce
        self._exchange = exchange
        self._dispatcher = dispatcher
        self._forbidden: dict[str, str] = {}  # who might have had it, and may not any more
        self._configuration = context.beliefs.configuration
        self._deadline_s = deadline_s(self._configuration.server.deadline_s, exchange.headers)
        self._trace = trace_of(exchange, context.request.dialect, self._configuration)
        self.client_s = client_s(exchange.headers)  # how patient the client is
        self.deadline = context.at.monotonic_s + self._deadline_s
        streams = context.caller.app.entry.stream
        self.buffers = context.request.streamed and streams is Streaming.BUFFERED

    async def permits(self, endpoint: Endpoint) -> Permit | None:
        """Return leave to ask an endpoint now; None where it may not have the call.

        An agreement may have ended since, or what it may come to there does not fit into a budget,
        or its app's share of a limit.
        """
        context = self._context
        why = why_forbidden_now(context.policy, context.translations, endpoint, time.time())
        if why is None:
            if self._lacks_money and not is_priced(endpoint):
                return None  # nothing is cheap for want of a price
            try:
                return Permit(endpoint, await self._spending.reserve(endpoint))
            except (BudgetSpent, BudgetAway, RateShareSpent) as refusal:
                self._refused.append(refusal)
                return None
            except AmountUnknown as unknown:
                why = str(unknown)
        self._forbidden[endpoint.id] = why
        return None

    @property
    def _lacks_money(self) -> bool:
        """Whether the call did not fit into a budget in money, elsewhere."""
        money = BudgetUnit.MONEY.value
        spent = (one for one in self._refused if isinstance(one, BudgetSpent))
        return any(one.told["unit"] == money for one in spent)

    def unasked(self) -> DispatchError:
        """Return why nobody was asked: what may pass by itself goes before what will not."""
        if self._refused:
            passing = (one for one in self._refused if not isinstance(one, BudgetSpent))
            spent = [one for one in self._refused if isinstance(one, BudgetSpent)]
            return next(passing, None) or least_of(spent)
        if self._forbidden:
            return NoCandidates(self._forbidden)
        return AllEndpointsFailed([], timed_out=True)

    def fields(self, endpoint: Endpoint) -> dict[str, bytes]:
        """Return the top-level fields that an endpoint gets of the call."""
        return self._context.translations.outgoing(endpoint).fields(endpoint)

    def begin(self, permit: Permit, number: int, *, waits: bool) -> Attempt:
        """Return an attempt that is under way from now on.

        Args:
            waits: for content, before anything of its answer is let go.
        """
        context, endpoint = self._context, permit.endpoint
        attempt = Attempt(
            endpoint=endpoint,
            grant=permit.grant,
            trace=self._trace,
            number=number,
            limits=self._configuration.derive(TimeLimitTable).of(
                endpoint, context.strategy, context.caller.app, context.request.dialect
            ),
            deadline=self.deadline,
            deadline_s=self._deadline_s,
            let_go_s=(self.client_s or math.inf) / 2,
            hold=Hold.END if self.buffers else Hold.CONTENT if waits else Hold.NOTHING,
        )
        now = time.monotonic()
        self._dispatcher.health.begin(endpoint.digest, now)
        if endpoint.has_machine:
            attempt.machine_s = self._dispatcher.machines.begin(endpoint.digest, now)
        return attempt

    def beside_s(self, attempt: Attempt) -> float:
        """Return after how long another endpoint may be started beside an attempt."""
        return beside_s(
            attempt.limits,
            self._plan.beliefs,
            self._plan.category,
            attempt.endpoint.index,
            streamed=self._context.request.streamed,
        )

    async def ask(self, attempt: Attempt) -> Reply:
        """Make an attempt.

        Raises:
            AttemptFailed: it came to nothing.
        """
        translations, endpoint = self._context.translations, attempt.endpoint
        outgoing = attempt.outgoing = translations.outgoing(endpoint)
        if outgoing.is_translated:
            return await self._with_usage(attempt, outgoing)
        unsure = translations.thoughts.unsure(endpoint)
        breaker = self._dispatcher.health.breakers[endpoint.digest]
        if unsure.isdisjoint(breaker.refused_thoughts):
            try:
                return await self._with_usage(attempt, outgoing, may_shed=bool(unsure))
            except ThoughtsRefused:
                log.info("an endpoint refuses what another may have thought", endpoint=endpoint.id)
        bare = attempt.outgoing = translations.thoughts.bare(endpoint)
        reply = await self._with_usage(attempt, bare)
        if reply.status == 200:
            breaker.note_refused_thoughts(unsure)
        return reply

    async def _with_usage(
        self, attempt: Attempt, outgoing: Outgoing, *, may_shed: bool = False
    ) -> Reply:
        """Make a call that asks for the usage of a stream, where the endpoint takes that."""
        endpoint = attempt.endpoint
        breaker = self._dispatcher.health.breakers[endpoint.digest]
        asks = not breaker.refuses_stream_options
        try:
            return await self._send(attempt, outgoing, ask_usage=asks, may_shed=may_shed)
        except StreamOptionsRefused:  # a field of ours: no failure, and sent again without it
            reply = await self._send(attempt, outgoing, ask_usage=False, may_shed=may_shed)
        if reply.status == 200:
            breaker.refuses_stream_options = True
            log.warning(
                "an endpoint refuses stream_options: what its streams cost is not known",
                endpoint=endpoint.id,
            )
        return reply

    async def _send(
        self, attempt: Attempt, outgoing: Outgoing, *, ask_usage: bool, may_shed: bool
    ) -> Reply:
        endpoint, exchange, context = attempt.endpoint, self._exchange, self._context
        body, hide_usage = outgoing.rewritten(endpoint, ask_usage=ask_usage)
        headers = forward_headers(
            exchange.raw_headers,
            context.caller,
            endpoint,
            key_headers=context.beliefs.configuration.catalog.key_headers,
        )
        query = forward_query(exchange.query, endpoint)
        if outgoing.is_translated:
            headers, query = headers_in(outgoing.dialect, headers, endpoint), b""
        sending = Sending(headers, body, outgoing, hide_usage, query, may_shed)
        if is_recorded(context.policy.data_class):
            self._intend(attempt)
        return await self._dispatcher.attempt(attempt, sending)

    def _intend(self, attempt: Attempt) -> None:
        """Record that content is about to leave; raises AuditUnavailable where that fails."""
        context = self._context
        self._dispatcher.intents.intend(
            Recipient.of(attempt.endpoint),
            data_class=context.policy.data_class,
            app=context.caller.app,
            configuration=context.beliefs.configuration,
            nonce=self._nonce,
            attempt=attempt.number,
        )
