"""The sidecar: its parts, their start and end; a composition root."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import httpx
import structlog
import uvicorn

from router.beliefs.keeper import Keeper
from router.config.compiled import Configuration
from router.decision.context import Moment
from router.decision.decide import Decider
from router.decision.draws import Draws
from router.decision.seal import Seal
from router.dispatch.attempt import Dispatcher
from router.dispatch.booking import Booking
from router.dispatch.call import Calls
from router.dispatch.observer_line import ObserverLine
from router.dispatch.passthrough import Passthrough
from router.endpoints.health import Health
from router.explain.log import DecisionLog
from router.intake.events import EventDesk
from router.intake.feedback import FeedbackDesk
from router.net.asgi import Exchange, Receive, Scope, Send
from router.net.bodies import BodyBudget
from router.net.inbound import LimitedProtocol
from router.net.pool import Adapted, Pool, Upstream
from router.report import views
from router.report.gauges import gauges
from router.routes import Routes, Services, now
from telemetry.metrics import Exposition, Metrics
from telemetry.store import Address, connect
from telemetry.writer import Counters, Writer

log = structlog.get_logger()

LONGEST_CONNECT_S = 60.0
GC_THRESHOLDS = (20_000, 20, 50)
KEEPALIVE_S = 75
"""Above the SDKs' own pools' idle time, so that it is they who close."""
FEEDBACK_TIMEOUT_S = 0.5


class Sidecar:
    """The ASGI application: what it is made of, and in which order that starts and ends."""

    def __init__(
        self,
        configuration: Configuration,
        address: Address,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        observing: bool = False,
        clock: Callable[[], Moment] = now,
    ) -> None:
        """Build everything; nothing starts.

        Args:
            observing: start an observer, which reads labels off finished calls.
        """
        state_dir = configuration.server.state_directory()
        n_shards = configuration.store.shards
        self.metrics = metrics = Metrics()
        self.keeper = Keeper(configuration, address, state_dir)
        self.writer = Writer(
            state_dir / "journal", address, n_shards, Counters(dropped=metrics.dropped)
        )
        self.draws = Draws(address)
        self.health = Health(len(configuration.catalog.endpoints))
        self.observer = ObserverLine(state_dir, address, n_shards=n_shards) if observing else None
        self.decisions = DecisionLog(
            state_dir / "decisions",
            days=configuration.server.explain_days,
            max_bytes=configuration.server.explain_max_bytes,
        )
        self._upstream = _upstream(configuration, transport)
        self.budget = BodyBudget(configuration.server.max_held_bytes)
        seal = Seal.load(state_dir)
        booking = Booking(self.writer, seal, metrics, n_shards=n_shards)
        self.feedback = FeedbackDesk(
            self.writer,
            seal,
            connect(address, timeout_s=FEEDBACK_TIMEOUT_S),
            n_shards=n_shards,
            is_store_up=lambda: self.keeper.store_up,
        )
        decider = Decider(self.keeper, self.health, self.draws, seal.secret(b"draws"))
        self.routes = Routes(
            Services(
                keeper=self.keeper,
                decider=decider,
                calls=Calls(
                    decider,
                    Dispatcher(self._upstream, self.health),
                    booking,
                    observer=self.observer,
                    note=self.decisions.put,
                ),
                passthrough=Passthrough(self._upstream, booking, self.keeper.names),
                feedback=self.feedback,
                events=EventDesk(self.writer, self.feedback, key_id=seal.key_id, n_shards=n_shards),
                decisions=self.decisions,
                seal=seal,
                metrics=metrics,
                exposition=Exposition(
                    metrics,
                    lambda: gauges(
                        self.keeper,
                        self.writer,
                        self.decisions,
                        self.draws,
                        self.observer,
                        self._upstream if isinstance(self._upstream, Pool) else None,
                        self.budget,
                    ),
                ),
                clock=clock,
            )
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or start and end with the server."""
        if scope["type"] == "http":
            await self.routes.serve(Exchange(scope, receive, send, self.budget))
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self._start()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self._stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _start(self) -> None:
        self.keeper.names.add_all(views.names_of(self.keeper.current.configuration))
        self.writer.start()
        self.keeper.start()
        self.draws.start()
        self.decisions.start()
        if self.observer is not None:
            await self.observer.start()
        _calm_collector()

    async def _stop(self) -> None:
        await self.draws.stop()
        if self.observer is not None:
            await self.observer.stop()
        await self._upstream.aclose()
        self.keeper.stop()
        self.feedback.close()
        await asyncio.to_thread(self.writer.close)
        await asyncio.to_thread(self.decisions.close)


def _upstream(configuration: Configuration, transport: httpx.AsyncBaseTransport | None) -> Upstream:
    if transport is not None:
        return Adapted(transport)
    waits = [e.timeouts.connect_s for e in configuration.catalog.endpoints]
    return Pool(connect_s=min(max(waits), LONGEST_CONNECT_S))


class _Server(uvicorn.Server):
    """uvicorn that tells when it listens, and turns readiness off when asked to stop."""

    def __init__(self, config: uvicorn.Config, app: Sidecar, ready: Path | None) -> None:
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
        self._app.routes.draining = True
        super().handle_exit(sig, frame)


def run(configuration: Configuration, address: Address, *, ready: Path | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then finish the answers that are under way.

    Args:
        ready: a file that is written with the port once the socket listens.
    """
    app = Sidecar(configuration, address, observing=True)
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
