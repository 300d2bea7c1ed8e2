"""The store: where it is, and how this project talks to it.

Own time-outs and no silent retries: a client that sends a write again by itself doubles it.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from telemetry import keys
from telemetry.embedded import PrivateServer
from telemetry.errors import StoreMismatch, StoreUnavailable
from telemetry.topology import (
    CLUSTER,
    SENTINEL,
    connect_topology,
    connect_topology_async,
    parse_topology,
    spans_slots,
)

Client = Any
"""A redis-py client. Its stubs give every reply as a union over protocol versions and options,
which says less than nothing; what comes back is checked where it is parsed."""
SCHEMA = "3"
SCHEMES = ("redis", "rediss", "unix")
TOPOLOGIES = SENTINEL + CLUSTER
SOCKET_TIMEOUT_S = 2.0
"""Above the longest blocking read (.5 s), far below a person's patience."""

StoreErrors = (redis.RedisError, redis.exceptions.RedisClusterException, OSError)
"""What a store that is away, full, frozen or misconfigured raises."""
AwayErrors = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.exceptions.ClusterError,
    redis.exceptions.RedisClusterException,
    OSError,
)
"""Those of them that say that it did not answer."""


REFUSALS = (
    ("OOM", "its memory is full", "raise maxmemory, or give it a server with more memory"),
    ("MISCONF", "it cannot write to its disk", "make room on the store's disk; its log says more"),
    ("READONLY", "it is a replica", "name the primary in REDIS_URL"),
    ("NOPERM", "its user may not", "give the user of REDIS_URL the right to write"),
    ("NOAUTH", "it turns down user or password", "put the right ones into REDIS_URL"),
    ("NOREPLICAS", "it has too few replicas", "bring them back, or lower min-replicas-to-write"),
)
"""What a store says that answers and takes nothing: its word, what it means, and the fix."""


def refusal_of(error: BaseException) -> tuple[str, str] | None:
    """Return why a store that answers takes nothing, and the fix; None where it is away."""
    said = str(error).upper()
    for word, reason, fix in REFUSALS:
        if _says(error, said, word):
            return reason, fix
    if isinstance(error, redis.ResponseError):
        return type(error).__name__, "the store's log says more"
    return None


def _says(error: BaseException, said: str, word: str) -> bool:
    kinds = {  # the client takes the word off some of its errors, and keeps it in others
        "OOM": redis.exceptions.OutOfMemoryError,
        "READONLY": redis.exceptions.ReadOnlyError,
        "NOPERM": redis.exceptions.NoPermissionError,
        "NOAUTH": redis.exceptions.AuthenticationError,
    }
    kind = kinds.get(word)
    stands = re.search(rf"(^|ERROR: ){word}\b", said)  # a pipeline puts the command before it
    return bool(stands) or (kind is not None and isinstance(error, kind))


@dataclass(frozen=True, slots=True)
class Address:
    """Where the store is. `url` may hold a password: print `shown` instead."""

    url: str
    private: PrivateServer | None = None  # our own server, where it is one

    @property
    def shown(self) -> str:
        """The address without its credentials."""
        parts = urlsplit(self.url)
        if parts.scheme in TOPOLOGIES:
            return parse_topology(self.url).shown
        where = parts.hostname or parts.path
        return f"{parts.scheme}://{where}" + (f":{parts.port}" if parts.port else "")


def parse_address(url: str) -> Address:
    """Return the address in `url`.

    Raises:
        StoreUnavailable: a scheme that this version does not speak, or an address that it
            cannot read; the message shows no password.
    """
    scheme = url.partition("://")[0] if "://" in url else ""
    if scheme in TOPOLOGIES:
        parse_topology(url)
        return Address(url)
    if scheme not in SCHEMES:
        known = ", ".join(f"{s}://" for s in SCHEMES + TOPOLOGIES)
        raise StoreUnavailable(f"REDIS_URL has the scheme {scheme!r}; use one of {known}")
    try:
        _ = urlsplit(url).port
    except ValueError:  # its text may be a part of the password
        raise StoreUnavailable(
            f"REDIS_URL cannot be read: write {scheme}://[user:password@]host:port[/db] "
            "with / ? # in a password percent-encoded"
        ) from None
    return Address(url)


@contextlib.contextmanager
def open_store(state_dir: Path, *, url: str | None = None) -> Iterator[Address]:
    """Yield the store to use: `url`, else `REDIS_URL`, else a private server of our own.

    A server that happens to listen on localhost:6379 is never used unasked. The private server
    is shared by all processes of one state directory and ends with the last of them.

    Raises:
        StoreUnavailable: there is neither a URL nor a server program to start.
    """
    chosen = url or os.environ.get("REDIS_URL")
    if chosen:
        yield parse_address(chosen)
        return
    with PrivateServer(state_dir / "store") as server:
        yield Address(f"unix://{server.socket_path}", server)


def connect(address: Address, *, timeout_s: float = SOCKET_TIMEOUT_S) -> Client:
    """Return a client that raises after `timeout_s` and never repeats a write by itself."""
    if urlsplit(address.url).scheme in TOPOLOGIES:
        return connect_topology(parse_topology(address.url), timeout_s=timeout_s)
    return redis.Redis.from_url(
        address.url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
    )


def connect_async(address: Address, *, timeout_s: float) -> Client:
    """Return the same for asyncio."""
    if urlsplit(address.url).scheme in TOPOLOGIES:
        return connect_topology_async(parse_topology(address.url), timeout_s=timeout_s)
    return redis.asyncio.Redis.from_url(
        address.url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=AsyncRetry(NoBackoff(), 0),
        health_check_interval=0,
    )


def memory_per_shard(client: Client, n_shards: int) -> int:
    """Return how many bytes a shard may use of its server, on the server where that is least.

    0 where no server sets a limit, or says one. Of a cluster every primary is asked; one that is
    away has no say until it is back.
    """
    if not spans_slots(client):
        return _max_memory(client) // n_shards
    n_held = Counter(client.get_node_from_key(keys.meta(n)).name for n in range(n_shards))
    shares = []
    for node in client.get_primaries():
        with contextlib.suppress(*AwayErrors):
            limit = _max_memory(client.get_redis_connection(node))
            shares.append(limit // max(n_held[node.name], 1))
    return min((share for share in shares if share), default=0)


def _max_memory(client: Client) -> int:
    try:
        return int(client.info("memory").get("maxmemory", 0))
    except redis.ResponseError:
        return 0  # not everybody may ask


def prepare(client: Client, *, shards: int) -> str:
    """Lay out a new store, or check an old one; return its incarnation.

    Raises:
        StoreMismatch: the store has another number of shards or another schema.
    """
    client.hsetnx(keys.META, "schema", SCHEMA)
    client.hsetnx(keys.META, "shards", str(shards))
    client.hsetnx(keys.META, "incarnation", os.urandom(8).hex())
    schema, made_with, incarnation = (
        value.decode() if value else ""
        for value in client.hmget(keys.META, ["schema", "shards", "incarnation"])
    )
    if schema != SCHEMA:
        raise StoreMismatch(f"the store has schema {schema}, this version reads {SCHEMA}")
    if made_with != str(shards):
        raise StoreMismatch(
            f"the store was made with {made_with} shards and store.shards says {shards}; "
            f"set store.shards: {made_with}, or start with an empty store"
        )
    return incarnation
