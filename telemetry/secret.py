"""The store's secrets: what hashes of users are keyed with, and what draws follow from.

Each is made once, by whoever meets the store first, and kept by each process in its state
directory. So a store that was emptied gets the same ones again, and two routers agree. They have
nothing to do with what seals decision ids: keys of that come and go, and these stay.
"""

from __future__ import annotations

import secrets
import threading
import time
from hashlib import blake2b

from msgspec import Struct
from msgspec.structs import replace

from telemetry import keys
from telemetry.kept_secrets import SECRET_BYTES, KeptSecrets, SecretsFile, secret_in
from telemetry.store import Client

RATERS_FIELD = "raters_key"
EVER_MS = 1
"""Since when a new store has the secret that we gave it: nothing in it went by another."""
NOBODY = 0
"""Digest of no user, and of one that cannot be told."""


class UnitSecrets(Struct, frozen=True):
    """What the keys of units are hashed with, so that they tell nobody which user they are of."""

    now: bytes
    before: bytes | None = None  # what they were hashed with; None: with nothing
    since_ms: int = 0  # since when with `now`, in epoch milliseconds of this process; 0: ever


class StoreSecret:
    """The secret of users as this process knows it. `agree` is for one thread, the rest for any.

    A process that never saw it makes no digest. Units have keys all the same: until it meets the
    store they are hashed with a secret of its own, which a store that has none gets.
    """

    def __init__(self, file: SecretsFile, kept: KeptSecrets) -> None:
        self._file = file
        self._value = kept.users
        self._units: UnitSecrets | None = None
        if kept.users is not None:
            self._units = UnitSecrets(kept.users, kept.users_before, kept.users_since_ms)
        self._before, self._since_ms = kept.users_before, kept.users_since_ms
        self._lock = threading.Lock()

    def agree(self, client: Client, held: bytes | None) -> None:
        """Take over the secret of a store, or give it ours where it has none.

        Args:
            held: what the store was just seen to hold.

        Raises:
            redis.RedisError: the store is away, or takes no writes.
        """
        with self._lock:
            ours = self._units.now if self._units is not None else None
        offered = ours or _fresh()
        value = held or of_store(client, keys.SECRET, offered)
        if value == self._value or not secret_in(value):
            return
        is_ours = held is None and value == offered  # the store had none: it is new
        kept = self._file.read()  # another process of ours may have given it
        with self._lock:
            ours = self._units.now if self._units is not None else None
            is_another = ours not in (None, value)
            if is_another:
                self._before, self._since_ms = ours, int(time.time() * 1000)
            elif kept.users == value:
                self._before, self._since_ms = kept.users_before, kept.users_since_ms
            elif not self._since_ms:
                self._since_ms = EVER_MS if is_ours else int(time.time() * 1000)
            before, since_ms = self._before, self._since_ms
            self._value, self._units = value, UnitSecrets(value, before, since_ms)
        told = {"users_before": before, "users_since_ms": since_ms}
        self._file.keep(lambda kept: replace(kept, users=value, **told))

    @property
    def is_known(self) -> bool:
        """Whether it is the store's: then what units are hashed with tells users everywhere."""
        return self._value is not None

    @property
    def of_units(self) -> UnitSecrets:
        """What the keys of units are hashed with now."""
        found = self._units
        if found is None:
            with self._lock:
                if self._units is None:
                    self._units = UnitSecrets(_fresh(), self._before, self._since_ms)
                found = self._units
        return found

    def digest(self, kind: bytes, *parts: str) -> int:
        """Return a keyed digest of 8 bytes; `NOBODY` while the secret is not known.

        Args:
            kind: what is named, at most 16 bytes: digests of two kinds never meet.
        """
        if self._value is None:
            return NOBODY
        return digest_with(self._value, kind, *parts)


class DrawsSecret:
    """The secret of draws as this process knows it. `agree` is for one thread, the rest for any.

    A router that draws before it ever met a store makes one of its own. What had begun by then goes
    on by it: a unit's share would else change while it runs.
    """

    def __init__(self, file: SecretsFile, kept: KeptSecrets) -> None:
        self._file = file
        self._value, self._before = kept.draws, kept.draws_before
        self._since_ms = kept.draws_since_ms
        self._lock = threading.Lock()

    def agree(self, client: Client, held: bytes | None) -> None:
        """Take over the secret of a store, or give it ours where it has none.

        Args:
            held: what the store was just seen to hold.

        Raises:
            redis.RedisError: the store is away, or takes no writes.
        """
        value = held or of_store(client, keys.DRAWS_SECRET, self._value or _fresh())
        with self._lock:
            if value != self._value and secret_in(value):
                if self._value is not None:
                    self._before, self._since_ms = self._value, int(time.time() * 1000)
                self._value = value
                self._keep()

    def at(self, began_ms: float | None = None) -> bytes:
        """Return the secret by which a unit draws.

        Args:
            began_ms: epoch milliseconds at which the unit began; None: now.
        """
        before = self._before
        if before is not None and began_ms is not None and began_ms < self._since_ms:
            return before
        return self._value or self._own()

    def _own(self) -> bytes:
        with self._lock:
            if self._value is None:
                self._value = _fresh()
                self._keep()
            return self._value

    def _keep(self) -> None:
        value, before, since_ms = self._value, self._before, self._since_ms
        self._file.keep(
            lambda kept: replace(kept, draws=value, draws_before=before, draws_since_ms=since_ms)
        )


def digest_with(secret: bytes, kind: bytes, *parts: str) -> int:
    """Return the digest of 8 bytes that `StoreSecret.digest` makes with this secret."""
    named = "\x1f".join(parts).encode()
    found = blake2b(named, key=secret, digest_size=8, person=kind).digest()
    return int.from_bytes(found, "little") or 1


def of_store(client: Client, name: str, offered: bytes) -> bytes:
    """Return the value that a store has under a name; `offered` where it had none.

    Raises:
        redis.RedisError: the store is away, or has none and takes no writes.
    """
    found: bytes | None = client.get(name)
    if found is None:
        client.set(name, offered, nx=True)
        found = client.get(name)
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
        secret = of_store(client, keys.SECRET, _fresh())
        made = blake2b(key=secret, digest_size=SECRET_BYTES, person=b"raters").digest()
        client.hsetnx(keys.META, RATERS_FIELD, made)
        found = client.hget(keys.META, RATERS_FIELD) or made
    return found


def _fresh() -> bytes:
    return secrets.token_bytes(SECRET_BYTES)
