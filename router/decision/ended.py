"""Why a stored draw ended: what was compared, and by which numbers. Pure, no I/O."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from bandit.dominance import SURE
from router.decision.better import Better, value_of
from router.decision.context import CallContext
from router.decision.progress import UnitProgress
from router.decision.shared_draws import DrawEnding
from router.endpoints.catalog import Endpoint
from router.endpoints.rates import Rates


class EndedDraw(Struct, frozen=True):
    """Why a unit's draw ended, by what was known then."""

    kind: DrawEnding
    before: Endpoint  # that it named
    better: Endpoint  # who was found to be better; the new draw may give another
    p_better: float
    p_better_since: float | None = None  # by labels alone that came since
    gain_usd: float | None = None  # a call
    remaining: float | None = None  # calls that are to come
    cache_usd: float | None = None
    value_usd: float | None = None  # of a success
    is_assumed: bool = False  # that value, as the strategy says none

    def told(self) -> dict[str, Any]:
        """Return it as an explanation has it."""
        return {
            "kind": self.kind.value,
            "from": self.before.id,
            "better": self.better.id,
            "p_better": self.p_better,
            "p_better_since": self.p_better_since,
            "gain_usd_per_call": self.gain_usd,
            "remaining": self.remaining,
            "cache_usd": self.cache_usd,
            "value_usd": self.value_usd,
            "value_assumed": self.is_assumed,
        }


def dominated_by(
    context: CallContext,
    endpoint: Endpoint,
    better: tuple[Better, ...],
    odds: tuple[float, ...],
) -> EndedDraw | None:
    """Return by whom a slot's draw is dominated, if by anybody: by the one that gains most.

    Args:
        odds: how likely each is to be better by labels alone that came since the draw.
    """
    sure = [(one, p) for one, p in zip(better, odds, strict=True) if p >= SURE]
    if not sure:
        return None
    one, p = max(sure, key=lambda pair: pair[0].gain_usd)
    other = context.beliefs.configuration.catalog.endpoints[one.arm]
    return EndedDraw(DrawEnding.DOMINATED, endpoint, other, one.p, p_better_since=p)


def gained_by(
    context: CallContext,
    endpoint: Endpoint,
    better: tuple[Better, ...],
    gains_usd: tuple[float, ...],
    *,
    progress: UnitProgress,
    remaining: float,
) -> EndedDraw | None:
    """Return by whom a session gains more than its cache is worth, if by anybody: most of it.

    Args:
        gains_usd: a call, by each.
        remaining: calls that are to come.
    """
    best_usd, found = 0.0, None
    for one, gain_usd in zip(better, gains_usd, strict=True):
        other = context.beliefs.configuration.catalog.endpoints[one.arm]
        cache_usd = cache_worth_usd(progress, endpoint, other, context.at.epoch_s)
        if cache_usd is not None and remaining * gain_usd - cache_usd > best_usd:
            best_usd = remaining * gain_usd - cache_usd
            found = one, other, gain_usd, cache_usd
    if found is None:
        return None
    one, other, gain_usd, cache_usd = found
    value_usd, is_assumed = value_of(context)
    return EndedDraw(
        DrawEnding.GAIN,
        endpoint,
        other,
        one.p,
        gain_usd=gain_usd,
        remaining=remaining,
        cache_usd=cache_usd,
        value_usd=value_usd,
        is_assumed=is_assumed,
    )


def cache_worth_usd(
    progress: UnitProgress, drawn: Endpoint, other: Endpoint, at_s: float
) -> float | None:
    """Return what a session loses with its prompt cache if it moves; None where nobody can tell.

    That is the cached tokens of its last answer at the larger of both endpoints' discounts, and at
    what the other one asks for writing them to its own cache.

    Args:
        at_s: when the prices hold, in epoch seconds.
    """
    if not progress.cached_tokens:
        return 0.0
    found = [_rates(endpoint, progress.prompt_tokens, at_s) for endpoint in (drawn, other)]
    priced = [rates for rates in found if rates is not None]
    if not priced:
        return None
    discount = max(0.0, *(rates.tokens_in - rates.cached for rates in priced))
    into = found[1]
    surcharge = 0.0 if into is None else max(into.written - into.tokens_in, 0.0)
    return progress.cached_tokens * (discount + surcharge) / 1e9


def _rates(endpoint: Endpoint, prompt_tokens: int, at_s: float) -> Rates | None:
    prices = endpoint.prices
    return None if prices is None else prices.at(at_s).usual.rates(prompt_tokens)
