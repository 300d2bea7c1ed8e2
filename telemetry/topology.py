"""Stores of several servers: Sentinel and Cluster, their addresses and clients.

A client follows the store to where it went (MOVED, ASK, a new primary), but sends nothing again
whose answer it did not see: that is its caller's to decide.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.sentinel
import redis.cluster
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from telemetry.errors import StoreUnavailable

SENTINEL = ("redis+sentinel", "rediss+sentinel")
CLUSTER = ("redis+cluster", "rediss+cluster")
SENTINEL_PORT = 26379
CLUSTER_PORT = 6379
FORMS = {
    "sentinel": "[user:password@]host:port,host:port/service[/db]",
    "cluster": "[user:password@]host:port[,host:port]",
}
SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")


@dataclass(frozen=True, slots=True)
class Topology:
    """Where the servers of one store are found; print `shown`, never the rest."""

    scheme: str
    hosts: tuple[tuple[str, int], ...]
    service: str = ""  # the name under which sentinels know the primary
    db: int = 0
    credentials: dict[str, str] = field(default_factory=dict, repr=False)
    sentinel_credentials: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def shown(self) -> str:
        """The address without its credentials."""
        hosts = ",".join(f"[{h}]:{p}" if ":" in h else f"{h}:{p}" for h, p in self.hosts)
        return f"{self.scheme}://{hosts}" + (f"/{self.service}" if self.service else "")

    @property
    def is_cluster(self) -> bool:
        """Whether keys lie on several servers, by their slots."""
        return self.scheme in CLUSTER

    @property
    def is_encrypted(self) -> bool:
        """Whether servers and sentinels speak TLS."""
        return self.scheme.startswith("rediss")


def parse_topology(url: str) -> Topology:
    """Return what an address of several servers says.

    Raises:
        StoreUnavailable: names the scheme, what is wrong, and what to write.
    """
    parts = urlsplit(url)
    kind = "sentinel" if parts.scheme in SENTINEL else "cluster"

    def wrong(what: str) -> StoreUnavailable:
        return StoreUnavailable(f"REDIS_URL: {what}; write {parts.scheme}://{FORMS[kind]}")

    if "@" in parts.path + parts.query + parts.fragment:
        # Where it ends is a guess, so nothing of it is shown.
        raise wrong("the password holds one of / ? # and must be percent-encoded")
    user, _, servers = parts.netloc.rpartition("@")
    port = SENTINEL_PORT if kind == "sentinel" else CLUSTER_PORT
    hosts = tuple(_host(server, port, wrong) for server in servers.split(","))
    path = [unquote(part) for part in parts.path.strip("/").split("/") if part]
    if kind == "cluster":
        if path or parts.query:
            raise wrong("a cluster has no database number and takes no options")
        return Topology(parts.scheme, hosts, credentials=_credentials(user))
    if not path:
        raise wrong("the name of the service is missing")
    if len(path) > 2 or not (len(path) == 1 or path[1].isdecimal()):
        raise wrong(f"{'/'.join(path)!r} is not a service and the number of a database")
    return Topology(
        parts.scheme,
        hosts,
        service=path[0],
        db=int(path[1]) if len(path) == 2 else 0,
        credentials=_credentials(user),
        sentinel_credentials=_sentinel_credentials(parts, wrong),
    )


def _host(server: str, port: int, wrong: Callable[[str], StoreUnavailable]) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{server}")
        host, port = parts.hostname or "", parts.port or port
    except ValueError:
        raise wrong("a host's port is no number from 1 to 65535") from None
    if not host:
        raise wrong("a host is missing")
    return host, port


def _credentials(user: str) -> dict[str, str]:
    name, _, password = user.partition(":")
    found = {"username": unquote(name), "password": unquote(password)}
    return {what: value for what, value in found.items() if value}


def _sentinel_credentials(
    parts: SplitResult, wrong: Callable[[str], StoreUnavailable]
) -> dict[str, str]:
    options = parse_qs(parts.query)
    if unknown := [name for name in options if name not in SENTINEL_OPTIONS]:
        raise wrong(f"unknown option {unknown[0]!r}; known: {', '.join(SENTINEL_OPTIONS)}")
    return {name.removeprefix("sentinel_"): values[-1] for name, values in options.items()}


def connect_topology(topology: Topology, *, timeout_s: float) -> Any:
    """Return a client that raises after `timeout_s`; it connects with its first command."""
    common = _common(topology, timeout_s)
    if topology.is_cluster:
        make_node: Any = redis.cluster.ClusterNode
        nodes = [make_node(*host) for host in topology.hosts]
        options = {**common, **topology.credentials, **CLUSTER_OPTIONS}

        def cluster() -> Any:
            retry = Retry(NoBackoff(), 0)
            return redis.cluster.RedisCluster(startup_nodes=list(nodes), retry=retry, **options)

        return ClusterClient(cluster)
    retry = Retry(NoBackoff(), 0)
    return _primary(redis.sentinel.Sentinel, PrimaryClient, topology, common, retry)


def connect_topology_async(topology: Topology, *, timeout_s: float) -> Any:
    """Return the same for asyncio."""
    common = _common(topology, timeout_s)
    retry = AsyncRetry(NoBackoff(), 0)
    if topology.is_cluster:
        nodes = [redis.asyncio.cluster.ClusterNode(*host) for host in topology.hosts]
        options = {**common, **topology.credentials, **CLUSTER_OPTIONS}
        return redis.asyncio.cluster.RedisCluster(startup_nodes=nodes, retry=retry, **options)
    sentinels = redis.asyncio.sentinel.Sentinel
    return _primary(sentinels, AsyncPrimaryClient, topology, common, retry)


def _primary(
    sentinels: Any, client: type, topology: Topology, common: dict[str, Any], retry: object
) -> Any:
    """Return a client for the primary, asked for anew with each connection.

    The sentinels' own clients must not try again either: by default each does for ten seconds.
    """
    return sentinels(
        topology.hosts,
        sentinel_kwargs={**common, **topology.sentinel_credentials, "retry": retry},
        **common,
        **topology.credentials,
        retry=retry,
        db=topology.db,
    ).master_for(topology.service, redis_class=client)


CLUSTER_OPTIONS: dict[str, Any] = {
    "reinitialize_steps": 1,  # a slot that moved is looked for at once, not at the fifth try
    "require_full_coverage": False,  # one node away leaves the others' shards at work
    "dynamic_startup_nodes": False,  # names that were given outlive the addresses behind them
}


def _common(topology: Topology, timeout_s: float) -> dict[str, Any]:
    return {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "ssl": topology.is_encrypted,
    }


class PrimaryClient(redis.Redis):
    """A client for the primary that sentinels name; closing it closes theirs, too."""

    def close(self) -> None:
        """Close all connections."""
        super().close()
        pool: Any = self.connection_pool
        for sentinel in pool.sentinel_manager.sentinels:
            sentinel.close()


class AsyncPrimaryClient(redis.asyncio.Redis):
    """The same for asyncio."""

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close all connections."""
        await super().aclose(close_connection_pool)
        pool: Any = self.connection_pool
        for sentinel in pool.sentinel_manager.sentinels:
            await sentinel.aclose()


class ClusterClient:
    """A cluster's client that connects with its first command, like every other client.

    redis-py's own connects when it is made, so that a cluster that is away would keep a process
    from starting.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: Any = None
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        """Return the real client's attribute, connecting first where that was not done."""
        with self._lock:
            if self._made is None:
                self._made = self._make()
        return getattr(self._made, name)

    def close(self) -> None:
        """Close all connections, if there are any."""
        with self._lock:
            if self._made is not None:
                self._made.close()


def spans_slots(client: Any) -> bool:
    """Return whether keys lie in slots, so that a transaction reaches those of one tag only."""
    return isinstance(client, ClusterClient)
