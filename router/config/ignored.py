"""What a strategy says in vain: less than what it extends, whose constraints only tighten."""

from __future__ import annotations

from collections.abc import Iterator

from router.config.entries import File
from router.config.extending import Lineage, extended_by
from router.config.policies import KnownPlaces, Stakes, compile_rules
from router.config.rules import Level, merge, says
from router.config.strategies import Exchangeable, StrategyEntry
from router.endpoints.data_classes import DataClasses

WAIVED = {
    **dict.fromkeys(("no_training", "keep_nothing", "private", "require_jurisdictions"), False),
    "stakes": Stakes.NORMAL,
    "explore": True,
}
"""By field the value that constrains nothing, and waives what is inherited if it is written."""
HELD = {
    **{name: name for name in ("data_class", "regions", "jurisdictions", "zones")},
    **{name: name.removeprefix("max_") for name in ("max_cost_usd", "max_latency_ms")},
    "max_retention_days": "retention_days",
    "min_context_tokens": "context_tokens",
    "endpoints": "allow",
}
"""By field the rule of which the tighter value holds."""


def warn_of_ignored(entries: File) -> list[str]:
    """Return a line for each field in which a strategy says less than what it extends."""
    places, classes = entries.known_places, DataClasses(entries.classes)
    return [
        f"strategies.{name}: {field} is ignored: {_base(name, entries)}, which it extends, says "
        "more, and what constrains only tightens"
        for name in entries.strategies
        for field in _ignored(entries.lineages[name], places, classes)
    ]


def _base(name: str, entries: File) -> str:
    return extended_by(name, entries.strategies) or f"the preset {name}"


def _ignored(lineage: Lineage, places: KnownPlaces, classes: DataClasses) -> Iterator[str]:
    """Yield fields with their values as they are written."""
    own, *others = lineage.entries
    if not others:
        return
    base = Lineage(tuple(others))
    for field, nothing in WAIVED.items():
        is_waived = field in own.model_fields_set and getattr(own, field) == nothing
        if is_waived and any(getattr(one, field) != nothing for one in others):
            yield _written(field, own)
    own_rules, held = compile_rules(own, places, classes), base.rules(places, classes)
    both = merge([(Level.STRATEGY, own_rules), (Level.STRATEGY, held)]).rules
    for field, rule in HELD.items():
        said, holds = getattr(own_rules, rule), getattr(held, rule)
        if says(own_rules, rule) and said != holds == getattr(both, rule):
            yield _written(field, own)
    yield from _exchange_and_days(own, base.entry)


def _exchange_and_days(own: StrategyEntry, base: StrategyEntry) -> Iterator[str]:
    rank = list(Exchangeable).index
    if "exchange" in own.model_fields_set and rank(own.exchange) < rank(base.exchange):
        yield _written("exchange", own)
    days, held = own.usual_retention_days, base.usual_retention_days
    if days is not None and held is not None and days > held:
        yield _written("usual_retention_days", own)


def _written(field: str, entry: StrategyEntry) -> str:
    value = getattr(entry, field)
    if isinstance(value, bool):
        return f"{field}: {str(value).lower()}"
    if isinstance(value, list):
        return f"{field}: [{', '.join(value)}]"
    return field if field == "endpoints" else f"{field}: {value}"
