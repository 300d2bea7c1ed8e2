"""Of which trace a call is, and which names its spans will need; nothing else here knows of spans.

The caller's `traceparent` goes on to the provider as it came.
"""

from __future__ import annotations

from router.config.compiled import Configuration
from router.endpoints.entries import Dialect
from router.net.exchange import Exchange
from telemetry.traces import (
    NOT_TRACED,
    CallTrace,
    Operation,
    model_key,
    parse_traceparent,
    provider_key,
)

OPERATIONS = {
    Dialect.EMBEDDINGS: Operation.EMBEDDINGS,
    Dialect.COMPLETIONS: Operation.TEXT_COMPLETION,
}
"""What calls of a dialect ask for; of the others, an answer in a conversation."""


def trace_of(exchange: Exchange, dialect: Dialect, configuration: Configuration) -> CallTrace:
    """Return the trace that the caller names; NOT_TRACED where none is to be told of the call."""
    if not configuration.otel.spans:
        return NOT_TRACED
    header = exchange.headers.get(b"traceparent")
    if header is None:
        return NOT_TRACED
    return parse_traceparent(header, OPERATIONS.get(dialect, Operation.CHAT))


def hosts_of(configuration: Configuration) -> dict[int, str]:
    """Return the names of each endpoint's model and provider; none where no spans are made."""
    if not configuration.otel.spans:
        return {}
    endpoints = configuration.catalog.endpoints
    models = {model_key(each.digest): each.upstream_model for each in endpoints}
    return models | {provider_key(each.digest): each.provider for each in endpoints}
