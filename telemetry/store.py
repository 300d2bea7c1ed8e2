"""The store: where it is, and how this project talks to it.

Own time-outs and no silent retries: a client that sends a write again by itself doubles it.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from telemetry import keys
from telemetry.address import parse_topology, unix_url
from telemetry.embedded import PrivateServer
from telemetry.errors import StoreMismatch
from telemetry.topology import connect_topology, connect_topology_async, spans_slots

Client = Any
"""A redis-py client. Its stubs give every reply as a union over protocol versions and options,
which says less than nothing; what comes back is checked where it is parsed."""
SCHEMA = "8"
READABLE = ("3", "4", "5", "6", "7")
"""Earlier schemas that are read as they are. Since 3 records and tokens grew wider; since 4 what
was said and what names decisions lies by hours, and since 5 ids of responses take less: what lies
as it did before is found until it ends. Before 8 nobody counted chains, budgets had no accounts,
and the ledger knew no failed calls and no price entries: of older records all of that is 0."""
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


@dataclass(frozen=True, slots=True)
class Address:
    """Where the store is. `url` may hold a password: print `shown` instead."""

    url: str
    private: PrivateServer | None = None  # our own server, where it is one

    @property
    def shown(self) -> str:
        """The address without its credentials."""
        return parse_topology(self.url).shown


def parse_address(url: str, *, named: str = "REDIS_URL") -> Address:
    """Return the address in `url`.

    Args:
        named: the setting that it is from, for messages.

    Raises:
        StoreUnavailable: an address that is not read as a whole; the message shows no password.
    """
    parse_topology(url, named=named)
    return Address(url)


@contextlib.contextmanager
def open_store(
    state_dir: Path,
    *,
    url: str | None = None,
    named: str | None = None,
    prefix: str = keys.DEFAULT_PREFIX,
) -> Iterator[Address]:
    """Yield the store to use: `url`, else `REDIS_URL`, else a private server of our own.

    A server that happens to listen on localhost:6379 is never used unasked. The private server
    is shared by all processes of one state directory and ends with the last of them.

    Args:
        named: the setting that `url` is from, for messages.
        prefix: of every key of this process from here on.

    Raises:
        StoreUnavailable: the address is not read as a whole, or there is neither one nor a server
            program to start.
    """
    keys.use_prefix(prefix)
    chosen = url or os.environ.get("REDIS_URL")
    if chosen:
        yield parse_address(chosen, named=(named if url else None) or "REDIS_URL")
        return
    with PrivateServer(state_dir / "store") as server:
        yield Address(unix_url(server.socket_path), server)


def connect(address: Address, *, timeout_s: float = SOCKET_TIMEOUT_S) -> Client:
    """Return a client that raises after `timeout_s` and never repeats a write by itself."""
    return connect_topology(parse_topology(address.url), timeout_s=timeout_s)


def connect_async(address: Address, *, timeout_s: float) -> Client:
    """Return the same for asyncio."""
    return connect_topology_async(parse_topology(address.url), timeout_s=timeout_s)


def probe(client: Client) -> None:
    """Ask for what every process needs, a write and a script, without leaving anything behind.

    A store that is full, only reads or runs no scripts says so to this, also where nothing else
    is to be said to it.

    Raises:
        redis.RedisError, OSError: what it says.
    """
    client.xadd(keys.PROBE, {"f": b""}, nomkstream=True)
    client.eval("return 1", 1, keys.PROBE)


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


def servers(client: Client) -> list[Client]:
    """Return a client of each server that takes writes: of a cluster every primary."""
    if not spans_slots(client):
        return [client]
    return [client.get_redis_connection(node) for node in client.get_primaries()]


def server_of(client: Client, key: str) -> Client:
    """Return a client of the server that holds a key."""
    if not spans_slots(client):
        return client
    return client.get_redis_connection(client.get_node_from_key(key))


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
    if schema in READABLE:
        client.hset(keys.META, "schema", SCHEMA)
    elif schema != SCHEMA:
        raise StoreMismatch(f"the store has schema {schema}, this version reads {SCHEMA}")
    if made_with != str(shards):
        raise StoreMismatch(
            f"the store was made with {made_with} shards and store.shards says {shards}; "
            f"set store.shards: {made_with}, or start with an empty store"
        )
    return incarnation
