"""What a prompt's tokens are counted as: asked of whoever would serve the call, and booked nowhere.

An answer passes as it came. It says nothing of how the endpoint is doing: many do not count.
"""

from __future__ import annotations

import asyncio
import os
import time

import httpx
import msgspec

from router.decision.context import CallContext
from router.dialects.prompt_size import size_of
from router.dialects.request import CallRequest
from router.dispatch.fates import Fate, read_refusal
from router.dispatch.headers import forward_headers, forward_query, request_ids, returned_headers
from router.dispatch.intents import Intents, Recipient, is_recorded
from router.dispatch.redirects import followed
from router.endpoints.catalog import Endpoint
from router.endpoints.token_sizes import TokenSizes
from router.errors import AllEndpointsFailed, Misconfigured, NoCandidates
from router.net.codings import decoded
from router.net.deadline import Deadline
from router.net.exchange import JSON, DisconnectGuard, Exchange
from router.net.pool import Target, Upstream, UpstreamResponse
from router.policy.constraints import why_forbidden_now
from telemetry.trail import IntentWay

MAX_COUNT_BYTES = 1 << 20
"""A count has a few bytes, a refusal some thousands."""


async def count_tokens(
    exchange: Exchange,
    context: CallContext,
    endpoint: Endpoint,
    upstream: Upstream,
    *,
    intents: Intents,
    sizes: TokenSizes,
    limit_s: float,
) -> None:
    """Ask an endpoint for the size of a prompt, and pass its answer back.

    One that does not speak the dialect has no count in it: it is told what that probably is.

    Args:
        intents: where it is recorded that a sensitive prompt leaves.
        sizes: what prompts were counted as.
        limit_s: for all of it, in seconds.

    Raises:
        Misconfigured: it turns our key down.
        AllEndpointsFailed: it did not answer.
        NoCandidates: an agreement ended just now, and the endpoint may not have it any more.
        AuditUnavailable: that a sensitive prompt leaves cannot be recorded.
    """
    request = context.translations.thoughts.outgoing(endpoint)
    if request.dialect not in endpoint.dialects:
        size = size_of(request.body)
        tokens = sizes.expected(endpoint.digest, size.text_bytes) + size.media_tokens
        await _tell_estimate(exchange, endpoint, tokens)
        return
    key_headers = context.beliefs.configuration.catalog.key_headers
    headers = forward_headers(
        exchange.raw_headers, context.caller, endpoint, key_headers=key_headers
    )
    query = forward_query(exchange.query, endpoint)
    body = request.renamed(endpoint.upstream_model)
    ended = why_forbidden_now(context.policy, context.translations, endpoint, time.time())
    if ended is not None:
        raise NoCandidates({endpoint.id: ended})
    if is_recorded(context.policy.data_class):
        intents.intend(
            Recipient.of(endpoint),
            data_class=context.policy.data_class,
            app=context.caller.app,
            configuration=context.beliefs.configuration,
            nonce=os.urandom(16),
            way=IntentWay.COUNT,
        )
    guard = DisconnectGuard(exchange)
    try:
        with Deadline(limit_s):
            target = _target(endpoint, request).with_query(query)
            sent = await upstream.send("POST", target, headers, body, repeatable=True)
            sent = await followed(upstream, sent, target, headers, body, repeatable=True)
            response = decoded(sent)
            counted = await _whole(response)
    except asyncio.CancelledError:
        if not guard.client_gone:
            raise
        guard.forgive()
        return
    except (httpx.TransportError, TimeoutError) as error:
        guard.finish()
        failed = [(endpoint.id, type(error).__name__)]
        raise AllEndpointsFailed(failed, timed_out=isinstance(error, TimeoutError)) from None
    guard.finish()
    if _is_our_own_affair(response.status, counted, endpoint):
        if endpoint.key is not None:
            endpoint.key.doubt()
        raise Misconfigured(endpoint.id)
    ours = [*request_ids(os.urandom(16).hex().encode())]
    ours.append((b"x-router-endpoint", endpoint.id.encode()))
    returned = returned_headers(response.headers, named=context.route.by_name)
    await exchange.respond(response.status, counted, returned + ours)


async def _tell_estimate(exchange: Exchange, endpoint: Endpoint, tokens: int) -> None:
    """Answer with what a prompt probably is at an endpoint of another dialect, and say so."""
    warning = "estimated from bytes: the endpoint counts no tokens in this dialect"
    headers = [*request_ids(os.urandom(16).hex().encode())]
    headers.append((b"x-router-endpoint", endpoint.id.encode()))
    headers.append((b"x-router-warning", warning.encode()))
    body = msgspec.json.encode({"input_tokens": tokens})
    await exchange.respond(200, body, [JSON, *headers])


def _is_our_own_affair(status: int, body: bytes, endpoint: Endpoint) -> bool:
    """Return whether a refusal is about our key or address, and so no affair of the client's.

    Whether there is such a path or model is: many servers count nothing.
    """
    if 200 <= status < 300 or status == 404:
        return False
    refusal = read_refusal(status, body, client_auth=endpoint.client_auth)
    return refusal.fate is Fate.ENDPOINT and not refusal.lacks_model


async def _whole(response: UpstreamResponse) -> bytes:
    body = bytearray()
    try:
        async for chunk in response:
            body += chunk
            if len(body) > MAX_COUNT_BYTES:
                raise httpx.RemoteProtocolError("more than any count or refusal takes")
        return bytes(body)
    finally:
        await response.aclose()


def _target(endpoint: Endpoint, request: CallRequest) -> Target:
    url = endpoint.targets[request.dialect].url
    return Target.of(url.copy_with(path=f"{url.path}/count_tokens"))
