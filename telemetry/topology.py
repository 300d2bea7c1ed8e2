"""The clients of a store: of one server, of what sentinels name, and of a cluster.

A client follows the store to where it went (MOVED, ASK, a new primary), but sends nothing again
whose answer it did not see: that is its caller's to decide.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.connection
import redis.asyncio.sentinel
import redis.cluster
import redis.connection
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from telemetry.address import Topology

try:
    from redis.driver_info import DriverInfo
except ImportError:  # before 7.1, whose connections know their version
    OF_CONNECTIONS: dict[str, Any] = {}
else:
    OF_CONNECTIONS = {"driver_info": DriverInfo(lib_version=redis.__version__)}
"""Else each connection reads redis-py's version from disk: 3 ms of CPU."""


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
    if not topology.is_sentinel:
        return redis.Redis.from_pool(
            redis.ConnectionPool(**_one_server(topology, common, redis.connection), retry=retry)
        )
    return _primary(redis.sentinel.Sentinel, PrimaryClient, topology, common, retry)


def connect_topology_async(topology: Topology, *, timeout_s: float) -> Any:
    """Return the same for asyncio."""
    common = _common(topology, timeout_s)
    retry = AsyncRetry(NoBackoff(), 0)
    if topology.is_cluster:
        nodes = [redis.asyncio.cluster.ClusterNode(*host) for host in topology.hosts]
        options = {**common, **topology.credentials, **CLUSTER_OPTIONS}
        return redis.asyncio.cluster.RedisCluster(startup_nodes=nodes, retry=retry, **options)
    if not topology.is_sentinel:
        pool = redis.asyncio.ConnectionPool(
            **_one_server(topology, common, redis.asyncio.connection), retry=retry
        )
        return redis.asyncio.Redis.from_pool(pool)
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
        **topology.tls,
    }


def _one_server(topology: Topology, common: dict[str, Any], kinds: Any) -> dict[str, Any]:
    """Return what a pool of connections to one server is made with; `kinds` is their module."""
    own = {name: value for name, value in common.items() if name != "ssl"}
    own |= {**topology.credentials, "db": topology.db, **OF_CONNECTIONS}
    if topology.path:
        kind = kinds.UnixDomainSocketConnection
        return {**own, "path": topology.path, "connection_class": kind}
    ((host, port),) = topology.hosts
    kind = kinds.SSLConnection if topology.is_encrypted else kinds.Connection
    return {**own, "host": host, "port": port, "connection_class": kind}


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
