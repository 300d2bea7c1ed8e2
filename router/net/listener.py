"""What serves: sockets, their connections, and an orderly end.

A turn of the loop takes many connections: where each turn serves hundreds of calls, a thousand that
connect would wait for a thousand turns, and a health check behind them.
"""

from __future__ import annotations

import asyncio
import errno
import resource
import signal
import socket
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from types import FrameType

import structlog
import uvloop

from router.net.drain import Drain
from router.net.inbound import ClientConnection, Reception

log = structlog.get_logger()

BACKLOG = 4096
"""What Linux allows at most since 5.4: thousands may connect between two turns."""
ACCEPTS_A_TURN = 256
"""5 ms of work: more would hold up those who are connected."""
ACCEPTS_A_TURN_OF_SEVERAL = 4
"""Where processes share a socket: who wakes first is to leave some to the others."""
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
    accepts: int = ACCEPTS_A_TURN
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
        for _ in range(self.accepts):
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


async def _nothing() -> None:
    """Nothing starts, nothing ends."""


class Listener:
    """Serves until it is asked to stop, then drains; asked again, it ends at once."""

    def __init__(
        self,
        served: Reception,
        drain: Drain,
        *,
        on_listen: Callable[[int], None],
        on_stop: Callable[[], None] = lambda: None,
        start: Callable[[], Awaitable[None]] = _nothing,
        stop: Callable[[], Awaitable[None]] = _nothing,
        shares: bool = False,
    ) -> None:
        """Prepare.

        Args:
            on_listen: is told the port, once it can be called.
            on_stop: is called with the first signal.
            start: what has to be there before anybody is let in.
            stop: what ends once nobody is served any more.
            shares: other processes let clients in by the same sockets.
        """
        self._served = served
        self._drain = drain
        self._on_listen = on_listen
        self._on_stop = on_stop
        self._start, self._stop = start, stop
        self._accepts = ACCEPTS_A_TURN_OF_SEVERAL if shares else ACCEPTS_A_TURN
        self._asked = False
        self._wake: Callable[[], object] = lambda: None

    def run(self, sockets: list[socket.socket]) -> None:
        """Serve in a loop of its own, until a signal asks it to stop.

        Raises:
            OSError: it could not start.
        """
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self.handle_exit)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self.serve(sockets))

    async def serve(self, sockets: list[socket.socket]) -> None:
        """Serve until it is asked to stop; signals stay with whoever runs the loop.

        Raises:
            OSError: it could not start.
        """
        stopping, loop = asyncio.Event(), asyncio.get_running_loop()
        self._wake = partial(loop.call_soon_threadsafe, stopping.set)
        try:
            await self._start()
        except BaseException:
            for one in sockets:
                one.close()
            raise
        doors = Doors(sockets, partial(ClientConnection, self._served), self._accepts)
        doors.open()
        self._on_listen(sockets[0].getsockname()[1])
        if not self._asked:
            await stopping.wait()
        await self._end(doors)

    async def _end(self, doors: Doors) -> None:
        """Let nobody in, finish what is under way, then end the rest."""
        doors.close()
        for connection in list(self._served.connections):
            connection.shutdown()
        n_ended = await self._drain.run()
        if n_ended:
            log.warning("answers were ended early, and told so", answers=n_ended)
        for connection in list(self._served.connections):
            connection.abort()
        self._wake = lambda: None  # the loop ends
        await self._stop()

    def ask_to_stop(self) -> None:
        """Begin to drain; asked a second time, end that. From any thread, and from signals."""
        self._drain.hurried = self._asked
        self._asked = True
        self._on_stop()
        self._wake()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal."""
        self.ask_to_stop()


def serve_until_asked(listener: Listener, sockets: list[socket.socket]) -> None:
    """Run a listener; a signal that comes after its end is one too many."""
    listener.run(sockets)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
