"""The sidecar's routes, start and end; a composition root.

Raw ASGI: every route is one method, and the call's own route comes first.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import FrameType

import httpx
import structlog
import uvicorn

from router.beliefs.keeper import Keeper
from router.config.compiled import Configuration
from router.config.entries import GENERAL
from router.decision.decide import Decider
from router.decision.draws import Draws
from router.decision.seal import Seal
from router.dialects import chat
from router.dialects.errors import respond_error
from router.dispatch.attempt import Dispatcher
from router.dispatch.call import STARTED, Completions
from router.dispatch.observer_line import ObserverLine
from router.dispatch.passthrough import Passthrough, is_devious
from router.endpoints.health import Health
from router.errors import DispatchError, RequestRejected
from router.explain.log import DecisionLog
from router.intake.events import EventDesk
from router.intake.feedback import FeedbackDesk
from router.net.asgi import (
    ClientGone,
    Receive,
    Scope,
    Send,
    read_body,
    respond,
    respond_json,
)
from router.net.inbound import LimitedProtocol
from router.net.pool import Adapted, Pool, Upstream
from router.policy.callers import Caller, Keys, check_origin
from router.policy.hints import read_hints
from router.report import views
from router.report.gauges import Gauges, gauges
from telemetry.metrics import Exposition, Metrics
from telemetry.store import Address, connect
from telemetry.writer import Counters, Writer

log = structlog.get_logger()
Headers = Mapping[bytes, bytes]
Handler = Callable[[Scope, Headers, Receive, Send], Awaitable[None]]
CHAT_PATH = "/v1/chat/completions"
DECISIONS_PATH = "/v1/router/decisions/"
NO_REQUEST = chat.Request(model="", messages=[])
"""Stands for a body that is no chat request: hints come from headers alone."""
LONGEST_CONNECT_S = 60.0
GC_THRESHOLDS = (20_000, 20, 50)
KEEPALIVE_S = 75
"""Above the SDKs' own pools' idle time, so that it is they who close."""


class App:
    """The ASGI application."""

    def __init__(
        self,
        configuration: Configuration,
        address: Address,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        observing: bool = False,
    ) -> None:
        state_dir = configuration.server.state_directory()
        catalog, n_shards = configuration.catalog, configuration.store.shards
        connect_s = min(
            max((e.timeouts.connect_s for e in catalog.endpoints), default=3.0), LONGEST_CONNECT_S
        )
        self.configuration = configuration
        self.metrics = Metrics()
        self.keeper = Keeper(configuration, address, state_dir)
        counters = Counters(dropped=self.metrics.dropped)
        self.writer = Writer(state_dir / "journal", address, n_shards, counters)
        self.draws = Draws(address)
        self.draining = False
        self._keys = Keys(configuration)
        self._upstream: Upstream = Adapted(transport) if transport else Pool(connect_s=connect_s)
        self._seal = seal = Seal.load(state_dir)
        self.health = Health(len(catalog.endpoints))
        self.signals = ObserverLine(state_dir, address, n_shards=n_shards) if observing else None
        self.decider = Decider(self.keeper, self.health, self.draws, seal.secret(b"draws"))
        self.decisions = DecisionLog(
            state_dir / "decisions",
            days=configuration.server.explain_days,
            max_bytes=configuration.server.explain_max_bytes,
        )
        self.completions = Completions(
            self.decider,
            Dispatcher(self._upstream, self.health),
            self.writer,
            seal,
            self.metrics,
            n_shards=n_shards,
            deadline_s=configuration.server.deadline_s,
            signals=self.signals,
            note=self.decisions.put,
        )
        self.desk = FeedbackDesk(
            self.writer,
            seal,
            connect(address, timeout_s=0.5),
            n_shards=n_shards,
            is_store_up=lambda: self.keeper.store_up,
        )
        self.events = EventDesk(
            self.writer, self.desk, configuration, key_id=seal.key_id, n_shards=n_shards
        )
        self.passthrough = (
            Passthrough(
                catalog.passthrough,
                self._upstream,
                self.writer,
                seal,
                self.keeper.new_names,
                n_shards=n_shards,
            )
            if catalog.passthrough
            else None
        )
        self._exposition = Exposition(self.metrics, self._gauges)
        self._limit = configuration.server.max_body_bytes
        self._routes: dict[tuple[str, str], Handler] = {
            ("POST", CHAT_PATH): self._chat,
            ("POST", "/v1/feedback"): self._feedback,
            ("POST", "/v1/events"): self._events,
            ("GET", "/v1/models"): self._models,
            ("POST", "/v1/router/decide"): self._decide,
            ("GET", "/v1/router/posteriors"): self._posteriors,
            ("GET", "/livez"): self._livez,
            ("GET", "/readyz"): self._readyz,
            ("GET", "/metrics"): self._metrics,
        }
        self._methods = {path: method for method, path in self._routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; nothing escapes but a closed connection."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        headers = dict(scope["headers"])
        try:
            check_origin(headers, self.configuration)
            handler = self._routes.get((scope["method"], scope["path"])) or self._other(scope)
            await handler(scope, headers, receive, send)
        except (RequestRejected, DispatchError) as error:
            await respond_error(send, error)
        except ClientGone:
            return
        except asyncio.CancelledError:
            if not self.draining or STARTED in scope:
                raise
            await respond_error(send, RequestRejected("draining", "the sidecar is stopping"))
        except ConnectionError:
            raise  # the answer had begun: closing the connection is all that is left to say
        except Exception as error:
            log.error("a request failed", path=scope["path"], error=type(error).__name__)
            if STARTED in scope:
                raise
            await respond_error(send, RequestRejected("internal_error", "this is a fault of ours"))

    # -- calls and feedback -----------------------------------------------------------------

    async def _chat(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        began_at = time.monotonic()
        caller = self._keys.caller(headers)
        body = await read_body(receive, headers, limit=self._limit)
        request = chat.parse(body)
        context = self.decider.context(caller, headers, request, body)
        if context is None:
            if self.passthrough is None:
                raise self._no_such_model(request.model)
            await self._pass_on(scope, headers, body, caller, send, request)
            return
        await self.completions.serve(
            context, headers, request, body, scope, send, began_at=began_at
        )

    async def _feedback(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        caller = self._keys.caller(headers)
        body = await read_body(receive, headers, limit=self._limit)
        try:
            results = await self.desk.take(body, caller)
        except RequestRejected as error:
            self.metrics.feedback[error.code] += 1
            raise
        for result in results:
            self.metrics.feedback[result["status"]] += 1
        await respond_json(send, 202, {"accepted": True, "results": results})

    async def _events(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        caller = self._keys.caller(headers)
        body = await read_body(receive, headers, limit=self._limit)
        dry_run = headers.get(b"x-router-dry-run") == b"1"
        try:
            taken = await self.events.take(body, headers, caller, dry_run=dry_run)
        except RequestRejected as error:
            self.metrics.ingested[error.code] += 1
            raise
        self.metrics.ingested["accepted"] += taken["accepted"]
        await respond_json(send, 200 if dry_run else 202, taken)

    async def _models(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        self._keys.caller(headers)
        await respond_json(send, 200, views.models(self.configuration))

    async def _model(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        self._keys.caller(headers)
        wanted = scope["path"].removeprefix("/v1/models/")
        for model in views.models(self.configuration)["data"]:
            if model["id"] == wanted:
                await respond_json(send, 200, model)
                return
        raise self._no_such_model(wanted)

    async def _anything(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        """Any other `/v1/` path goes to the pass-through provider."""
        if is_devious(scope["raw_path"]):
            raise RequestRejected("not_found", "a path with dot segments leads nowhere")
        caller = self._keys.caller(headers)
        body = await read_body(receive, headers, limit=self._limit)
        await self._pass_on(scope, headers, body, caller, send, None)

    async def _pass_on(
        self,
        scope: Scope,
        headers: Headers,
        body: bytes,
        caller: Caller,
        send: Send,
        request: chat.Request | None,
    ) -> None:
        assert self.passthrough is not None
        wish = read_hints(headers, request or NO_REQUEST)
        task = wish.task or caller.app.entry.task
        if request is not None:
            body = chat.without_hints(body, request)
        await self.passthrough.serve(
            scope,
            headers,
            body,
            caller,
            send,
            deadline_s=self.configuration.server.deadline_s,
            task=task if task in self.configuration.tasks else GENERAL,
            data_class=caller.app.entry.data_class.tightened(wish.data_class),
            reference=wish.reference,
        )

    # -- for the owner ----------------------------------------------------------------------

    async def _decide(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        self._keys.require_admin(headers)
        body = await read_body(receive, headers, limit=self._limit)
        request = chat.parse(body)
        context = self.decider.context(self._caller_or_default(headers), headers, request, body)
        if context is None:
            if self.passthrough is None:
                raise self._no_such_model(request.model)
            name = f"{self.passthrough.provider.name}/{request.model}"
            await respond_json(send, 200, {"endpoint": name, "routed": False, "passthrough": True})
            return
        await respond_json(send, 200, self.decider.preview(context))

    async def _decision(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        self._keys.require_admin(headers)
        token, _ = self._seal.open(scope["path"].removeprefix(DECISIONS_PATH))
        found = await asyncio.to_thread(self.decisions.find, token.nonce, token.decided_at_ms)
        if found is None:
            days = self.configuration.server.explain_days
            raise RequestRejected(
                "decision_not_kept",
                f"of this decision nothing is kept: server.explain_days is {days:g}; nor is any "
                "of a call that was passed through or told of, or that was cut by a crash",
                param="decision_id",
            )
        answered_by = self.configuration.catalog.by_digest.get(token.executed)
        found["answered_by"] = answered_by.id if answered_by else None
        await respond_json(send, 200, found)

    async def _posteriors(
        self, scope: Scope, headers: Headers, receive: Receive, send: Send
    ) -> None:
        self._keys.require_admin(headers)
        strategy = next(iter(self.configuration.apps.values())).entry.strategy
        await respond_json(send, 200, views.posteriors(self.keeper.current, strategy))

    async def _metrics(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        self._keys.require_admin(headers)
        kind = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
        await respond(send, 200, self._exposition.text(), [kind])

    async def _livez(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        await respond_json(send, 200, {"alive": True})

    async def _readyz(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        state = views.readiness(self.keeper, draining=self.draining)
        verbose = b"verbose" in scope.get("query_string", b"")
        shown = state if verbose else {"ready": state["ready"], "degraded": state["degraded"]}
        await respond_json(send, 200 if state["ready"] else 503, shown)

    # -- the rest ---------------------------------------------------------------------------

    def _other(self, scope: Scope) -> Handler:
        path = scope["path"]
        allowed = self._methods.get(path)
        if allowed is not None:
            raise RequestRejected("method_not_allowed", f"{path} takes {allowed} only")
        ours = path.startswith(("/v1/router/", "/v1/feedback", "/v1/events"))
        if path.startswith("/v1/") and not ours and self.passthrough is not None:
            return self._anything
        if path.startswith("/v1/models/"):
            return self._model
        if path.startswith(DECISIONS_PATH) and scope["method"] == "GET":
            return self._decision
        passes = path.startswith("/v1/") and not ours
        hint = "; a provider with passthrough: true would take it" if passes else ""
        raise RequestRejected("not_found", f"there is no {path[:128]}{hint}")

    def _no_such_model(self, model: str) -> RequestRejected:
        return RequestRejected(
            "model_not_found",
            f"no endpoint lists the model {model[:128]!r}; GET /v1/models shows what there is, "
            "and a provider with passthrough: true would take it unlisted",
            param="model",
        )

    def _caller_or_default(self, headers: Headers) -> Caller:
        """A dry run may be asked for with the admin key, for the first app."""
        try:
            return self._keys.caller(headers)
        except RequestRejected:
            return Caller(next(iter(self.configuration.apps.values())), None)

    def _gauges(self) -> Gauges:
        return gauges(self.keeper, self.writer, self.decisions, self.draws, self.signals)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.keeper.new_names.update(views.endpoint_names(self.configuration))
                self.writer.start()
                self.keeper.start()
                self.draws.start()
                self.decisions.start()
                if self.signals is not None:
                    await self.signals.start()
                _calm_collector()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.draws.stop()
                if self.signals is not None:
                    await self.signals.stop()
                await self._upstream.aclose()
                self.keeper.stop()
                self.desk.close()
                await asyncio.to_thread(self.writer.close)
                await asyncio.to_thread(self.decisions.close)
                await send({"type": "lifespan.shutdown.complete"})
                return


class _Server(uvicorn.Server):
    """uvicorn that tells when it listens, and turns readiness off when asked to stop."""

    def __init__(self, config: uvicorn.Config, app: App, ready: Path | None) -> None:
        super().__init__(config)
        self._app = app
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then write the port."""
        await super().startup(sockets)
        if self.started:
            port = self.servers[0].sockets[0].getsockname()[1]
            log.info("listening", host=self.config.host, port=port)
            if self._ready is not None:
                _write(self._ready, str(port))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain."""
        self._app.draining = True
        super().handle_exit(sig, frame)


def build_app(
    configuration: Configuration,
    address: Address,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    observing: bool = False,
) -> App:
    """Return the sidecar for a configuration and a store.

    Args:
        observing: start an observer, which reads labels off finished calls.
    """
    return App(configuration, address, transport=transport, observing=observing)


def run(configuration: Configuration, address: Address, *, ready: Path | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then finish the answers that are under way.

    Args:
        ready: a file that is written with the port once the socket listens.
    """
    app = build_app(configuration, address, observing=True)
    entry = configuration.server
    config = uvicorn.Config(
        app,
        host=entry.host,
        port=entry.port,
        http=LimitedProtocol,
        loop="uvloop",
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="warning",
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEPALIVE_S,
        timeout_graceful_shutdown=max(int(entry.drain_s), 1),
    )
    # uvicorn raises the signal again once it has drained; ours ends the process in order.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    _Server(config, app, ready).run()


def _calm_collector() -> None:
    """Leave what lives as long as the process out of every garbage collection.

    The libraries alone hold some 200,000 objects; going through them costs a tenth of a call.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _write(path: Path, text: str) -> None:
    path.write_text(text)
