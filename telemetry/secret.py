"""The store's secret: what digests of users are keyed with, so that nobody can guess them back.

It is made once, by whoever meets the store first, and kept by each process's state directory,
readable by its owner only. So a store that was emptied gets the same one again, and the digests of
two routers agree. A process that never saw it makes no such digest.
"""

from __future__ import annotations

import os
import secrets
from hashlib import blake2b
from pathlib import Path

import structlog

from telemetry import keys
from telemetry.store import Client

log = structlog.get_logger()

FILE = "store.secret"
N_BYTES = 32
RATERS_FIELD = "raters_key"
NOBODY = 0
"""Digest of no user, and of one that cannot be told."""


class StoreSecret:
    """The secret as this process knows it. `digest` is for any thread, `agree` for one."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / FILE
        self._value = _read(self._path)

    def agree(self, client: Client, held: bytes | None) -> None:
        """Take over the secret of a store, or give it ours where it has none.

        Args:
            held: what the store was just seen to hold.

        Raises:
            redis.RedisError: the store is away, or takes no writes.
        """
        value = held or of_store(client, self._value or secrets.token_bytes(N_BYTES))
        if value != self._value:
            self._value = value
            try:
                write_secret(self._path, value)
            except OSError as error:  # known until this process ends
                log.error("the store's secret cannot be kept", reason=error.strerror)

    def digest(self, kind: bytes, *parts: str) -> int:
        """Return a keyed digest of 8 bytes; `NOBODY` while the secret is not known.

        Args:
            kind: what is named, at most 16 bytes: digests of two kinds never meet.
        """
        if self._value is None:
            return NOBODY
        named = "\x1f".join(parts).encode()
        found = blake2b(named, key=self._value, digest_size=8, person=kind).digest()
        return int.from_bytes(found, "little") or 1


def of_store(client: Client, offered: bytes) -> bytes:
    """Return the secret of a store; `offered` where it had none.

    Raises:
        redis.RedisError: the store is away, or has none and takes no writes.
    """
    found: bytes | None = client.get(keys.SECRET)
    if found is None:
        client.set(keys.SECRET, offered, nx=True)
        found = client.get(keys.SECRET)
    return found or offered


def raters_key(client: Client) -> bytes:
    """Return the key that ranks raters' decisions in this store, made by whoever needs it first.

    It follows from the store's secret, and is kept beside the store's layout: there an archive
    takes it along, which the secret itself never enters. So what is folded again ranks as it did.

    Raises:
        redis.RedisError: the store is away, or has none and takes no writes.
    """
    found: bytes | None = client.hget(keys.META, RATERS_FIELD)
    if found is None:
        secret = of_store(client, secrets.token_bytes(N_BYTES))
        made = blake2b(key=secret, digest_size=N_BYTES, person=b"raters").digest()
        client.hsetnx(keys.META, RATERS_FIELD, made)
        found = client.hget(keys.META, RATERS_FIELD) or made
    return found


def _read(path: Path) -> bytes | None:
    try:
        found = path.read_bytes()
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
    except OSError:
        return None
    return found if len(found) == N_BYTES else None


def write_secret(path: Path, value: bytes) -> None:
    """Put the file there whole, readable by its owner only."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, value)
    finally:
        os.close(descriptor)
    fresh.rename(path)
