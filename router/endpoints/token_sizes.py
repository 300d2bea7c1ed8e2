"""How many tokens a text has at least at each endpoint, as far as its answered calls have shown.

An endpoint is left out only where a text surely does not fit, so the estimate is the least: it goes
by the most bytes that a token of its last calls took, and by a tenth more.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

UNKNOWN_BYTES = 6.0
"""No text has more bytes a token than this: what is over it could not fit anywhere."""
LEAST_BYTES = 2.0
"""Fewer come of prompts that a provider adds by itself, and say nothing of a longer text."""
LEAST_TOKENS = 100
"""In shorter prompts what is around the text weighs too much."""
SEED_BYTES = 3.6
"""What a token takes of mixed text, until calls have shown it."""
ENOUGH_CALLS = 8
LAST_CALLS = 64
MARGIN = 1.1
"""Of the next text a token may take a little more than of any of the last 64."""


@dataclass(slots=True)
class _Seen:
    last: deque[float] = field(default_factory=lambda: deque(maxlen=LAST_CALLS))
    most: float = 0.0


class TokenSizes:
    """Bytes a token by the endpoint's digest; one for the process."""

    def __init__(self) -> None:
        self.least = UNKNOWN_BYTES  # of all endpoints: what no endpoint goes below
        self._bytes: dict[int, float] = {}
        self._seen: dict[int, _Seen] = {}

    def bytes_per_token(self, digest: int) -> float:
        """Return how many bytes of text a token takes at most."""
        return self._bytes.get(digest, UNKNOWN_BYTES)

    def expected(self, digest: int, text_bytes: int) -> int:
        """Return how many tokens a text probably has at an endpoint, by its last calls."""
        seen = self._seen.get(digest)
        ratio = sum(seen.last) / len(seen.last) if seen and seen.last else SEED_BYTES
        return max(round(text_bytes / ratio), 1)

    def learn(self, digest: int, text_bytes: int, tokens: int) -> None:
        """Take note of a prompt of text alone that was answered, and of what it was counted as."""
        if tokens < LEAST_TOKENS:
            return
        seen = self._seen.get(digest)
        if seen is None:
            seen = self._seen[digest] = _Seen()
        ratio, before = text_bytes / tokens, seen.most
        gone = seen.last[0] if len(seen.last) == LAST_CALLS else 0.0
        seen.last.append(ratio)
        if ratio >= before:
            seen.most = ratio
        elif gone >= before:  # the greatest is forgotten
            seen.most = max(seen.last)
        if seen.most != before or len(seen.last) == ENOUGH_CALLS:
            self._settle(digest, seen)

    def _settle(self, digest: int, seen: _Seen) -> None:
        if len(seen.last) >= ENOUGH_CALLS:
            self._bytes[digest] = MARGIN * max(seen.most, LEAST_BYTES)
            self.least = min(UNKNOWN_BYTES, *self._bytes.values())
