"""A sidecar of our own, in this process, for calls that a verb makes under an app's rules.

Its parts are those of `pointsman serve`: places, classes, keys, limits, prices and books are the
same, and each call can be explained. It listens on loopback, lets in one key that is made for it
and ends with the verb.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from router.config.compiled import Configuration, compile_entries
from router.config.entries import AppEntry, Fallback, File, Mode
from router.config.keys import hashed, make_key
from router.dispatch.diagnosis import Complaints
from router.endpoints.entries import Dialect, EndpointEntry, ProviderEntry, TranslateEntry
from router.net.address import bound
from router.net.pool import Pool
from router.server import Sidecar
from router.serving import listener
from telemetry.digests import digest8
from telemetry.store import Address

LOOPBACK = "127.0.0.1"
LONGEST_CALL_S = 180.0
"""Nobody waits for a single answer at the first try-out as an app may for its own."""
NO_TIMEOUT = httpx.Timeout(None)
"""The sidecar's own limits hold; whoever waits here would give up what is paid for."""


def callable_by(entries: File, app: str, key: str) -> File:
    """Return entries under which a key calls every endpoint of an app by its id, in chat.

    Who is called answers, or nobody does. Endpoints that speak no chat get it translated; nothing
    else that holds for the app changes, and what an endpoint is known by does not.
    """
    given = entries.all_apps[app]
    keys = [*given.keys, hashed(key)]
    update = {"keys": keys, "mode": Mode.OBSERVE, "fallback": Fallback.NONE}
    changed = given.model_copy(update=update)
    apps: dict[str, AppEntry] = {**entries.apps, app: changed}
    endpoints = [_speaking_chat(one, entries.providers) for one in entries.endpoints]
    waits_s = min(entries.server.deadline_s or LONGEST_CALL_S, LONGEST_CALL_S)
    server = entries.server.model_copy(update={"deadline_s": waits_s})
    return entries.model_copy(update={"apps": apps, "endpoints": endpoints, "server": server})


def _speaking_chat(endpoint: EndpointEntry, providers: dict[str, ProviderEntry]) -> EndpointEntry:
    provider = providers.get(endpoint.provider or "")
    spoken = endpoint.dialects or (provider.dialects if provider is not None else None)
    has_translation = endpoint.translate or (provider is not None and provider.translate)
    if not spoken or Dialect.CHAT in spoken or has_translation:
        return endpoint
    return endpoint.model_copy(
        update={"translate": TranslateEntry.model_validate({"from": ["chat"]})}
    )


@asynccontextmanager
async def own_sidecar(
    entries: File,
    app: str,
    address: Address,
    *,
    repeats: bool = True,
    complaints: Complaints | None = None,
) -> AsyncIterator[tuple[httpx.AsyncClient, Configuration]]:
    """Yield a client of a sidecar that runs meanwhile, and the configuration that it has.

    Args:
        address: of a store that runs.
        repeats: whether it asks an endpoint again that failed for a moment. Else each call goes out
            once, on a connection of its own: a kept one that was just lost would be sent it again.
            No redirect is followed then.
        complaints: who hears of failures in place of the log.

    Raises:
        LookupError: a key of an endpoint is not to be had.
        OSError: the state directory cannot be used.
    """
    key = make_key()
    changed = callable_by(entries, app, key)
    configuration = compile_entries(changed, version=digest8("configuration", key), secrets=True)
    sidecar = Sidecar(configuration, address)
    fresh = Pool(keepalive_s=0.0)
    if not repeats:
        sidecar.calls.budget.end()
        sidecar.calls.dispatcher.upstream = fresh
        sidecar.calls.dispatcher.most_redirects = 0
    if complaints is not None:
        sidecar.calls.complaints = complaints
    sidecar.keeper.settles = False  # its configuration is not the one that choices are made by
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    running = listener(sidecar, configuration.server, on_listen=listening.set_result)
    serving = asyncio.create_task(running.serve([*bound(LOOPBACK, 0)]))
    await asyncio.wait((serving, listening), return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        await serving  # raises why
    url = f"http://{LOOPBACK}:{listening.result()}"
    headers = {"authorization": f"Bearer {key}"}
    try:
        async with httpx.AsyncClient(
            base_url=url, headers=headers, timeout=NO_TIMEOUT, trust_env=False
        ) as client:
            yield client, configuration
    finally:
        running.ask_to_stop()
        await serving
        await fresh.aclose()
