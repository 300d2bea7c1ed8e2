"""What a call costs at an endpoint: prices compiled once, in nano-USD a token."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, NamedTuple

from msgspec import Struct

from router.endpoints.prices import MachineEntry, PricesEntry, RatesEntry, TierEntry
from telemetry.digests import digest8
from telemetry.events import PriceSource
from telemetry.wire.usage import Usage

DAY_S = 86_400
NANO_PER_TOKEN = 1e3
"""Of one USD a million tokens."""
EVER = float("-inf")
MARK_BITS = 0xFFFF_FFFF


class Rates(Struct, frozen=True):
    """Nano-USD a token; what has no price of its own costs as what it is part of."""

    tokens_in: float
    tokens_out: float
    cached: float
    written: float
    written_1h: float
    reasoning: float
    is_plain: bool  # what is written or thought has no price of its own

    @classmethod
    def of(cls, entry: RatesEntry) -> Rates:
        """Compile what is written."""
        return cls.from_usd(
            tokens_in=entry.input_usd_per_mtok,
            tokens_out=entry.output_usd_per_mtok,
            cached=entry.cached_input_usd_per_mtok,
            written=entry.cache_write_usd_per_mtok,
            written_1h=entry.cache_write_1h_usd_per_mtok,
            reasoning=entry.reasoning_usd_per_mtok,
        )

    @classmethod
    def from_usd(
        cls,
        *,
        tokens_in: Decimal,
        tokens_out: Decimal,
        cached: Decimal | None = None,
        written: Decimal | None = None,
        written_1h: Decimal | None = None,
        reasoning: Decimal | None = None,
    ) -> Rates:
        """Compile prices in USD a million tokens; None: no price of its own."""

        def nano(*usd: Decimal | None) -> float:
            return float(next(p for p in usd if p is not None)) * NANO_PER_TOKEN

        return cls(
            nano(tokens_in),
            nano(tokens_out),
            nano(cached, tokens_in),
            nano(written, tokens_in),
            nano(written_1h, written, tokens_in),
            nano(reasoning, tokens_out),
            is_plain=(written, written_1h, reasoning) == (None, None, None),
        )

    def nano(self, usage: Usage) -> int:
        """Return what these tokens cost, in nano-USD."""
        n_in, n_out, cached = usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens
        if cached > n_in:
            cached = n_in
        if self.is_plain:
            rest = n_in - cached
            return round(rest * self.tokens_in + cached * self.cached + n_out * self.tokens_out)
        written = min(usage.written_tokens, n_in - cached)
        hourly = min(usage.written_1h_tokens, written)
        thought = min(usage.reasoning_tokens, n_out)
        return round(
            (n_in - cached - written) * self.tokens_in
            + cached * self.cached
            + (written - hourly) * self.written
            + hourly * self.written_1h
            + (n_out - thought) * self.tokens_out
            + thought * self.reasoning
        )

    def as_json(self) -> dict[str, float]:
        """Return USD a million tokens, by the names of the configuration."""
        named = {
            "input_usd_per_mtok": self.tokens_in,
            "output_usd_per_mtok": self.tokens_out,
            "cached_input_usd_per_mtok": self.cached,
            "cache_write_usd_per_mtok": self.written,
            "cache_write_1h_usd_per_mtok": self.written_1h,
            "reasoning_usd_per_mtok": self.reasoning,
        }
        return {name: round(nano / NANO_PER_TOKEN, 9) for name, nano in named.items()}


class Schedule(NamedTuple):
    """Rates by the length of the prompt: the last whose bound is exceeded holds for the call."""

    usual: Rates
    longer: tuple[tuple[int, Rates], ...] = ()  # tokens above which, in rising order

    def rates(self, prompt_tokens: int) -> Rates:
        """Return what holds for a prompt of this length."""
        found = self.usual
        for above, rates in self.longer:
            if prompt_tokens <= above:
                break
            found = rates
        return found

    def as_json(self) -> dict[str, Any]:
        """Return it as it would be written."""
        longer = [{"above_tokens": above, **rates.as_json()} for above, rates in self.longer]
        return self.usual.as_json() | ({"long_prompts": longer} if longer else {})


@dataclass(frozen=True, slots=True)
class Tariff:
    """What calls cost from a moment on."""

    from_s: float  # epoch seconds
    usual: Schedule
    tiers: Mapping[str, Schedule] = field(default_factory=dict)
    usd_per_hour: float | None = None  # of a machine of one's own
    mark: int = field(init=False, compare=False)  # digest of all it says, in four bytes; never 0

    def __post_init__(self) -> None:
        said = digest8(json.dumps(self.as_json(), sort_keys=True))
        object.__setattr__(self, "mark", said & MARK_BITS or 1)

    @property
    def day(self) -> int:
        """Its first day since the epoch, in UTC; 0 where it has none."""
        return 0 if self.from_s == EVER else int(self.from_s // DAY_S)

    @property
    def usd_per_s(self) -> float:
        """What a second of the machine costs; 0 where calls are paid by tokens."""
        return (self.usd_per_hour or 0.0) / 3600

    def as_json(self) -> dict[str, Any]:
        """Return it as it would be written."""
        begins = None if self.from_s == EVER else datetime.fromtimestamp(self.from_s, UTC)
        day = {"from": begins.date().isoformat() if begins else None}
        if self.usd_per_hour is not None:
            return {**day, "usd_per_hour": self.usd_per_hour}
        tiers = {name: tier.as_json() for name, tier in self.tiers.items()}
        return {**day, **self.usual.as_json(), **({"tiers": tiers} if tiers else {})}


@dataclass(frozen=True, slots=True)
class PriceList:
    """The prices of an endpoint, one after the other, the earliest first."""

    tariffs: tuple[Tariff, ...]
    is_declared: bool = True  # else they are what is known of the provider
    has_tiers: bool = field(init=False)
    has_machine: bool = field(init=False)
    only: Rates | None = field(init=False)  # where nothing but tokens tells two calls apart
    source: PriceSource = field(init=False)

    def __post_init__(self) -> None:
        source = PriceSource.OWN if self.is_declared else PriceSource.KNOWN
        object.__setattr__(self, "source", source)
        by_hour = any(t.usd_per_hour is not None for t in self.tariffs)
        object.__setattr__(self, "has_machine", by_hour)
        object.__setattr__(self, "has_tiers", any(t.tiers for t in self.tariffs))
        first = self.tariffs[0]
        is_one = len(self.tariffs) == 1 and not (self.has_tiers or by_hour or first.usual.longer)
        object.__setattr__(self, "only", first.usual.usual if is_one else None)

    def at(self, at_s: float) -> Tariff:
        """Return what is in force; before the first there is, that one."""
        tariffs = self.tariffs
        if len(tariffs) == 1 or at_s >= tariffs[-1].from_s:
            return tariffs[-1]
        return tariffs[max(bisect_right(tariffs, at_s, key=lambda t: t.from_s) - 1, 0)]

    def nano(
        self,
        usage: Usage | None,
        at_s: float,
        *,
        tier: str | None = None,
        machine_s: float | None = None,
    ) -> int | None:
        """Return what a call cost, in nano-USD; None where that cannot be told.

        Args:
            usage: None where the answer did not say.
            at_s: when it was, in epoch seconds.
            tier: the service tier that was asked for; what the answer says goes before it.
            machine_s: the call's share of a machine's time, in seconds; None: not known.
        """
        tariff = self.at(at_s)
        if tariff.usd_per_hour is not None:
            return None if machine_s is None else round(tariff.usd_per_s * 1e9 * machine_s)
        if usage is None:
            return None
        schedule = tariff.usual
        if tariff.tiers:
            schedule = tariff.tiers.get(usage.tier or tier or "", schedule)
        rates = schedule.rates(usage.prompt_tokens) if schedule.longer else schedule.usual
        return rates.nano(usage)

    def begin_within(self, after_s: float, until_s: float) -> bool:
        """Return whether other prices come into force between these moments."""
        return any(after_s < tariff.from_s <= until_s for tariff in self.tariffs)


def compile_prices(
    entries: PricesEntry | MachineEntry | Sequence[PricesEntry | MachineEntry] | None,
) -> PriceList | None:
    """Return the prices that are written; None where none are."""
    if entries is None:
        return None
    listed = entries if isinstance(entries, Sequence) else [entries]
    return PriceList(tuple(_tariff(entry) for entry in listed))


def begins(day: date) -> float:
    """Return when a day begins, in epoch seconds."""
    return datetime.combine(day, time(), UTC).timestamp()


def _tariff(entry: PricesEntry | MachineEntry) -> Tariff:
    from_s = EVER if entry.from_ is None else begins(entry.from_)
    if isinstance(entry, MachineEntry):
        free = Rates.from_usd(tokens_in=Decimal(0), tokens_out=Decimal(0))
        return Tariff(from_s, Schedule(free), usd_per_hour=float(entry.usd_per_hour))
    tiers = {name: _schedule(tier) for name, tier in entry.tiers.items()}
    return Tariff(from_s, _schedule(entry), tiers)


def _schedule(entry: TierEntry) -> Schedule:
    longer = ((each.above_tokens, Rates.of(each)) for each in entry.long_prompts)
    return Schedule(Rates.of(entry), tuple(sorted(longer, key=lambda each: each[0])))
