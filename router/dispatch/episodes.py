"""Which calls of an episode name it: the first answer of each role and endpoint.

So an episode of thousands of calls is found under a handful of names. A process that starts anew,
or another router, may name one again: who reads takes the earliest.
"""

from __future__ import annotations

from router.decision.recent import RecentlyUsed
from telemetry.tokens import part_of

MOST = 65_536
"""Episodes that are remembered."""
MOST_PARTS = 100
"""Of one, so many are named: more than may be kept under one name would push the first ones out."""
PART_BYTES = 10


class NamedEpisodes:
    """The parts of episodes that are named already, as far as this process knows."""

    def __init__(self, most: int = MOST) -> None:
        self._parts = RecentlyUsed(most)  # by episode, back to back

    def is_first(self, episode: int, token: bytes) -> bool:
        """Return whether nothing of an episode is named yet that played the part of this call.

        Args:
            episode: digest; 0 of none.
            token: packed.
        """
        if not episode:
            return False
        known = self._parts.get(episode.to_bytes(8, "little"))
        if known is None:
            return True
        part = part_of(token)
        if known.startswith(part) or len(known) >= MOST_PARTS * PART_BYTES:
            return False  # most often it has one part
        return all(known[i : i + PART_BYTES] != part for i in range(0, len(known), PART_BYTES))

    def note(self, episode: int, token: bytes) -> None:
        """Remember that a call names its episode."""
        key = episode.to_bytes(8, "little")
        self._parts.put(key, (self._parts.get(key) or b"") + part_of(token))
