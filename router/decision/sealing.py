"""Which keys seal decision ids and open them: those of the store, or of the configuration."""

from __future__ import annotations

from router.config.compiled import Configuration
from telemetry.keyring import Keyring


class SealingKeys:
    """The keys of a router: a configured one seals before any of the store's, and opens with them.

    What a configuration derives is neither written down nor given to the store.
    """

    def __init__(self, keyring: Keyring, configuration: Configuration) -> None:
        self._keyring = keyring
        self._of_store: tuple[bytes, ...] = ()
        self._all: tuple[bytes, ...] = ()
        self.follow(configuration)

    def follow(self, configuration: Configuration) -> None:
        """Seal and open as this configuration says from now on."""
        now, before = configuration.seal_key, configuration.seal_key_before
        self._now = () if now is None else (now,)
        self._before = () if before is None else (before,)
        self._keyring.in_use = now is None
        self._all = ()

    def known(self) -> tuple[bytes, ...]:
        """Return all keys, first the one that seals; another tuple only where they changed."""
        of_store = self._keyring.known()
        if of_store is not self._of_store or not self._all:
            self._of_store = of_store
            self._all = (*self._now, *of_store, *self._before)
        return self._all
