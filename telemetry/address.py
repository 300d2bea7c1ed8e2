"""Store addresses: read as a whole and as meant, or refused by name; no error shows a password.

Every option is on a list here. What a client library would take beside them would change what
replies look like, or our own time-outs, so it is refused like a mistyped one.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import SplitResult, parse_qsl, quote, unquote, unquote_to_bytes, urlsplit

from telemetry.errors import StoreUnavailable

SERVER = ("redis", "rediss", "unix")
SENTINEL = ("redis+sentinel", "rediss+sentinel")
CLUSTER = ("redis+cluster", "rediss+cluster")
TOPOLOGIES = SENTINEL + CLUSTER
SCHEMES = SERVER + TOPOLOGIES
SERVER_PORT = 6379
SENTINEL_PORT = 26379
FORMS = {
    "server": "[user:password@]host:port[/db]",
    "unix": "/path/of/socket[?db=N]",
    "sentinel": "[user:password@]host:port,host:port/service[/db]",
    "cluster": "[user:password@]host:port[,host:port]",
}
SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")
LOGIN_OPTIONS = ("username", "password")
TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
CERT_REQS = ("required", "optional", "none")
TRUTHS = {"true": True, "false": False}
TLS_OPTIONS = ("ssl_cert_reqs", "ssl_check_hostname", *TLS_FILES)
MAX_SOCKET_PATH = 107 if sys.platform == "linux" else 103
"""Bytes of a unix socket's path, by the size of `sun_path` less its closing zero."""
MAX_DB_DIGITS = 9
"""More than any server has, and what every server reads as a number."""


@dataclass(frozen=True, slots=True)
class Topology:
    """Where the servers of one store are found; print `shown`, never the rest."""

    scheme: str
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""  # of the unix socket, where it is one
    service: str = ""  # the name under which sentinels know the primary
    db: int = 0
    credentials: dict[str, str] = field(default_factory=dict, repr=False)
    sentinel_credentials: dict[str, str] = field(default_factory=dict, repr=False)
    tls: dict[str, Any] = field(default_factory=dict)  # as redis-py names them

    @property
    def shown(self) -> str:
        """The address without its credentials."""
        if self.path:
            return f"{self.scheme}://{self.path}"
        hosts = ",".join(f"[{h}]:{p}" if ":" in h else f"{h}:{p}" for h, p in self.hosts)
        return f"{self.scheme}://{hosts}" + (f"/{self.service}" if self.service else "")

    @property
    def is_cluster(self) -> bool:
        """Whether keys lie on several servers, by their slots."""
        return self.scheme in CLUSTER

    @property
    def is_sentinel(self) -> bool:
        """Whether sentinels are asked where the server is."""
        return self.scheme in SENTINEL

    @property
    def is_encrypted(self) -> bool:
        """Whether servers and sentinels speak TLS."""
        return self.scheme.startswith("rediss")


def unix_url(path: str | os.PathLike[str]) -> str:
    """Return the address of a unix socket, whatever characters its path has."""
    return f"unix://{quote(os.fsencode(path))}"


def parse_topology(url: str, *, named: str = "REDIS_URL") -> Topology:
    """Return what a store's address says.

    Args:
        named: the setting that the address is from, for messages.

    Raises:
        StoreUnavailable: names the setting, what is wrong, and what to write.
    """
    url = url.strip()
    scheme = url.partition("://")[0].lower() if "://" in url else ""
    if scheme not in SCHEMES:
        known = ", ".join(f"{s}://" for s in SCHEMES)
        what = (
            repr(scheme) if re.fullmatch(r"[a-z][a-z0-9+.-]{0,31}|", scheme) else "an unknown one"
        )
        raise StoreUnavailable(f"{named} has the scheme {what}; use one of {known}")
    return _Reader(scheme, named).read(url)


class _Reader:
    """Reads one address; holds what its errors begin and end with."""

    def __init__(self, scheme: str, named: str) -> None:
        self.scheme = scheme
        self.named = named
        kinds = {"unix": ("unix",), "sentinel": SENTINEL, "cluster": CLUSTER}
        self.kind = next((k for k, schemes in kinds.items() if scheme in schemes), "server")
        self.known = {
            "server": ("db", *LOGIN_OPTIONS),
            "unix": ("db", *LOGIN_OPTIONS),
            "sentinel": ("db", *SENTINEL_OPTIONS),
            "cluster": (),
        }[self.kind] + (TLS_OPTIONS if scheme.startswith("rediss") else ())

    def read(self, url: str) -> Topology:
        if re.search(r"[\s\x00-\x1f\x7f]", url):  # urlsplit would leave some of them out
            self.wrong("it holds a space or a control character; percent-encode it")
        try:
            parts = urlsplit(url)
        except ValueError:  # its text may be a part of the password
            self.wrong("a host cannot be read")
        beyond = parts.query + parts.fragment + ("" if self.kind == "unix" else parts.path)
        if "@" in beyond:  # where the password ends is a guess, so nothing of it is shown
            self.wrong("the password holds one of / ? # @ and must be percent-encoded")
        if parts.fragment or url.endswith("#"):
            self.wrong("it holds a #; a # in a password or path must be percent-encoded")
        user, _, servers = parts.netloc.rpartition("@")
        credentials = self.credentials(user)
        options = self.options(parts.query)
        for name in LOGIN_OPTIONS:
            if name in options and credentials.setdefault(name, options[name]) != options[name]:
                self.wrong(f"it has two of {name}")
        where = self.socket(parts, servers) if self.kind == "unix" else self.servers(parts, servers)
        if "db" in options and "db" in where:
            self.wrong("the number of a database stands in the path and in an option")
        return Topology(
            self.scheme,
            credentials=credentials,
            sentinel_credentials={
                name.removeprefix("sentinel_"): options[name]
                for name in SENTINEL_OPTIONS
                if name in options
            },
            tls={name: options[name] for name in TLS_OPTIONS if name in options},
            **({"db": options["db"]} if "db" in options else {}),
            **where,
        )

    def wrong(self, what: str) -> NoReturn:
        form = f"write {self.scheme}://{FORMS[self.kind]}"
        raise StoreUnavailable(f"{self.named}: {what}; {form}") from None

    def decoded(self, text: str, what: str) -> str:
        try:
            return unquote(text, errors="strict")
        except UnicodeDecodeError:
            self.wrong(f"{what} is not UTF-8")

    def credentials(self, user: str) -> dict[str, str]:
        name, _, password = user.partition(":")
        found = {
            "username": self.decoded(name, "the user"),
            "password": self.decoded(password, "the password"),
        }
        return {what: value for what, value in found.items() if value}

    def socket(self, parts: SplitResult, servers: str) -> dict[str, Any]:
        if servers:
            self.wrong("it names a host, and a unix socket has none")
        path = os.fsdecode(unquote_to_bytes(parts.path))
        if not path.strip("/"):
            self.wrong("the path is missing")
        if "\0" in path:
            self.wrong("the path holds a zero byte")
        if len(os.fsencode(path)) > MAX_SOCKET_PATH:
            self.wrong(f"the path is longer than the {MAX_SOCKET_PATH} bytes of a unix socket's")
        return {"path": path}

    def servers(self, parts: SplitResult, servers: str) -> dict[str, Any]:
        port = SENTINEL_PORT if self.kind == "sentinel" else SERVER_PORT
        names = servers.split(",")
        if self.kind == "server" and len(names) > 1:
            self.wrong("it names several hosts, which takes redis+sentinel or redis+cluster")
        hosts = tuple(self.host(name, port) for name in names)
        path = [self.decoded(part, "the path") for part in parts.path.split("/")[1:]]
        if path and not path[-1]:
            path.pop()  # `host/` is `host`
        if self.kind == "cluster":
            if path:
                self.wrong("a cluster has no database number")
            return {"hosts": hosts}
        if self.kind == "server":
            if len(path) > 1 or not all(map(_is_db, path)):
                self.wrong(f"{'/'.join(path)!r} is not the number of a database")
            return {"hosts": hosts} | ({"db": int(path[0])} if path else {})
        if not path or not path[0]:
            self.wrong("the name of the service is missing")
        if len(path) > 2 or not all(map(_is_db, path[1:])):
            self.wrong(f"{'/'.join(path)!r} is not a service and the number of a database")
        number = {"db": int(path[1])} if path[1:] else {}
        return {"hosts": hosts, "service": path[0], **number}

    def host(self, server: str, default: int) -> tuple[str, int]:
        try:
            parts = urlsplit(f"//{server}")
            host, port = parts.hostname or "", parts.port
        except ValueError:
            port, host = 0, server
        if port == 0:
            self.wrong("a host's port is no number from 1 to 65535")
        if not host:
            self.wrong("a host is missing")
        return self.decoded(host, "a host"), port or default

    def options(self, query: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        try:
            pairs = parse_qsl(query, keep_blank_values=True, errors="strict")
        except ValueError:
            self.wrong("an option is not UTF-8")
        for name, value in pairs:
            if name in TLS_OPTIONS and name not in self.known:
                self.wrong(f"option {name} is for TLS, which takes the scheme rediss")
            if name not in self.known:
                # One without a value may be anything, the end of a password too.
                is_name = re.fullmatch(r"[a-z_]{1,40}", name) and f"{name}=" in query
                what = f"unknown option {name!r}" if is_name else "it has an unknown option"
                self.wrong(f"{what}; known: {', '.join(self.known) or 'none'}")
            if name in found:
                self.wrong(f"it has two of {name}")
            if not value:
                self.wrong(f"option {name} has no value")
            found[name] = self.option(name, value)
        return found

    def option(self, name: str, value: str) -> Any:
        if name == "db":
            if not _is_db(value):
                self.wrong(f"db={value[:40]!r} is not the number of a database")
            return int(value)
        if name == "ssl_cert_reqs" and value not in CERT_REQS:
            self.wrong(f"{name}={value[:40]!r} is none of {', '.join(CERT_REQS)}")
        if name == "ssl_check_hostname":
            if value not in TRUTHS:
                self.wrong(f"{name}={value[:40]!r} is neither true nor false")
            return TRUTHS[value]
        if name in TLS_FILES and not os.access(value, os.R_OK):
            self.wrong(f"{name}={value[:200]!r} is no file that can be read")
        return value


def _is_db(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= MAX_DB_DIGITS
