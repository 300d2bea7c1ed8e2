"""What a configuration lists, and how that differs from what the store knew before. Pure.

Routers on one store may go by several configurations at a time: while one is rolled out, or for
good. So an endpoint is new when none of those that are known lists it, and gone when the last one
that did is in force nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from msgspec import Struct

from bandit.report import ChangeKind
from router.config.compiled import Configuration
from router.endpoints.catalog import Endpoint
from telemetry.changes import ChangeRecord, change_id

MOST_NAMED = 5
"""Of more that changed at once, one line tells of all."""
TOKENS = {
    "input_usd_per_mtok": "input",
    "output_usd_per_mtok": "output",
    "cached_input_usd_per_mtok": "cached input",
    "cache_write_usd_per_mtok": "cache writes",
    "cache_write_1h_usd_per_mtok": "cache writes of an hour",
    "reasoning_usd_per_mtok": "reasoning",
}
FIRST = ("input_usd_per_mtok", "output_usd_per_mtok")
"""What the others cost as well, where they have no price of their own."""
HOUR = "usd_per_hour"


class ListedEndpoint(Struct, frozen=True):
    """An endpoint as far as a change of it is told."""

    identity: str  # digest, in hexadecimal form
    price: dict[str, Any] | None = None  # in force, as `Tariff.as_json` has it, its day aside


Listed = dict[str, ListedEndpoint]
"""By id."""


def listed_of(configuration: Configuration, at_s: float) -> Listed:
    """Return what a configuration lists at a moment, in epoch seconds."""
    return {
        e.id: ListedEndpoint(f"{e.digest:016x}", _price(e, at_s))
        for e in configuration.catalog.endpoints
    }


def changes_to(
    fresh: Listed, known: Sequence[Listed], *, cause: str, at_ms: int
) -> list[ChangeRecord]:
    """Return which endpoints are new, and which prices others than before.

    Args:
        known: what was listed before, what holds longest first: of several prices the last counts.
        cause: what tells this change from another one of the same endpoint.
    """
    before = {id_: one for listed in known for id_, one in listed.items()}
    new, prices = dict[str, str](), dict[str, str]()
    for id_, one in fresh.items():
        was = before.get(id_)
        if was is None:
            new[id_] = "is new: it is tried within the room for exploring"
        elif one.identity not in _identities(id_, known):
            new[id_] = "is another host, model or setting under the same id: it is measured anew"
        if was is not None and was.price != one.price:
            prices[id_] = price_words(was.price, one.price)
    told = _told(ChangeKind.NEWCOMER, new, "endpoints are new", cause, at_ms)
    return [*told, *_told(ChangeKind.PRICE, prices, "prices changed", cause, at_ms)]


def gone_from(
    left: Listed, remaining: Iterable[Listed], *, cause: str, at_ms: int
) -> list[ChangeRecord]:
    """Return which endpoints of a configuration that is in force nowhere no other one lists."""
    held = {id_ for listed in remaining for id_ in listed}
    gone = {id_: "is listed no more" for id_ in left if id_ not in held}
    return list(_told(ChangeKind.GONE, gone, "endpoints are listed no more", cause, at_ms))


def price_words(before: dict[str, Any] | None, after: dict[str, Any] | None) -> str:
    """Return from what to what a price changed."""
    if after is None:
        return f"no price is known any more; it was {_shown(before)}"
    if before is None:
        return f"a price is known now: {_shown(after)}"
    if HOUR in before or HOUR in after:
        return f"{_shown(before)} → {_shown(after)}"
    differing = [name for name in TOKENS if before.get(name) != after.get(name)]
    if not differing:
        return "prices of service tiers or of long prompts are others"
    first = [name for name in differing if name in FIRST] or differing
    parts = (f"{TOKENS[n]} {_usd(before.get(n))} → {_usd(after.get(n))}" for n in first)
    return f"{', '.join(parts)} a million tokens"


def _told(
    kind: ChangeKind, texts: dict[str, str], many: str, cause: str, at_ms: int
) -> Iterator[ChangeRecord]:
    """Yield a line of each, or one of all where there are many."""
    if len(texts) > MOST_NAMED:
        first = ", ".join(list(texts)[:MOST_NAMED])
        more = len(texts) - MOST_NAMED
        text = f"{many}: {first} and {more} more"
        texts = {f"{len(texts)} endpoints": text}
    for subject, text in texts.items():
        yield ChangeRecord(
            id=change_id(kind, subject, cause),
            at_ms=at_ms,
            kind=kind.value,
            subject=subject,
            text=text,
            reason="the configuration in force changed",
        )


def _identities(id_: str, known: Iterable[Listed]) -> list[str]:
    return [listed[id_].identity for listed in known if id_ in listed]


def _price(endpoint: Endpoint, at_s: float) -> dict[str, Any] | None:
    if endpoint.prices is None:
        return None
    told = endpoint.prices.at(at_s).as_json()
    return {name: value for name, value in told.items() if name != "from"}


def _shown(price: dict[str, Any] | None) -> str:
    if price is None:
        return "unknown"
    if HOUR in price:
        return f"{_usd(price[HOUR])} an hour"
    parts = (f"{TOKENS[name]} {_usd(price.get(name))}" for name in FIRST)
    return f"{', '.join(parts)} a million tokens"


def _usd(value: object) -> str:
    return f"${value:.10g}" if isinstance(value, int | float) else "unknown"
