"""The switch as a sidecar knows it, who brings the older of its file and its store up to date."""

from __future__ import annotations

import contextlib
from pathlib import Path

from router.beliefs.switch import Switch, SwitchFile, SwitchWord, switch_of, word_in_store
from telemetry import keys, scripts
from telemetry.store import Client, StoreErrors


def read_store(client: Client) -> SwitchWord | None:
    """Return the store's word.

    Raises:
        redis.RedisError: the store is away.
    """
    return word_in_store(*client.mget([keys.OFF, keys.ON]))


def tell_store(client: Client, word: SwitchWord) -> bool:
    """Return whether the store has the word now; if not, it has a later one.

    Raises:
        redis.RedisError: the store is away, or takes nothing.
    """
    return scripts.say_switch(client, off=word.off, at_ms=word.at_ms, text=word.text)


class KeptSwitch:
    """What is said in a state directory, and what its store said last."""

    def __init__(self, state_dir: Path) -> None:
        self._file = SwitchFile(state_dir)
        self._in_store: SwitchWord | None = None

    def look(self) -> Switch:
        """Return how it stands. Of a store that is away the last word counts."""
        return switch_of(self._file.read(), self._in_store)

    def hear(self, client: Client, off: bytes | None, on: bytes | None) -> None:
        """Take over what the store says, and bring the older of the two places up to date.

        One that cannot be written is tried again at the next look.
        """
        self._in_store = word_in_store(off, on)
        in_file = self._file.read()
        word = switch_of(in_file, self._in_store).word
        if word is None:
            return
        if word != in_file:
            with contextlib.suppress(OSError):
                self._file.write(word)
        if word != self._in_store:
            with contextlib.suppress(*StoreErrors):
                tell_store(client, word)
