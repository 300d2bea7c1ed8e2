"""What a request that was passed on used and cost: by the prices of whoever took it.

A model that the provider's own endpoints list costs what they say, any other one what is published
of it. Of most paths that no dialect has nobody knows prices, whatever usage they tell: what they
may have cost is said to be unknown, and is never nothing.
"""

from __future__ import annotations

import msgspec

from router.dialects.fields import top_level
from router.dialects.input_size import input_size
from router.dialects.prompt_size import media_tokens, text_bytes
from router.dispatch.copied import AnswerCopy
from router.dispatch.costs import TIER, asked_tier, settle_price
from router.dispatch.estimates import is_used, tokens_out
from router.dispatch.passed_models import PassedModels
from router.endpoints.catalog import CALL_PATHS, Catalog
from router.endpoints.default_prices import default_prices
from router.endpoints.entries import Dialect
from router.endpoints.providers import Provider, dialect_at
from router.endpoints.rates import PriceList
from router.endpoints.token_sizes import SEED_BYTES
from telemetry.wire.usage import Usage

FREE = frozenset(
    (
        *("conversations", "files", "models", "moderations", "uploads"),
        *("messages/count_tokens", "responses/input_tokens"),
    )
)
"""Below the version: what nobody is charged for, all that is below it included."""
TEXT_PATHS = frozenset({"fim/completions"})
"""Beside those of dialects: where a token costs what it costs in calls of the same model."""
UNKNOWN = Usage(0, 0, 0, 0)


def settle_passed(
    copy: AnswerCopy,
    body: bytes | None,
    model: str,
    *,
    method: str,
    path: str,
    provider: Provider,
    catalog: Catalog,
    models: PassedModels,
    at_s: float,
) -> None:
    """Settle what a request used and cost, and who served it, once its answer is closed.

    Args:
        body: as it was passed on; None where it was not read.
        model: that it names; empty: the answer's.
        method: of the request; what is only looked up was counted when it was made.
        at_s: when it came, in epoch seconds.
    """
    dialect = dialect_at(path)
    copy.seen = models.seen(provider, copy.model)
    if method != "POST":
        copy.usage = None
    elif copy.usage is None and is_used(copy.result, copy.stream) and not is_free(path):
        is_call = dialect is not None and path == f"/v1/{CALL_PATHS[dialect]}"
        copy.estimate = _estimate(copy, body or b"") if is_call else UNKNOWN
    if copy.usage is None and copy.estimate in (None, UNKNOWN) and copy.reported_nano is None:
        return
    model = model or copy.model or ""
    is_text = dialect is not None or path.removeprefix("/v1/") in TEXT_PATHS
    known = prices_of(provider, model, catalog) if is_text and model else None
    if copy.estimate is UNKNOWN:
        known = None  # of no tokens that anybody could count
    usage = copy.usage
    tier = (usage.tier if usage is not None else None) or copy.said_tier
    if tier is None and body is not None and b'"service_tier"' in body:
        tier = _asked(body)
    settle_price(copy, known, at_s=at_s, tier=tier)


def prices_of(provider: Provider, model: str, catalog: Catalog) -> PriceList | None:
    """Return what a model costs at a provider; None where that is not known."""
    for endpoint in catalog.by_model.get(model, ()):
        if endpoint.provider == provider.name and endpoint.prices is not None:
            return endpoint.prices
    return default_prices(provider.base_url, model)


def is_free(path: str) -> bool:
    """Return whether nobody is charged for what is asked at a path."""
    parts = path.removeprefix("/v1/").split("/")
    return parts[0] in FREE or "/".join(parts[:2]) in FREE


def _estimate(copy: AnswerCopy, body: bytes) -> Usage:
    stream = copy.stream
    n_out = 0
    if copy.dialect is not Dialect.EMBEDDINGS:
        n_out = tokens_out(stream, bytes(copy.body) if stream is None else None)
    if stream is not None and (begun := stream.begun) is not None:
        return msgspec.structs.replace(begun, completion_tokens=n_out)
    inputs = input_size(body, copy.dialect)
    if inputs is not None:
        return Usage(round(inputs.text_bytes / SEED_BYTES) + inputs.n_tokens, n_out, 0, 0)
    return Usage(round(text_bytes(body) / SEED_BYTES) + media_tokens(body), n_out, 0, 0)


def _asked(body: bytes) -> str | None:
    try:
        raw = top_level(body).get(TIER)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None
    return None if raw is None else asked_tier({TIER: bytes(raw)})
