"""fakeredis for whoever connects by address, without looking at the clock.

Its own server asks each connection a hundred times a second whether there is something to say,
and takes what comes byte by line. Hundreds of tests have a sidecar with six connections each.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import fakeredis
from fakeredis._clients import _tcp_server

from telemetry.store import Address

_tcp_server._INTERNAL_CONNECTION_KWARGS["driver_info"] = None  # nobody asks who is within


class _Handler(_tcp_server.TCPFakeRequestHandler):
    """Answers in the order of the questions; an error is an answer, and packets wait for none."""

    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.connection.setblocking(True)
        self.thread, self.lock, self.said = (
            threading.current_thread(),
            threading.Lock(),
            bytearray(),
        )
        self.socket = self.current_client.get_socket()  # it greets itself before we listen
        self.socket.put_response = self._say

    def handle(self) -> None:
        with suppress(OSError):
            while not self.server._shutdown_event.is_set():
                data = self.connection.recv(65536)
                if not data:
                    return
                try:
                    self.socket.sendall(data)
                except Exception as error:  # no command, or a client that was killed
                    self._say(error)
                    self._flush()
                    return
                self._flush()

    def _say(self, response: Any) -> None:
        """Take an answer of this connection's thread, or send what another one publishes."""
        data = _tcp_server.encode_reply(response, self.protocol_version)
        with self.lock:
            self.said += data
        if threading.current_thread() is not self.thread:
            self._flush()

    def _flush(self) -> None:
        with self.lock, suppress(OSError):
            said, self.said = self.said, bytearray()
            if said:
                self.connection.sendall(said)

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()


class _Server(fakeredis.TcpFakeServer):
    """Waits for connections, not for a time to be over."""

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), server_type="valkey")
        self.RequestHandlerClass = _Handler
        self.open: set[socket.socket] = set()

    def accept(self) -> None:
        with suppress(OSError):
            while not self._shutdown_event.is_set():
                request, address = self.get_request()
                self.open.add(request)
                self.process_request(request, address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def shutdown(self) -> None:
        """Take no more connections, and end those that there are."""
        self._shutdown_event.set()
        for each in (self.socket, *self.open.copy()):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextmanager
def fake_store(port: int = 0) -> Iterator[Address]:
    """Run fakeredis for whoever connects by address."""
    with _Server(port) as server:
        thread = threading.Thread(target=server.accept)
        thread.start()
        try:
            yield Address(f"redis://127.0.0.1:{server.server_address[1]}/0")
        finally:
            server.shutdown()
            thread.join(10)
            server.shutdown()  # whoever came in between
