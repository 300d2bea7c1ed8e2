"""Two simulated endpoints with prompt caches, and the books of what was asked of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import blake2b

import httpx

from scripts.proofs.prompt_caches import CachedPrompt, PromptCaches, TokenPrices, parts_of
from scripts.proofs.replies import TEXT, error
from scripts.proofs.told_answers import ToldAnswer, dialect_of

WORSE, BETTER = HOSTS = ("north", "south")
PRICES = TokenPrices(Decimal(3), Decimal("0.3"), Decimal("3.75"), Decimal(15))
"""Of both: so what sessions cost differs by their caches alone."""
TOKENS_OUT = 80
REFUSAL = 503
FAILED_IN = 120
"""One prompt of so many an endpoint never answers."""


@dataclass(slots=True)
class CacheBook:
    """What prompts were counted as, and what all answers cost."""

    calls: int = 0
    failed: int = 0
    tokens_in: int = 0
    cached: int = 0
    cost_usd: Decimal = field(default_factory=Decimal)

    @property
    def cached_share(self) -> float:
        """Of all input tokens."""
        return self.cached / self.tokens_in if self.tokens_in else 0.0


class CachingHosts(httpx.AsyncBaseTransport):
    """Both endpoints, by host name; one call comes at a time."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self.books = {"session": CacheBook(), "user": CacheBook()}
        self.book = self.books["user"]  # in which the next call is noted
        self.last = CachedPrompt(0, 0)  # what the last answer was counted as
        self._caches = {host: PromptCaches() for host in HOSTS}
        self._now_s = now_s

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request, or refuse it."""
        raw = await request.aread()
        host = request.url.host.removesuffix(".test")
        if int.from_bytes(blake2b(raw, digest_size=4).digest(), "little") % FAILED_IN == 0:
            self.book.failed += 1
            return httpx.Response(REFUSAL, json=error("overloaded"))
        body, dialect = json.loads(raw), dialect_of(request.url.path)
        prompt = self._caches[host].take(list(parts_of(body)), self._now_s())
        written = prompt.tokens - prompt.cached if dialect == "messages" else 0
        self._note(prompt, written)
        answer = ToldAnswer(
            f"{dialect}-{self.book.calls}",
            host,
            TEXT,
            prompt.tokens,
            TOKENS_OUT,
            prompt.cached,
            written,
        )
        kind, said = answer.bytes_in(dialect, streamed=body.get("stream") is True)
        return httpx.Response(200, headers={"content-type": kind}, content=said)

    def _note(self, prompt: CachedPrompt, written: int) -> None:
        book, self.last = self.book, prompt
        book.calls += 1
        book.tokens_in += prompt.tokens
        book.cached += prompt.cached
        book.cost_usd += PRICES.cost_usd(prompt, written=written, tokens_out=TOKENS_OUT)
