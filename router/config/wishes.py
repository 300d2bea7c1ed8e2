"""What a strategy asks beside its objective, as it is written: limits, and a trade in words."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from bandit.limits import Limit, Limits
from bandit.trade import Trade
from router.endpoints.entry import Entry

_SHARE = re.compile(r"([0-9]{1,4}(?:\.[0-9]{1,4})?) ?%(?: better)?")
MOST_PAID = 1000.0
"""Percent: eleven times what the incumbent costs."""
MOST_GAINED = 100.0


class LatencyLimitEntry(Entry):
    """The next call is answered within so many seconds, with this probability at least."""

    within_s: Annotated[float, Field(gt=0, le=86_400)]
    """Within how many seconds."""
    probability: Annotated[float, Field(ge=0.5, le=0.999)] = 0.95
    """How probable that must be."""
    hard: bool = False
    """With `true` it never gives way: where nobody keeps it the call is refused."""


class CostLimitEntry(Entry):
    """Nine calls of ten cost no more than this."""

    usd: Annotated[float, Field(gt=0, le=1_000_000)]
    """What a call may cost."""
    hard: bool = False
    """With `true` it never gives way: where nobody keeps it the call is refused."""


class QualityLimitEntry(Entry):
    """The mean reward is probably no lower than this."""

    floor: Annotated[float, Field(gt=0, lt=1)]
    """The least mean reward, between 0 and 1."""
    hard: bool = False
    """With `true` it never gives way: where nobody keeps it the call is refused."""


class StrategyLimitsEntry(Entry):
    """What an endpoint must keep to be drawn; soft limits give way in this order, hard ones never.

    What is left out is not asked.
    """

    latency: LatencyLimitEntry | None = None
    """The next call is answered in time."""
    cost: CostLimitEntry | None = None
    """Nine calls of ten cost no more."""
    quality: QualityLimitEntry | None = None
    """The mean reward is no lower."""


def percent_of(text: str) -> float:
    """Return the percentage that a text is, as it was checked."""
    found = _SHARE.fullmatch(text)
    assert found is not None
    return float(found[1])


def _checked_percentage(most: float, example: str) -> AfterValidator:
    def check(text: str) -> str:
        if _SHARE.fullmatch(text) is None:
            raise ValueError(f"write a percentage, such as {example}")
        if not 0 < percent_of(text) <= most:
            raise ValueError(f"write more than 0% and at most {most:g}%, such as {example}")
        return text

    return AfterValidator(check)


Pay = Annotated[str, _checked_percentage(MOST_PAID, "20%")]
Gain = Annotated[str, _checked_percentage(MOST_GAINED, "5% better")]


def compile_limits(entry: StrategyLimitsEntry) -> Limits:
    """Return the limits that are written."""
    written = {
        Limit.LATENCY: entry.latency,
        Limit.COST: entry.cost,
        Limit.QUALITY: entry.quality,
    }
    return Limits(
        latency_s=entry.latency.within_s if entry.latency else None,
        latency_prob=entry.latency.probability if entry.latency else Limits().latency_prob,
        cost_usd=entry.cost.usd if entry.cost else None,
        quality=entry.quality.floor if entry.quality else None,
        hard=frozenset(kind for kind, one in written.items() if one is not None and one.hard),
    )


def compile_trade(pay: str | None, gain: str | None) -> Trade | None:
    """Return the trade that is written in words; None where none is."""
    if pay is None or gain is None:
        return None
    return Trade(pay=percent_of(pay) / 100, gain=percent_of(gain) / 100)
