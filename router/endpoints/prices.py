"""List prices as they are written: dated, by service tier and by the length of a prompt."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, Discriminator, Field, Tag

from router.endpoints.entry import Day, Entry, Tokens

Price = Annotated[Decimal, Field(ge=0, le=100_000)]
"""USD a million tokens. The dearest that is sold costs some hundreds; the bound keeps out prices of
other units, and costs that no sum of theirs could tell apart."""
TierName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
"""What `service_tier` of an answer or a request says: flex, priority."""


class RatesEntry(Entry):
    """What tokens cost; USD a million.

    Reads and writes of a cache are part of the input, and reasoning of the output: where they have
    no price of their own they cost as much as those.
    """

    input_usd_per_mtok: Price
    """The prompt."""
    output_usd_per_mtok: Price
    """The answer."""
    cached_input_usd_per_mtok: Price | None = None
    """What of the prompt came from the provider's cache. Unset, as the prompt."""
    cache_write_usd_per_mtok: Price | None = None
    """What of the prompt was written to the cache. Unset, as the prompt."""
    cache_write_1h_usd_per_mtok: Price | None = None
    """What was written to be kept for an hour. Unset, as other writes."""
    reasoning_usd_per_mtok: Price | None = None
    """What of the answer is thinking that nobody sees. Unset, as the answer."""


class LongPromptEntry(RatesEntry):
    """What all tokens of a call cost whose prompt is longer than this."""

    above_tokens: Tokens
    """Of calls whose prompt has more tokens than this, all tokens cost these prices."""


class TierEntry(RatesEntry):
    """What calls of one service tier cost."""

    long_prompts: list[LongPromptEntry] = Field(default_factory=list)
    """Prices of calls with a long prompt."""


class PricesEntry(TierEntry):
    """What tokens cost from a day on."""

    from_: Annotated[Day | None, Field(alias="from")] = None
    """The first day of these prices, in UTC. Unset, they always held."""
    tiers: dict[TierName, TierEntry] = Field(default_factory=dict)
    """Prices of service tiers, by the tier's name."""


class MachineEntry(Entry):
    """What a machine of one's own costs from a day on, whatever is called."""

    from_: Annotated[Day | None, Field(alias="from")] = None
    """The first day of this price, in UTC. Unset, it always held."""
    usd_per_hour: Annotated[Decimal, Field(ge=0, le=100_000)]
    """What the machine costs an hour, shared by the calls of that time. 0: it runs anyway."""


TOKENS = PricesEntry.model_fields.keys() - {"from_"}


def _kind(value: object) -> str:
    """Return which of the two is written; what says nothing of tokens is no price of theirs."""
    is_of_tokens = not isinstance(value, dict) or value.keys() & TOKENS
    return "tokens" if is_of_tokens else "machine"


DatedPrice = Annotated[
    Annotated[PricesEntry, Tag("tokens")] | Annotated[MachineEntry, Tag("machine")],
    Discriminator(_kind),
]


def _in_order(value: list[PricesEntry | MachineEntry]) -> list[PricesEntry | MachineEntry]:
    """Refuse entries of which nobody could tell which is in force."""
    days = [entry.from_ for entry in value]
    if None in days[1:]:
        raise ValueError("only the first entry may have no day: each other one begins `from` one")
    dated = [day for day in days if day is not None]
    if dated != sorted(set(dated)):
        raise ValueError("list entries by the day from which they hold, the earliest first")
    return value


def _one_or_several(value: object) -> str:
    return "list" if isinstance(value, list) else "one"


Prices = Annotated[
    Annotated[DatedPrice, Tag("one")]
    | Annotated[list[DatedPrice], Field(min_length=1), AfterValidator(_in_order), Tag("list")],
    Discriminator(_one_or_several),
]
"""One price, or one after the other."""
