"""uvicorn's server with a socket, an accept loop and an end of its own.

Its loop takes one connection a turn; where each turn serves hundreds of calls, a thousand that
connect would wait for a thousand turns, and a health check behind them. Here a turn takes many.
"""

from __future__ import annotations

import asyncio
import errno
import resource
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import structlog
import uvicorn

from router.net.drain import Drain

log = structlog.get_logger()

BACKLOG = 4096
"""What Linux allows at most since 5.4: thousands may connect between two turns."""
ACCEPTS_A_TURN = 256
"""5 ms of work: more would hold up those who are connected."""
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
REST_S = 0.1
"""How long nobody is let in where there are no descriptors: some are given back meanwhile."""
SAY_AGAIN_S = 60.0
SOCKETS_A_CALL = 2
"""The client's and the provider's."""
OTHER_DESCRIPTORS = 512
"""Idle connections, journal, store, and clients that are turned away."""


def allow_descriptors(most_calls: int) -> int:
    """Raise this process's limit of open files; return how many calls it is enough for."""
    wanted = most_calls * SOCKETS_A_CALL + OTHER_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY not in (soft, hard) and soft < wanted:
        soft = min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    elif hard == resource.RLIM_INFINITY != soft and soft < wanted:
        soft = wanted
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return most_calls
    return max((soft - OTHER_DESCRIPTORS) // SOCKETS_A_CALL, 1)


@dataclass(slots=True)
class Doors:
    """Sockets that listen, and the connections that they let in."""

    sockets: list[socket.socket]
    protocol: Callable[[], asyncio.Protocol]
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    _entering: set[asyncio.Task[object]] = field(default_factory=set)
    _said_at: float = -SAY_AGAIN_S

    def open(self) -> None:
        """Listen."""
        for one in self.sockets:
            one.listen(BACKLOG)
            self._loop.add_reader(one, self._accept, one)

    def close(self) -> None:
        """Let nobody in any more."""
        for one in self.sockets:
            if one.fileno() >= 0:
                self._loop.remove_reader(one)
                one.close()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS_A_TURN):
            try:
                line, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in EXHAUSTED:
                    raise
                self._rest(listening, error)
                return
            line.setblocking(False)
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = self._loop.create_task(self._let_in(line))
            self._entering.add(task)
            task.add_done_callback(self._entering.discard)

    async def _let_in(self, line: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self.protocol, line)
        except OSError:  # it left again at once
            line.close()

    def _rest(self, listening: socket.socket, error: OSError) -> None:
        self._loop.remove_reader(listening)
        self._loop.call_later(REST_S, self._resume, listening)
        now = self._loop.time()
        if now - self._said_at >= SAY_AGAIN_S:
            self._said_at = now
            fix = "raise the limit of open files (ulimit -n, LimitNOFILE)"
            log.error("no connection can be let in", reason=error.strerror, fix=fix)

    def _resume(self, listening: socket.socket) -> None:
        if listening.fileno() >= 0:
            self._loop.add_reader(listening, self._accept, listening)


class Listener(uvicorn.Server):
    """Serves until it is asked to stop, then drains; asked again, it ends at once."""

    def __init__(
        self,
        config: uvicorn.Config,
        drain: Drain,
        *,
        on_listen: Callable[[int], None],
        on_stop: Callable[[], None],
    ) -> None:
        """Prepare.

        Args:
            on_listen: is told the port, once it can be called.
            on_stop: is called with the first signal.
        """
        super().__init__(config)
        self._drain = drain
        self._on_listen = on_listen
        self._on_stop = on_stop
        self._doors: Doors | None = None

    async def serve_within(self, sockets: list[socket.socket]) -> None:
        """Serve in a loop that runs, until `should_exit`; signals stay with whoever runs it."""
        await self._serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then listen."""
        assert sockets is not None
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            raise SystemExit(1)
        self.servers = []
        self._doors = Doors(sockets, self._protocol)
        self._doors.open()
        self.started = True
        self._on_listen(sockets[0].getsockname()[1])

    def _protocol(self) -> asyncio.Protocol:
        kind: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = kind(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let nobody in, finish what is under way, then end the application."""
        assert self._doors is not None
        self._doors.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        n_ended = await self._drain.run()
        if n_ended:
            log.warning("answers were ended early, and told so", answers=n_ended)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await self.lifespan.shutdown()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; a second signal ends it."""
        self._drain.hurried = self.should_exit
        self.should_exit = True
        self._on_stop()


def serve_until_asked(listener: Listener, sockets: list[socket.socket]) -> None:
    """Run a listener; a signal that comes after its end is one too many."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    listener.run(sockets)
