"""The sidecar: its parts, their start and end; a composition root."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

import httpx
import structlog
import uvicorn

from router.beliefs.keeper import Keeper
from router.config.compiled import Configuration
from router.config.watch import WatchedFile
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
from router.net.inbound import LimitedProtocol
from router.net.pool import Adapted, Pool, Upstream
from router.report import views
from router.report.endpoints import endpoint_gauges
from router.report.gauges import gauges
from router.routes import Routes, Services, now
from telemetry.metrics import Exposition, Metrics
from telemetry.processes import has_terminal
from telemetry.store import Address, connect
from telemetry.writer import Counters, Writer

log = structlog.get_logger()

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
        file: Path | None = None,
    ) -> None:
        """Build everything; nothing starts.

        Args:
            file: what the configuration was read from; a change of it is taken while we run.
            observing: start an observer, which reads labels off finished calls.
        """
        state_dir = configuration.server.state_directory()
        n_shards = configuration.store.shards
        self.metrics = metrics = Metrics()
        watched = WatchedFile(file, configuration, state_dir) if file is not None else None
        self.keeper = Keeper(configuration, address, state_dir, watched)
        self.writer = Writer(
            state_dir / "journal", address, n_shards, Counters(dropped=metrics.dropped)
        )
        self.draws = Draws(address)
        self.health = Health()
        self.observer = ObserverLine(state_dir, address, n_shards=n_shards) if observing else None
        self.decisions = DecisionLog(
            state_dir / "decisions",
            days=configuration.server.explain_days,
            max_bytes=configuration.server.explain_max_bytes,
        )
        self._upstream: Upstream = Pool() if transport is None else Adapted(transport)
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
                    ),
                    lambda: endpoint_gauges(
                        self.keeper.current.configuration, self.health, clock()
                    ),
                ),
                clock=clock,
            )
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or start and end with the server."""
        if scope["type"] == "http":
            await self.routes.serve(Exchange(scope, receive, send))
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
        self.keeper.on_taken = partial(_on_loop, asyncio.get_running_loop(), self._follow)
        self._follow(self.keeper.current.configuration)
        self.writer.start()
        self.keeper.start()
        self.draws.start()
        self.decisions.start()
        if self.observer is not None:
            await self.observer.start()
        _calm_collector()

    def _follow(self, configuration: Configuration) -> None:
        """Have what outlives a configuration go on under this one."""
        self.health.follow(configuration.catalog, time.monotonic())
        self.keeper.names.add_all(views.names_of(configuration))

    async def _stop(self) -> None:
        await self.draws.stop()
        if self.observer is not None:
            await self.observer.stop()
        await self._upstream.aclose()
        self.keeper.stop()
        self.feedback.close()
        await asyncio.to_thread(self.writer.close)
        await asyncio.to_thread(self.decisions.close)


def _on_loop(
    loop: asyncio.AbstractEventLoop,
    follow: Callable[[Configuration], None],
    configuration: Configuration,
) -> None:
    """Call from another thread what changes things of the loop's."""
    loop.call_soon_threadsafe(follow, configuration)


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


def run(
    configuration: Configuration, address: Address, file: Path, *, ready: Path | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, then finish the answers that are under way.

    SIGHUP has the configuration taken anew, keys included.

    Args:
        ready: a file that is written with the port once the socket listens.
    """
    app = Sidecar(configuration, address, observing=True, file=file)
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
    _reload_on_hang_up(app)
    _Server(config, app, ready).run()


def _reload_on_hang_up(app: Sidecar) -> None:
    """Have SIGHUP take the configuration anew, unless it is of a terminal that was closed."""
    had_terminal = has_terminal()

    def hang_up(*_: object) -> None:
        if had_terminal and not has_terminal():
            signal.raise_signal(signal.SIGTERM)
        elif app.keeper.file is not None:
            app.keeper.file.ask()

    signal.signal(signal.SIGHUP, hang_up)


def _calm_collector() -> None:
    """Leave what lives as long as the process out of every garbage collection.

    The libraries alone hold some 200,000 objects; going through them costs a tenth of a call.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _write(path: Path, text: str) -> None:
    path.write_text(text)
