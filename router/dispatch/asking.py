"""How one call is put to an endpoint: in its dialect, with what it takes of fields and headers."""

from __future__ import annotations

import structlog

from router.decision.decide import Decision
from router.dialects.request import Outgoing
from router.dispatch.attempt import Attempt, Dispatcher, Reply, Sending, StreamOptionsRefused
from router.dispatch.headers import forward_headers, forward_query, headers_in
from router.endpoints.catalog import Endpoint
from router.net.asgi import Exchange

log = structlog.get_logger()


class Asking:
    """Puts one call to endpoints, one attempt after another or side by side."""

    def __init__(self, decision: Decision, exchange: Exchange, dispatcher: Dispatcher) -> None:
        self._context = decision.context
        self._exchange = exchange
        self._dispatcher = dispatcher

    def fields(self, endpoint: Endpoint) -> dict[str, bytes]:
        """Return the top-level fields that an endpoint gets of the call."""
        return self._context.translations.outgoing(endpoint).fields(endpoint)

    async def ask(self, attempt: Attempt) -> Reply:
        """Make an attempt.

        Raises:
            AttemptFailed: it came to nothing.
        """
        endpoint = attempt.endpoint
        outgoing = attempt.outgoing = self._context.translations.outgoing(endpoint)
        breaker = self._dispatcher.health.breakers[endpoint.digest]
        asks = not breaker.refuses_stream_options
        try:
            return await self._send(attempt, outgoing, ask_usage=asks)
        except StreamOptionsRefused:  # a field of ours: no failure, and sent again without it
            reply = await self._send(attempt, outgoing, ask_usage=False)
        if reply.status == 200:
            breaker.refuses_stream_options = True
            log.warning(
                "an endpoint refuses stream_options: what its streams cost is not known",
                endpoint=endpoint.id,
            )
        return reply

    async def _send(self, attempt: Attempt, outgoing: Outgoing, *, ask_usage: bool) -> Reply:
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
        sending = Sending(headers, body, outgoing, hide_usage, query)
        return await self._dispatcher.attempt(attempt, sending)
