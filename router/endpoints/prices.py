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
    output_usd_per_mtok: Price
    cached_input_usd_per_mtok: Price | None = None
    cache_write_usd_per_mtok: Price | None = None
    cache_write_1h_usd_per_mtok: Price | None = None  # kept for an hour; else as other writes
    reasoning_usd_per_mtok: Price | None = None


class LongPromptEntry(RatesEntry):
    """What all tokens of a call cost whose prompt is longer than this."""

    above_tokens: Tokens


class TierEntry(RatesEntry):
    """What calls of one service tier cost."""

    long_prompts: list[LongPromptEntry] = Field(default_factory=list)


class PricesEntry(TierEntry):
    """What tokens cost from a day on."""

    from_: Annotated[Day | None, Field(alias="from")] = None
    """Unnamed: ever since."""
    tiers: dict[TierName, TierEntry] = Field(default_factory=dict)


class MachineEntry(Entry):
    """What a machine of one's own costs from a day on, whatever is called."""

    from_: Annotated[Day | None, Field(alias="from")] = None
    usd_per_hour: Annotated[Decimal, Field(ge=0, le=100_000)]


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
