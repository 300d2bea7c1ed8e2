"""A provider's prompt caches, simulated: what of a prompt it saw at its beginning not long ago.

Pure, time is passed in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from hashlib import blake2b
from typing import Any

from msgspec import Struct

KEPT_S = 300.0
"""So long a beginning is kept since it was last sent, as providers say of their own."""
LEAST_TOKENS = 1024
"""Shorter beginnings are not kept."""
BYTES_A_TOKEN = 4
MARKER = ', "cache_control": {"type": "ephemeral"}'
"""Where a client wants a beginning kept; it moves on with the conversation, and is not read."""


class CachedPrompt(Struct, frozen=True):
    """What of a prompt came out of a cache, in tokens."""

    tokens: int
    cached: int


class PromptCaches:
    """The caches of one endpoint."""

    def __init__(self) -> None:
        self._seen: dict[bytes, float] = {}  # beginnings, by hash -> epoch seconds

    def take(self, parts: Sequence[tuple[bytes, int]], now_s: float) -> CachedPrompt:
        """Return how much of a prompt is known, and know all of it from now on.

        Args:
            parts: bytes that tell a part from others, and its tokens, in order.
        """
        digest, tokens, cached, ends = blake2b(digest_size=16), 0, 0, []
        for told, n in parts:
            digest.update(told + b"\x1f")
            tokens += n
            if tokens >= LEAST_TOKENS:
                key = digest.copy().digest()
                ends.append(key)
                if now_s - self._seen.get(key, float("-inf")) <= KEPT_S:
                    cached = tokens
        self._seen.update(dict.fromkeys(ends, now_s))
        return CachedPrompt(tokens, cached)


def parts_of(body: Mapping[str, Any]) -> Iterator[tuple[bytes, int]]:
    """Yield the parts of a request of any dialect in the order in which providers read them."""
    said = body.get("messages") or body.get("input") or ()
    for part in (body.get("tools"), body.get("system"), body.get("instructions"), *said):
        if part:
            told = json.dumps(part).replace(MARKER, "").encode()
            yield told, len(told) // BYTES_A_TOKEN + 1


class TokenPrices(Struct, frozen=True):
    """USD a million tokens."""

    fresh: Decimal
    cached: Decimal
    written: Decimal
    out: Decimal

    def cost_usd(self, prompt: CachedPrompt, *, written: int, tokens_out: int) -> Decimal:
        """Return what an answer costs.

        Args:
            written: tokens of the prompt that were written to the cache, at a price of their own.
        """
        fresh = prompt.tokens - prompt.cached - written
        parts = (
            fresh * self.fresh,
            prompt.cached * self.cached,
            written * self.written,
            tokens_out * self.out,
        )
        return sum(parts, Decimal()) / 1_000_000
