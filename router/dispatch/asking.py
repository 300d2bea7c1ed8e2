"""How one call is put to an endpoint: in its dialect, with what it takes of fields and headers.

What need not be sent and is turned down is left out at once, within the same attempt: a field that
we added, and thoughts that the endpoint may not have made.
"""

from __future__ import annotations

import math
import time
from collections.abc import Coroutine, Iterator
from typing import Any

import structlog
from msgspec import Struct

from router.budgets.amounts import is_priced
from router.config.budgets import BudgetUnit
from router.config.compiled import Configuration
from router.decision.decide import Decision
from router.decision.planner import last_resort_of
from router.dialects.request import Outgoing
from router.dispatch.attempt import (
    Attempt,
    Reply,
    Sending,
    StreamOptionsRefused,
)
from router.dispatch.dispatcher import Dispatcher
from router.dispatch.fates import ThoughtsRefused
from router.dispatch.headers import forward_headers, forward_query, headers_in
from router.dispatch.held import Hold
from router.dispatch.intents import Recipient, is_recorded
from router.dispatch.race import Permit, is_at_hand, order
from router.dispatch.refusing import least_of
from router.dispatch.spending import AmountUnknown, CallSpending
from router.dispatch.time_limits import TimeLimitTable, client_s, patience_s
from router.dispatch.traces import trace_of
from router.endpoints.catalog import Endpoint
from router.errors import (
    AllEndpointsFailed,
    BudgetAway,
    BudgetSpent,
    DispatchError,
    NoCandidates,
    Overloaded,
    RateShareSpent,
)
from router.net.deadline import Deadline
from router.net.exchange import Exchange
from router.policy.constraints import why_forbidden_now
from router.translation.carried import NO_MARKS
from telemetry.traces import NOT_TRACED

log = structlog.get_logger()
NOTHING, CONTENT, END = Hold.NOTHING, Hold.CONTENT, Hold.END
"""Looked up once: on their class they are slow to be found."""


class AskingRules(Struct, frozen=True):
    """What a configuration says of how calls are put to endpoints."""

    limits: TimeLimitTable
    deadline_s: float | None  # None: as long as the client waits
    makes_spans: bool
    key_headers: frozenset[bytes]

    @classmethod
    def of(cls, configuration: Configuration) -> AskingRules:
        """Return what a configuration says."""
        return cls(
            TimeLimitTable(configuration),
            configuration.server.deadline_s,
            configuration.otel.spans,
            configuration.catalog.key_headers,
        )


class Asking:
    """Puts one call to endpoints, one attempt after another or side by side."""

    __slots__ = (
        "_context",
        "_deadline_s",
        "_dispatcher",
        "_exchange",
        "_forbidden",
        "_let_go_s",
        "_limits",
        "_nonce",
        "_plan",
        "_refused",
        "_rules",
        "_spending",
        "_trace",
        "buffers",
        "client_s",
        "deadline",
    )

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
        configuration = context.beliefs.configuration
        self._rules = rules = configuration.derive(AskingRules.of)
        self._limits = rules.limits
        self._trace = NOT_TRACED
        if rules.makes_spans:
            self._trace = trace_of(exchange, context.request.dialect, configuration)
        self.client_s = said_s = client_s(exchange.headers)  # how patient the client is
        self._let_go_s = math.inf if said_s is None else said_s / 2
        self._deadline_s = deadline_s = patience_s(rules.deadline_s, said_s)
        self.deadline = context.at.monotonic_s + deadline_s
        self.buffers = context.request.streamed and context.caller.app.buffers

    def first(self, *, usable: bool) -> tuple[Endpoint, Iterator[Endpoint] | None]:
        """Return whom to ask first, and who follows; None: those of `candidates`, without it.

        Args:
            usable: the drawn endpoint may serve the call.

        Raises:
            NoCandidates, Overloaded: policy forbids everybody, or they have enough to do.
        """
        plan, health = self._plan, self._dispatcher.health
        if usable and is_at_hand(plan.drawn, health):
            return plan.drawn, None  # most often
        candidates = self.candidates(usable=usable)
        first = next(candidates, None)
        if first is None:
            first = last_resort_of(plan)
            if health.is_full(first):
                raise Overloaded([first.id])
        return first, candidates

    def candidates(self, *, usable: bool = False) -> Iterator[Endpoint]:
        """Return whom to ask in order: the drawn endpoint, where that may serve, then others."""
        return order(
            self._plan.drawn,
            self._plan.then(),
            self._dispatcher.health,
            usable=usable,
            fields=self.fields,
            is_used_up=self._spending.is_used_up,
        )

    def permit(self, endpoint: Endpoint) -> Permit | None:
        """Return leave that nothing can refuse; None where `permits` is to be asked."""
        if endpoint.place.terms.agreed_until is not None or self._spending.holds(endpoint):
            return None
        return Permit(endpoint)  # most often

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
        limits = self._limits.of(
            endpoint, context.strategy, context.caller.app, context.request.dialect
        )
        attempt = Attempt(
            endpoint,
            limits,
            number,
            self.deadline,
            self._deadline_s,
            self._let_go_s,
            END if self.buffers else CONTENT if waits else NOTHING,
            permit.grant,
            self._trace,
        )
        now = time.monotonic()
        self._dispatcher.health.begin(endpoint.digest, now)
        if endpoint.has_machine:
            attempt.machine_s = self._dispatcher.machines.begin(endpoint.digest, now)
        return attempt

    def beside_s(self, attempt: Attempt) -> float:
        """Return after how long another endpoint may be started beside an attempt."""
        plan, index = self._plan, attempt.endpoint.index
        streamed = self._context.request.streamed
        return self._limits.beside_s(
            attempt.limits, plan.beliefs, plan.category, index, streamed=streamed
        )

    def ask(self, attempt: Attempt, clock: Deadline) -> Coroutine[Any, Any, Reply]:
        """Return an attempt that is to be awaited.

        Args:
            clock: within which it is; each call that it makes sets the limit anew.

        Raises:
            AttemptFailed: awaited; it came to nothing.
        """
        translations, endpoint = self._context.translations, attempt.endpoint
        outgoing = attempt.outgoing = translations.outgoing(endpoint)
        unsure = NO_MARKS if outgoing.is_translated else translations.unsure(endpoint)
        if unsure:
            return self._ask_unsure(attempt, outgoing, unsure, clock)
        if outgoing.streamed:
            return self._with_usage(attempt, outgoing, clock)
        return self._dispatcher.attempt(attempt, self._sending(attempt, outgoing), clock)

    async def _ask_unsure(
        self, attempt: Attempt, outgoing: Outgoing, unsure: frozenset[str], clock: Deadline
    ) -> Reply:
        """Make an attempt with thoughts that the endpoint may not have made; else without them."""
        translations, endpoint = self._context.translations, attempt.endpoint
        breaker = self._dispatcher.health.breakers[endpoint.digest]
        if unsure.isdisjoint(breaker.refused_thoughts):
            try:
                return await self._with_usage(attempt, outgoing, clock, may_shed=True)
            except ThoughtsRefused:
                log.info("an endpoint refuses what another may have thought", endpoint=endpoint.id)
        bare = attempt.outgoing = translations.thoughts.bare(endpoint)
        reply = await self._with_usage(attempt, bare, clock)
        if reply.status == 200:
            breaker.note_refused_thoughts(unsure)
        return reply

    def _with_usage(
        self, attempt: Attempt, outgoing: Outgoing, clock: Deadline, *, may_shed: bool = False
    ) -> Coroutine[Any, Any, Reply]:
        """Return a call that asks for the usage of a stream, where the endpoint takes that."""
        breaker = self._dispatcher.health.breakers[attempt.endpoint.digest]
        asks = not breaker.refuses_stream_options
        sending = self._sending(attempt, outgoing, ask_usage=asks, may_shed=may_shed)
        if not sending.hide_usage:
            return self._dispatcher.attempt(attempt, sending, clock)
        return self._ask_for_usage(attempt, sending, clock)

    async def _ask_for_usage(self, attempt: Attempt, sending: Sending, clock: Deadline) -> Reply:
        """Make a call with a field of ours; without it, where the endpoint turns that down."""
        endpoint, outgoing = attempt.endpoint, sending.request
        try:
            return await self._dispatcher.attempt(attempt, sending, clock)
        except StreamOptionsRefused:  # no failure, and sent again
            bare = self._sending(attempt, outgoing, ask_usage=False, may_shed=sending.may_shed)
            reply = await self._dispatcher.attempt(attempt, bare, clock)
        if reply.status == 200:
            self._dispatcher.health.breakers[endpoint.digest].refuses_stream_options = True
            log.warning(
                "an endpoint refuses stream_options: what its streams cost is not known",
                endpoint=endpoint.id,
            )
        return reply

    def _sending(
        self,
        attempt: Attempt,
        outgoing: Outgoing,
        *,
        ask_usage: bool = False,
        may_shed: bool = False,
    ) -> Sending:
        """Return what goes out now; that it does is recorded first, where that is asked for."""
        endpoint, exchange, context = attempt.endpoint, self._exchange, self._context
        body, hide_usage = outgoing.rewritten(endpoint, ask_usage=ask_usage)
        headers = forward_headers(
            exchange.raw_headers,
            context.caller,
            endpoint,
            key_headers=self._rules.key_headers,
        )
        query = exchange.query
        if query:
            query = forward_query(query, endpoint)
        if outgoing.is_translated:
            headers, query = headers_in(outgoing.dialect, headers, endpoint), b""
        if is_recorded(context.policy.data_class):
            self._intend(attempt)
        return Sending(headers, body, outgoing, hide_usage, query, may_shed)

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
