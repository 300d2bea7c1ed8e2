"""Prices that nobody wrote down: those that the provider publishes, as `genai-prices` knows them.

It is looked into only for endpoints at an address that it knows a provider by, so never for a
machine of one's own; it takes .2 s of CPU, once a process, and asks no network.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from router.endpoints.rates import EVER, PriceList, Rates, Schedule, Tariff, begins

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

LOCAL_BEGINNINGS = (
    "http://",
    "https://localhost",
    "https://127.",
    "https://10.",
    "https://192.168.",
)
"""Nobody sells calls there; so the common owner of one machine never pays for the look."""
OWN_MACHINES = frozenset({"modal"})
"""Where the same address serves what the user runs there, paid by its hour."""
NAMES = {
    "tokens_in": "input_mtok",
    "tokens_out": "output_mtok",
    "cached": "cache_read_mtok",
    "written": "cache_write_mtok",
    "written_1h": "cache_write_1h_mtok",
    "reasoning": "output_reasoning_mtok",
}
"""Of our prices: theirs."""
USUAL_TIERS = frozenset({"default", "auto", "standard"})


@lru_cache(maxsize=4096)
def default_prices(base_url: str, upstream_model: str) -> PriceList | None:
    """Return the published prices of a model at an address; None where none are known."""
    if base_url.startswith(LOCAL_BEGINNINGS):
        return None
    model = _find(base_url, upstream_model)
    if model is None:
        return None
    tariffs = [_tariff(model, day) for day in _days(model)]
    known = tuple(tariff for tariff in tariffs if tariff is not None)
    return PriceList(known, is_declared=False) if known else None


def _find(base_url: str, upstream_model: str) -> ModelInfo | None:
    with _uncollected():
        from genai_prices.data_snapshot import get_snapshot

        snapshot = get_snapshot()
    try:
        provider, model = snapshot.find_provider_model(upstream_model, None, None, base_url)
    except LookupError:
        return None
    is_theirs = _ends_with_the_host(provider.api_pattern, base_url)
    return model if is_theirs and provider.id not in OWN_MACHINES else None


def _ends_with_the_host(pattern: str, base_url: str) -> bool:
    """Return whether an address is one that a pattern means, and no longer name that begins so."""
    found = re.match(pattern, base_url)
    return found is not None and (
        found[0][-1:] in (".", "/") or base_url[found.end() :][:1] in ("", "/", ":")
    )


@contextmanager
def _uncollected() -> Iterator[None]:
    """Make many objects without looking at all of them again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _days(model: ModelInfo) -> list[date | None]:
    """Return the days from which the model's prices, or those of its tiers, hold; None: ever."""
    listed = model.prices if isinstance(model.prices, list) else []
    begun = {_day(entry.constraint) for entry in (*listed, *(model.price_variants or ()))}
    return [None, *sorted(day for day in begun if day is not None)]


def _day(constraint: Any) -> date | None:
    """Return the day from which something holds; what holds by the hour of the day is no price."""
    return getattr(constraint, "start_date", None)


def _holds(constraint: Any, day: date | None) -> bool:
    if constraint is None:
        return True
    start = _day(constraint)
    return start is not None and day is not None and start <= day


def _tariff(model: ModelInfo, day: date | None) -> Tariff | None:
    """Return what holds from a day on; None where that is no price of tokens."""
    if isinstance(model.prices, list):
        held = [entry.prices for entry in model.prices if _holds(entry.constraint, day)]
        standard = held[-1] if held else model.prices[0].prices
    else:
        standard = model.prices
    usual = _schedule(standard, {})
    if usual is None:
        return None
    tiers: dict[str, Schedule] = {}
    for variant in model.price_variants or ():
        name = variant.when.get("service_tier")
        is_tier = len(variant.when) == 1 and name is not None and name not in USUAL_TIERS
        if is_tier and name and name not in tiers and _holds(variant.constraint, day):
            found = _schedule(standard, vars(variant.prices))
            if found is not None:
                tiers[name] = found
    return Tariff(EVER if day is None else begins(day), usual, tiers)


def _schedule(standard: ModelPrice, instead: dict[str, Any]) -> Schedule | None:
    """Return prices of tokens, some of them replaced; None where input has none."""
    said = vars(standard) | {name: value for name, value in instead.items() if value is not None}
    found = {ours: said.get(theirs) for ours, theirs in NAMES.items()}
    if found["tokens_in"] is None:
        return None
    bounds = sorted(
        {tier.start for value in found.values() for tier in getattr(value, "tiers", ())}
    )
    longer = tuple((bound, _rates(found, bound + 1)) for bound in bounds)
    return Schedule(_rates(found, 0), longer)


def _rates(found: dict[str, Any], prompt_tokens: int) -> Rates:
    usd = {name: _usd(value, prompt_tokens) for name, value in found.items()}
    tokens_in = usd.pop("tokens_in") or Decimal(0)
    tokens_out = usd.pop("tokens_out") or Decimal(0)  # of what writes none: vectors
    return Rates.from_usd(tokens_in=tokens_in, tokens_out=tokens_out, **usd)


def _usd(value: Any, prompt_tokens: int) -> Decimal | None:
    """Return USD a million tokens, of a price that depends on the prompt's length or does not."""
    if value is None or isinstance(value, Decimal):
        return value
    price: Decimal = value.base
    for tier in value.tiers:
        if prompt_tokens > tier.start:
            price = tier.price
    return price
