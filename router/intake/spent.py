"""What a call that somebody else dispatched used and cost, as far as its event says so."""

from __future__ import annotations

from router.dispatch.costs import settle_price
from router.dispatch.ending import Ending
from router.dispatch.estimates import USED
from router.endpoints.catalog import Endpoint
from telemetry.events import PriceSource, Result
from telemetry.ingest import Outcome
from telemetry.wire.usage import Usage

NANO = 1e9


def ended_of(data: Outcome, endpoint: Endpoint, *, at_ms: int) -> Ending:
    """Return how a call ended.

    Its cost is what the event says, else what its tokens cost, else what its provider says. Of one
    that used something and tells of no tokens, none are guessed: their sizes are not known here.
    """
    whole = data.tokens_out is not None
    ended = Ending(
        number=data.attempt or 1,
        result=data.ended,
        status=data.status or (200 if data.ended is Result.OK else 0),
        latency_s=data.latency_s or 0.0,
        ttft_s=data.ttft_s,
        usage=_usage(data) if whole else None,
        estimate=None if whole or data.ended not in USED else _usage(data),
        answer_id=data.response_id,
        reported_nano=None if (said := data.reported_cost_usd) is None else round(said * NANO),
    )
    if ended.number > 1:
        ended.added_s = ended.latency_s  # of who it went on from nothing is told: of the same one
    if data.cost_usd is None:
        _settle(ended, data.service_tier, endpoint, at_ms)
    else:
        settle_price(ended, None, at_s=at_ms / 1000, tier=data.service_tier)
        ended.cost_nano, ended.price_source = round(data.cost_usd * NANO), PriceSource.OWN
    return ended


def _settle(ended: Ending, tier: str | None, endpoint: Endpoint, at_ms: int) -> None:
    estimate, ended.estimate = ended.estimate, None  # of no tokens, it has no price
    settle_price(ended, endpoint.prices, at_s=at_ms / 1000, tier=tier)
    ended.estimate = estimate
    if endpoint.terms.is_subscribed and ended.usage is not None and ended.cost_nano is not None:
        ended.cost_nano, ended.price_source = 0, PriceSource.PAID
        ended.price_day = ended.price = 0


def _usage(data: Outcome) -> Usage:
    return Usage(
        data.tokens_in or 0,
        data.tokens_out or 0,
        data.tokens_cached or 0,
        data.tokens_reasoning or 0,
        data.tokens_cache_write or 0,
        0,
        data.service_tier,
    )
