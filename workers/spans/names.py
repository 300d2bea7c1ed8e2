"""What an outcome's digests stand for, as routers told the store."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from telemetry import keys
from telemetry.digests import digest8
from telemetry.store import Client
from telemetry.traces import model_key, provider_key

READ_EVERY_S = 5.0
"""At most: a name that nobody told would be asked for with every call."""


@dataclass(slots=True)
class StoredNames:
    """Names by digest; read again where one is missing."""

    client: Client
    clock: Callable[[], float] = time.monotonic
    _known: dict[int, str] = field(default_factory=dict)
    _models: dict[int, str] = field(default_factory=dict)  # as answers call them
    _read_at: float = float("-inf")

    def name(self, digest: int) -> str | None:
        """Return what a digest of an endpoint, app or task stands for; None: nobody told.

        Raises:
            redis.RedisError: the store is away.
        """
        if digest not in self._known:
            self._read()
        return self._known.get(digest)

    def model_of(self, endpoint: int) -> str | None:
        """Return the model that an endpoint is asked for. Raises as `name`."""
        return self.name(model_key(endpoint))

    def provider_of(self, endpoint: int) -> str | None:
        """Return the provider of an endpoint, as the configuration calls it. Raises as `name`."""
        return self.name(provider_key(endpoint))

    def answer_model(self, digest: int, asked: str | None) -> str | None:
        """Return the model that an answer named; None: it named none, or nobody told.

        Args:
            asked: for which it was asked: nearly always the same.

        Raises:
            redis.RedisError: the store is away.
        """
        if not digest:
            return None
        if asked is not None and digest == digest8(asked):
            return asked
        if digest not in self._models:
            self._read()
        return self._models.get(digest)

    def _read(self) -> None:
        now = self.clock()
        if now - self._read_at < READ_EVERY_S:
            return
        self._read_at = now
        found = self.client.hgetall(keys.NAMES)
        self._known = {int(digest, 16): name.decode() for digest, name in found.items()}
        places = (place.decode().split(":", 3) for place in self.client.hkeys(keys.SERVED))
        self._models = {digest8(parts[3]): parts[3] for parts in places if len(parts) == 4}
