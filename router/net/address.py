"""The address that the sidecar listens on: had, or refused with what to do."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass


class CannotListen(Exception):
    """The address cannot be had; the message names it, the reason and what to do."""

    def __init__(self, host: str, port: int, error: OSError) -> None:
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        super().__init__(f"cannot listen on {where} ({error.strerror}): {_fix(error, port)}")
        self.is_taken = error.errno == errno.EADDRINUSE


def _fix(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return "is another pointsman running? else set server.port to a free one"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"port {port} is for the system; set server.port to one from 1024 on"
    if isinstance(error, socket.gaierror):
        return "server.host is no host that can be resolved; 127.0.0.1 is this machine alone"
    if error.errno == errno.EADDRNOTAVAIL:
        return "server.host is no address of this machine; 127.0.0.1 is, and 0.0.0.0 is all"
    return "set server.host and server.port"


@dataclass(frozen=True, slots=True)
class SharedPort:
    """One of several processes that serve by the same sockets."""

    process: str  # its number, from 1
    descriptors: list[int]  # of the sockets, bound by whoever started it

    @classmethod
    def parse(cls, text: str) -> SharedPort:
        """Return what `--shared` says: `2:5,6`."""
        process, _, descriptors = text.partition(":")
        return cls(process, [int(one) for one in descriptors.split(",")])

    def text(self) -> str:
        """Return it as an argument."""
        return f"{self.process}:{','.join(map(str, self.descriptors))}"


def passed_on(descriptors: Sequence[int]) -> list[socket.socket]:
    """Return the sockets that whoever started this process bound for it and its like."""
    sockets = [socket.socket(fileno=one) for one in descriptors]
    for one in sockets:
        one.set_inheritable(False)
        one.setblocking(False)
    return sockets


def bound(host: str, port: int) -> list[socket.socket]:
    """Return a socket for each address of `host`; none of them listens yet.

    Raises:
        CannotListen: one of them cannot be had.
    """
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            one = socket.socket(family, kind, protocol)
            sockets.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(address)
            one.setblocking(False)
    except OSError as error:
        for one in sockets:
            one.close()
        raise CannotListen(host, port, error) from None
    return sockets
