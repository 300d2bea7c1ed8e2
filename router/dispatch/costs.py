"""What an attempt cost: by which price, in which service tier, and by the provider's own word."""

from __future__ import annotations

from collections.abc import Mapping

from router.dispatch.attempt import Attempt
from router.dispatch.ending import Ending
from router.endpoints.rates import PriceList
from telemetry.events import PriceSource
from telemetry.tiers import tier_named
from telemetry.wire.usage import Usage

TIER = "service_tier"


def settle_cost(attempt: Attempt, *, at_s: float) -> None:
    """Settle what an attempt cost, as far as its price is known, and what it used or probably did.

    That is what it cost more than not to make it: nothing where a subscription had room for it,
    and of a machine that is paid by the hour its share while it was busy.

    Args:
        at_s: when the call was decided, in epoch seconds: prices hold from day to day.
    """
    endpoint, usage, prices = attempt.endpoint, attempt.usage, attempt.endpoint.prices
    if (
        usage is not None
        and prices is not None
        and prices.only is not None
        and usage.tier is None
        and usage.reported_nano is None
        and attempt.said_tier is None
        and TIER not in endpoint.params
        and not endpoint.terms.is_subscribed
    ):  # most often
        tariff = prices.tariffs[0]  # the only one
        attempt.cost_nano, attempt.price_source = prices.only.nano(usage), prices.source
        attempt.price_day, attempt.price = tariff.day, tariff.mark
        return
    used = usage or attempt.estimate
    tier = (usage.tier if usage is not None else None) or attempt.said_tier
    if tier is None and used is not None and attempt.outgoing is not None:
        if prices is not None and prices.has_tiers:
            tier = asked_tier(attempt.outgoing.fields(endpoint))
        elif TIER in endpoint.params:
            tier = asked_tier(endpoint.params)
    if endpoint.terms.is_subscribed and attempt.had_headroom:
        settle_tier(attempt, tier)
        if used is not None:
            attempt.cost_nano, attempt.price_source = 0, PriceSource.PAID
            attempt.is_guessed = usage is None
        return
    settle_price(attempt, prices, at_s=at_s, tier=tier)


def settle_price(ended: Ending, prices: PriceList | None, *, at_s: float, tier: str | None) -> None:
    """Settle what a call cost: by prices, else by the provider's word, else by what it estimates.

    Args:
        at_s: when it was decided, in epoch seconds.
        tier: in which it was served, else the one that was asked for; None: nobody said.
    """
    settle_tier(ended, tier)
    cost = None if prices is None else _nano(prices, ended, ended.usage, at_s, tier)
    if cost is None and ended.reported_nano is not None:
        ended.cost_nano, ended.price_source = ended.reported_nano, PriceSource.PROVIDER
        return
    if prices is None:
        return
    if cost is None and ended.estimate is not None:
        cost, ended.is_guessed = _nano(prices, ended, ended.estimate, at_s, tier), True
    if cost is not None:
        ended.cost_nano, ended.price_source = cost, prices.source
        tariff = prices.at(at_s)
        ended.price_day, ended.price = tariff.day, tariff.mark


def _nano(
    prices: PriceList, ended: Ending, usage: Usage | None, at_s: float, tier: str | None
) -> int | None:
    if prices.only is not None:  # most often
        return None if usage is None else prices.only.nano(usage)
    return prices.nano(usage, at_s, tier=tier, machine_s=ended.machine_s)


def settle_tier(ended: Ending, tier: str | None) -> None:
    """Take note of the service tier, and of what the usage says of the cost."""
    if tier is not None:
        ended.tier = tier_named(tier)
    if ended.usage is not None and ended.usage.reported_nano is not None:
        ended.reported_nano = ended.usage.reported_nano


def asked_tier(fields: Mapping[str, bytes]) -> str | None:
    """Return the service tier that a call asks for."""
    return fields.get(TIER, b"").decode("utf-8", "replace").strip(' "') or None
