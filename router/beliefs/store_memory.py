"""What is known of the store's memory: what a worker measured, with what the servers say now."""

from __future__ import annotations

import time
from contextlib import suppress

from telemetry.memory import MemoryUse, ServerMemory, ask_servers
from telemetry.store import Client, StoreErrors

EVERY_S = 10.0
"""Between two questions to the servers, as a worker measures."""


class SeenMemory:
    """The store's memory as this process last saw it."""

    def __init__(self) -> None:
        self.use: MemoryUse | None = None
        self._servers: list[ServerMemory] = []
        self._next = 0.0  # monotonic seconds

    @property
    def has_room_for_draws(self) -> bool:
        """Whether the store has memory for new draws, as far as is known."""
        return self.use is None or self.use.keeps_draws

    @property
    def has_room_for_ids(self) -> bool:
        """Whether the store has memory for new ids of what lies at providers."""
        return self.use is None or self.use.keeps_ids

    def look(self, client: Client, value: bytes | None) -> None:
        """Note what was measured; servers are asked as well, since a full one is told nothing.

        Args:
            value: of `keys.MEMORY`.
        """
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY_S
            with suppress(*StoreErrors):
                self._servers = ask_servers(client)
        use = MemoryUse.parse(value)
        self.use = use.as_of(self._servers) if use is not None else None
