"""The keys that calls are made with, and how they are kept fresh while calls go on.

A key is replaced as a whole, so whoever sends reads either the old or the new one. Where no new
one is to be had the last that was good stays, and the log says why, without any of it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import structlog

from router.endpoints.auth import Auth, AuthEntry

log = structlog.get_logger()

RETRY_S = 30.0
"""After a command that failed it is run again so soon, or as soon as it is due."""


class HeldKey:
    """A key as it goes out now."""

    __slots__ = ("_auth", "_due_s", "_ran_s", "_stamp", "header")

    def __init__(
        self, header: tuple[bytes, bytes], auth: AuthEntry | None = None, *, now: float = 0.0
    ) -> None:
        """Hold a key.

        Args:
            auth: where it comes from; None: it never changes.
            now: monotonic seconds.
        """
        self.header = header
        self._auth = auth
        self._stamp = _stamp(auth.file) if auth is not None and auth.file is not None else None
        self._ran_s = now
        self._due_s = now + auth.every_s if auth is not None and auth.command is not None else None

    def look(self, now: float) -> bool:
        """Take another key where its file has changed or its command is due; return whether it is.

        Args:
            now: monotonic seconds.
        """
        auth = self._auth
        if auth is None or not self._is_due(auth, now):
            return False
        try:
            fresh = auth.header_of(auth.secret())
        except LookupError as error:
            if self._due_s is not None:
                self._due_s = now + min(auth.every_s, RETRY_S)
            log.warning("a key could not be renewed; the last one stays", why=str(error))
            return False
        is_new, self.header = fresh != self.header, fresh
        if is_new:
            log.info("a key was renewed", source=auth.source[1])
        return is_new

    def doubt(self) -> None:
        """Note that the key was refused: it may have ended early, so its command is run soon."""
        if self._due_s is not None:
            self._due_s = min(self._due_s, self._ran_s + RETRY_S)

    def _is_due(self, auth: AuthEntry, now: float) -> bool:
        if self._due_s is not None:
            if now < self._due_s:
                return False
            self._ran_s, self._due_s = now, now + auth.every_s
            return True
        if auth.file is None:
            return False
        stamp = _stamp(auth.file)
        is_other, self._stamp = stamp != self._stamp, stamp
        return is_other


class KeyRing:
    """The keys of one configuration; of one source there is one, whoever uses it."""

    def __init__(self, before: KeyRing | None = None) -> None:
        """Hold none yet.

        Args:
            before: that of the configuration which this one follows; what its commands printed
                still holds.
        """
        self._held: dict[AuthEntry, HeldKey] = {}
        self._before = before._held if before is not None else {}

    def key_of(self, auth: Auth) -> HeldKey | None:
        """Return the key of a way to sign in; None where it takes none of ours.

        Raises:
            LookupError: there is none to be had; names the fix.
        """
        if not isinstance(auth, AuthEntry):
            return None
        held = self._held.get(auth)
        if held is None and auth.command is not None:
            held = self._before.get(auth)
        if held is None:
            # Looked at first: what is written in between is then found to have changed.
            held = HeldKey((b"", b""), auth, now=time.monotonic())
            held.header = auth.header_of(auth.secret())
        self._held[auth] = held
        return held

    def look(self, now: float) -> bool:
        """Renew what is due; return whether any key is another one.

        Args:
            now: monotonic seconds.
        """
        return any([held.look(now) for held in self._held.values()])


def _stamp(file: Path) -> object:
    """Return what changes when a file does; None where there is none."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino
