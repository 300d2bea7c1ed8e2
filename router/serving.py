"""The sidecar over HTTP: its socket, its signals, its orderly end."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import structlog

from router.config.compiled import Configuration
from router.config.process import ServerEntry
from router.net.address import SharedPort, bound, passed_on
from router.net.drain import Drain
from router.net.inbound import Reception
from router.net.listener import Listener, allow_descriptors, serve_until_asked
from router.server import Sidecar
from telemetry.processes import has_terminal
from telemetry.store import Address

log = structlog.get_logger()


def run(
    configuration: Configuration,
    address: Address,
    file: Path,
    *,
    ready: Path | None = None,
    shared: SharedPort | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish the answers that are under way.

    SIGHUP has the configuration taken anew, keys included.

    Args:
        ready: a file that is written with the port once the socket listens.
        shared: several processes serve by the same sockets, and this is one of them.

    Raises:
        CannotListen: the address cannot be had.
        OSError: the state directory cannot be used.
    """
    entry = configuration.server
    sockets = passed_on(shared.descriptors) if shared else bound(entry.host, entry.port)
    app = Sidecar(configuration, address, observing=True, file=file)
    app.admission.most = allow_descriptors(entry.max_in_flight)
    if app.admission.most < entry.max_in_flight:
        fix = "raise the limit of open files (ulimit -n, LimitNOFILE)"
        log.warning("server.max_in_flight is too high", calls=app.admission.most, fix=fix)

    def tell(port: int) -> None:
        log.info("listening", host=entry.host, port=port)
        if ready is not None:
            ready.write_text(str(port))

    if shared is not None:
        app.owners.exposition.process = shared.process
    _reload_on_hang_up(app)
    served = listener(app, entry, on_listen=tell, shares=shared is not None)
    serve_until_asked(served, sockets)


def listener(
    app: Sidecar, entry: ServerEntry, *, on_listen: Callable[[int], None], shares: bool = False
) -> Listener:
    """Return what serves a sidecar over HTTP."""
    routes = app.routes
    drain = Drain(routes.under_way, silent_s=entry.drain_s, most_s=entry.drain_most_s)
    return Listener(
        Reception(routes.serve, app.budget),
        drain,
        on_listen=on_listen,
        on_stop=app.drain,
        start=app.start,
        stop=app.stop,
        shares=shares,
    )


def _reload_on_hang_up(app: Sidecar) -> None:
    """Have SIGHUP take the configuration anew, unless it is of a terminal that was closed."""
    had_terminal = has_terminal()

    def hang_up(*_: object) -> None:
        if had_terminal and not has_terminal():
            signal.raise_signal(signal.SIGTERM)
        elif app.keeper.file is not None:
            app.keeper.file.ask()

    signal.signal(signal.SIGHUP, hang_up)
