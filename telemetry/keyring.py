"""The keys that seal decision ids: one for all routers of a store, and those that did before.

The store's first key seals. A router that never met it seals with one of its own, and publishes it
later, so that the others open what was sealed meanwhile. Every key is kept, and given back to a
store that lacks it, until no id of it counts any more.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import scrypt
from typing import NamedTuple

import structlog
from msgspec.structs import replace

from telemetry import keys
from telemetry.kept_secrets import (
    KEY_BYTES,
    SECRET_BYTES,
    KeptKey,
    KeptSecrets,
    SecretsFile,
    key_in,
)
from telemetry.secret import of_store
from telemetry.store import Client, StoreErrors

log = structlog.get_logger()

KEEP_MS = 31 * 86_400_000
"""A day more than feedback for a decision counts: clocks differ, and use is told by the hour."""
TELL_EVERY_MS = 3_600_000
LEAST_CHARACTERS = 16
"""Of a configured secret."""


class SeenKeys(NamedTuple):
    """What a store was seen to hold: the key that seals, and all keys with their last use."""

    seal: bytes | None
    used: Mapping[bytes, bytes]


def derived_key(secret: str) -> bytes:
    """Return the key that a configured secret stands for; slow, as an id lets guesses be tried."""
    salt = b"pointsman decision id"
    return scrypt(secret.encode(), salt=salt, n=1 << 14, r=8, p=1, dklen=SECRET_BYTES)


class Keyring:
    """Every key of the store that this process used or saw within `KEEP_MS`; for any thread.

    `in_use` is False where a configured secret seals: then none is made or offered, and those that
    are known are kept and given back all the same.
    """

    def __init__(
        self,
        file: SecretsFile,
        kept: KeptSecrets,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Know what the state directory kept.

        Args:
            clock: epoch seconds.
        """
        self.in_use = True
        self._file = file
        self._clock = clock
        self._seal = kept.seal
        self._used = {each.key: each.used_ms for each in kept.keys}
        self._all: tuple[bytes, ...] = ()
        self._is_refused = False  # what the store has as the key that seals
        self._told: Mapping[bytes, int] = {}  # as the file has them
        self._lock = threading.Lock()
        self._put(self._used, self._now_ms())

    def known(self) -> tuple[bytes, ...]:
        """Return all keys, first the one that seals; another tuple only where they changed.

        A router that has to seal before it met a store makes a key of its own.
        """
        if self._seal is None and self.in_use:
            with self._lock:
                if self._seal is None:
                    self._seal = secrets.token_bytes(SECRET_BYTES)
                    now_ms = self._now_ms()
                    self._put({**self._used, self._seal: now_ms}, now_ms)
        return self._all

    def agree(self, client: Client, seen: SeenKeys) -> None:
        """Learn the keys of a store, seal with the one that it was given first, give what it lacks.

        Args:
            seen: what it was just seen to hold.

        Raises:
            redis.RedisError: the store is away, or takes no writes; what was seen is known.
        """
        self.learn(seen)
        if seen.seal is None and self.in_use:
            offered = self._seal or secrets.token_bytes(SECRET_BYTES)
            self.learn(SeenKeys(of_store(client, keys.SEAL, offered), seen.used))
        used, told = self._used, {k: _time(v) for k, v in seen.used.items() if key_in(k)}
        news = {
            key: at_ms
            for key, at_ms in used.items()
            if key not in told or at_ms - told[key] >= TELL_EVERY_MS
        }
        if news:
            client.hset(keys.SEALS, mapping=news)
        if ended := [key for key in told if key not in used]:
            client.hdel(keys.SEALS, *ended)

    def look(self, client: Client) -> None:
        """Learn the keys of a store, if it answers."""
        pipeline = client.pipeline(transaction=False)
        pipeline.get(keys.SEAL)
        pipeline.hgetall(keys.SEALS)
        with suppress(*StoreErrors):
            self.learn(SeenKeys(*pipeline.execute()))

    def learn(self, seen: SeenKeys) -> None:
        """Know the keys that a store was seen to hold."""
        with self._lock:
            now_ms = self._now_ms()
            used = self._marked(self._used, now_ms)
            for key, value in seen.used.items():
                if key_in(key):
                    used[key] = max(used.get(key, 0), min(_time(value), now_ms))
            seal = key_in(seen.seal)
            if seal is not None:
                used.setdefault(seal, now_ms)
                self._seal = seal
            elif seen.seal is not None and not self._is_refused:
                log.error(
                    "the store's key of decision ids is none, and is not used",
                    key=keys.SEAL,
                    size=len(seen.seal),
                    fix=f"set it to {KEY_BYTES.start} to {KEY_BYTES.stop - 1} random bytes",
                )
            self._is_refused = seal is None and seen.seal is not None
            self._put(used, now_ms)

    def _marked(self, used: Mapping[bytes, int], now_ms: int) -> dict[bytes, int]:
        """Return when each key was used last, the one that seals now."""
        found = dict(used)
        if self._seal is not None and self.in_use:
            found[self._seal] = now_ms
        return found

    def _put(self, used: Mapping[bytes, int], now_ms: int) -> None:
        """Know these, but for those of which no id counts; keep them where there is news."""
        self._used = fresh = _counting(used, self._seal if self.in_use else None, now_ms)
        self._seal = seal = self._seal if self._seal in fresh else None
        known = tuple(sorted(fresh, key=lambda key: (key != seal, key)))
        is_told = all(at - self._told.get(key, 0) < TELL_EVERY_MS for key, at in fresh.items())
        if known == self._all and is_told:
            return
        self._all, self._told = known, fresh
        self._file.keep(lambda kept: _with(kept, fresh, seal, now_ms))

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _with(
    kept: KeptSecrets, used: Mapping[bytes, int], seal: bytes | None, now_ms: int
) -> KeptSecrets:
    """Return what is kept with these keys; another process of the directory may know others."""
    both = {each.key: each.used_ms for each in kept.keys}
    for key, at_ms in used.items():
        both[key] = max(at_ms, both.get(key, 0))
    left = _counting(both, seal, now_ms)
    seal = seal or (kept.seal if kept.seal in left else None)
    return replace(kept, seal=seal, keys=[KeptKey(*each) for each in sorted(left.items())])


def _counting(used: Mapping[bytes, int], seal: bytes | None, now_ms: int) -> dict[bytes, int]:
    """Return the keys of which ids count still."""
    return {key: at for key, at in used.items() if key == seal or now_ms - at <= KEEP_MS}


def _time(value: bytes) -> int:
    """Return the time in a field of the store; 0 where there is none."""
    return int(value) if value.isdigit() and len(value) < 16 else 0
