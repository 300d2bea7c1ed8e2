"""The file in which a state directory keeps what its store holds secret.

So a store that was emptied gets everything back, and a process that starts while the store is away
goes on as before. The file is its owner's alone; several processes of one directory may change it.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path

import msgspec
import structlog
from msgspec import Struct
from msgspec.structs import replace

log = structlog.get_logger()

FILE, LOCK_FILE = "secrets.json", "secrets.lock"
SECRET_BYTES = 32
KEY_BYTES = range(16, 65)
"""Lengths that a sealing key may have; ours have 32 bytes."""
USERS_FILE, KEY_FILE, OLD_KEY_FILE = "store.secret", "token.key", "token.key.old"
"""Where versions before this file kept the secret of users, and the keys that sealed."""


class KeptKey(Struct, frozen=True, order=True):
    """A key that sealed decision ids, and when that was last, in epoch milliseconds."""

    key: bytes
    used_ms: int


class KeptSecrets(Struct, frozen=True, omit_defaults=True):
    """What the file holds; None is what was never known."""

    users: bytes | None = None  # digests of users are keyed with it
    users_before: bytes | None = None  # they were before `users_since_ms`; None: with nothing
    users_since_ms: int = 0  # 0: the directory is new, and has not met the store
    draws: bytes | None = None  # draws follow from it
    draws_before: bytes | None = None  # they did before `draws_since_ms`
    draws_since_ms: int = 0
    seal: bytes | None = None  # the key that seals
    keys: list[KeptKey] = []  # all that seal or did, that one as well


class SecretsFile:
    """The file of a state directory."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / FILE

    def open(self) -> KeptSecrets:
        """Return what is kept, with what files of earlier versions hold; those end by it.

        The directory is made where there is none.

        Raises:
            OSError: it cannot be used.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        files = (USERS_FILE, KEY_FILE, OLD_KEY_FILE)
        is_new = not any(self.path.with_name(name).exists() for name in (FILE, *files))
        keys = [self._earlier(name) for name in (KEY_FILE, OLD_KEY_FILE)]
        kept = self.change(lambda kept: kept if is_new else _taken_over(kept, *keys))
        for name in files:
            with suppress(OSError):
                self.path.with_name(name).unlink(missing_ok=True)
        return kept

    def change(self, made: Callable[[KeptSecrets], KeptSecrets]) -> KeptSecrets:
        """Put what `made` makes of the file in its place, and return it.

        Raises:
            OSError: it cannot be written.
        """
        with self._locked():
            before = self.read()
            after = made(before)
            if after != before:
                self._write(msgspec.json.encode(after))
        return after

    def keep(self, made: Callable[[KeptSecrets], KeptSecrets]) -> None:
        """Do the same where nobody may fail by it: then it is known until this process ends."""
        try:
            self.change(made)
        except OSError as error:
            log.error("the store's secrets cannot be kept", reason=error.strerror)

    def read(self) -> KeptSecrets:
        """Return what is kept, as far as it can be read; nobody else may read it from then on."""
        found = KeptSecrets()
        with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
            found = msgspec.json.decode(self.path.read_bytes(), type=KeptSecrets)
            if self.path.stat().st_mode & 0o077:
                self.path.chmod(0o600)
        return replace(
            found,
            users=secret_in(found.users) or secret_in(self._earlier(USERS_FILE)),
            users_before=secret_in(found.users_before),
            draws=secret_in(found.draws),
            draws_before=secret_in(found.draws_before),
            seal=key_in(found.seal),
            keys=[kept for kept in found.keys if key_in(kept.key)],
        )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        path = self.path.with_name(LOCK_FILE)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _earlier(self, name: str) -> bytes | None:
        """Return what a file of an earlier version holds, if it is there."""
        try:
            return self.path.with_name(name).read_bytes()
        except OSError:
            return None

    def _write(self, value: bytes) -> None:
        """Put the file there whole, readable by its owner only."""
        fresh = self.path.with_name(f".{FILE}.{secrets.token_hex(4)}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(value)
                file.flush()
                os.fsync(descriptor)
            fresh.rename(self.path)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise


def secret_in(value: bytes | None) -> bytes | None:
    """Return a secret, if it is one."""
    return value if value is not None and len(value) == SECRET_BYTES else None


def key_in(value: bytes | None) -> bytes | None:
    """Return a key that can seal, if it is one."""
    return value if value is not None and len(value) in KEY_BYTES else None


def _taken_over(kept: KeptSecrets, key: bytes | None, old_key: bytes | None) -> KeptSecrets:
    """Return what is kept with the keys that earlier versions kept in files of their own.

    Their draws followed from the key that sealed; they go on to. A key counts as used until now:
    nobody wrote down when it last was. Nor did they key what units go by: that begins now.
    """
    now_ms = int(time.time() * 1000)
    sealed = key_in(key)
    used = {each.key: each.used_ms for each in kept.keys}
    used |= {each: now_ms for each in (sealed, key_in(old_key)) if each is not None}
    draws = blake2b(b"draws", key=sealed, digest_size=SECRET_BYTES).digest() if sealed else None
    return replace(
        kept,
        users_since_ms=kept.users_since_ms or now_ms,
        draws=kept.draws or draws,
        seal=kept.seal or sealed,
        keys=[KeptKey(*each) for each in used.items()],
    )
