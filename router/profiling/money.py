"""What calls cost: as the books count it, and before, at a guess."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import structs

from router.endpoints.catalog import Endpoint
from router.endpoints.rates import PriceList
from router.endpoints.token_sizes import SEED_BYTES
from telemetry.wire.usage import Usage, tier_of

DEFAULT_OUTPUT_TOKENS = 1000
"""Of a prompt that sets no limit. UNVALIDATED."""
PICTURE_TOKENS = 1600
SETUP_S, TOKENS_PER_S = 1.0, 60.0
"""What an answer takes at a guess. UNVALIDATED."""
LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
"""Fields that say how much may be written; where several are there, nobody knows which holds."""
TIMES = ("n", "best_of")
"""Fields that say how many answers are written."""
TIER = "service_tier"
NANO = 1e9


def size_of(body: dict[str, Any]) -> tuple[int, int]:
    """Return tokens in and out of a call, at a guess: all that its limit allows."""
    n_pictures, n_bytes = 0, 0
    for message in body["messages"]:
        content = message.get("content")
        for part in content if isinstance(content, list) else [content]:
            if isinstance(part, dict) and part.get("type") not in (None, "text"):
                n_pictures += 1
            else:
                n_bytes += len(msgspec.json.encode(part))
    more = {name: value for name, value in body.items() if name in ("tools", "response_format")}
    n_bytes += len(msgspec.json.encode(more)) if more else 0
    most = _limit_of(body) or DEFAULT_OUTPUT_TOKENS
    return max(round(n_bytes / SEED_BYTES), 1) + PICTURE_TOKENS * n_pictures, most


def is_without_limit(body: dict[str, Any]) -> bool:
    """Return whether a prompt says nothing of how long its answer may be."""
    return not _limit_of(body)


def _limit_of(body: dict[str, Any]) -> int | None:
    limits = [body.get("max_tokens"), body.get("max_completion_tokens")]
    return next((limit for limit in limits if limit), None)


def estimated_usd(
    endpoint: Endpoint, tokens_in: int, tokens_out: int, *, at_s: float
) -> float | None:
    """Return what a call may cost; None where no price is known.

    What the endpoint's own `params` ask for counts as asked, and all that is written as thought
    where that is dearer.
    """
    said, limit = params_of(endpoint), endpoint.output_limit
    tokens_out = math.ceil(max([tokens_out, *counts_in(said, LIMITS)]))
    written = min(tokens_out, limit) if limit else tokens_out
    written = math.ceil(written * n_answers(said))
    usage, seconds, tier = Usage(tokens_in, written, 0, 0), estimated_s(written), said.get(TIER)
    costs = [
        cost_usd(endpoint, one, at_s=at_s, machine_s=seconds, asked_tier=tier)
        for one in (usage, structs.replace(usage, reasoning_tokens=written))
    ]
    return max((usd for usd in costs if usd is not None), default=None)


def params_of(endpoint: Endpoint) -> dict[str, Any]:
    """Return an endpoint's own settings, which go before what a call says."""
    return {name: json.loads(value) for name, value in endpoint.params.items()}


def counts_in(said: Mapping[str, Any], names: Sequence[str]) -> list[float]:
    """Return what stands under these names, as far as it counts something."""
    found = (said.get(name) for name in names)
    return [n for n in found if isinstance(n, int | float) and not isinstance(n, bool) and n >= 1]


def n_answers(said: Mapping[str, Any]) -> float:
    """Return how many answers to a call are asked for."""
    return math.prod(counts_in(said, TIMES))


def estimated_s(tokens_out: int) -> float:
    """Return how long an answer may take."""
    return SETUP_S + tokens_out / TOKENS_PER_S


def cost_usd(
    endpoint: Endpoint,
    usage: Usage | None,
    *,
    at_s: float,
    machine_s: float,
    asked_tier: object = None,
) -> float | None:
    """Return what a call cost, by the prices that the books go by; None where that is not known.

    Args:
        at_s: epoch seconds.
        machine_s: its share of the time of a machine that is paid by the hour.
        asked_tier: the service tier that the endpoint's settings ask for.
    """
    if endpoint.terms.is_subscribed:
        return 0.0 if usage is not None else None
    prices: PriceList | None = endpoint.prices
    if prices is None:
        return None
    nano = prices.nano(usage, at_s, tier=tier_of(asked_tier), machine_s=machine_s)
    return None if nano is None else nano / NANO
