"""Who was forgotten of late, as the store says: what was drawn for them before counts no more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from telemetry.forgetting import read_forgotten


class Forgotten:
    """The users that were forgotten, by keyed hash; `take` is for one thread."""

    def __init__(self) -> None:
        self.since_ms: Mapping[bytes, int] = {}  # by the store's clock; replaced as a whole
        self.on_news: Callable[[Sequence[bytes]], object] = lambda users: None

    def take(self, found: Mapping[bytes, bytes]) -> None:
        """Go by what the store was seen to hold, and tell whom it named anew."""
        if not found and not self.since_ms:
            return
        known = read_forgotten(found)
        news = [user for user, at_ms in known.items() if at_ms > self.since_ms.get(user, 0)]
        self.since_ms = known
        if news:
            self.on_news(news)
