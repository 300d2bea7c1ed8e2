"""Strategies that start from others: what each of them says in the end. Pure.

Of what is preferred a strategy's own word goes before what it extends. What constrains only
tightens, so that nothing that extends another permits more than that one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

from router.config.policies import KnownPlaces, compile_rules
from router.config.presets import ALIASES, PRESETS, preset_named
from router.config.rules import Level, PolicyRules, merge
from router.config.strategies import ORDERS, Exchangeable, StrategyEntry
from router.config.wishes import StrategyLimitsEntry
from router.endpoints.data_classes import DataClasses
from router.endpoints.entries import TimeoutsEntry

Written = Mapping[str, StrategyEntry]
"""The strategies of a file, by name."""
_WISHES = ("objective", "incumbent", "latency_usd_per_s", "release_every_s")
"""Of which a strategy's own word goes before what it extends."""
_CAPS = ("connect_s", "first_token_s", "stall_s", "answer_s")


@dataclass(frozen=True)
class Lineage:
    """A strategy and all that it starts from, the nearest first."""

    entries: tuple[StrategyEntry, ...]

    @cached_property
    def entry(self) -> StrategyEntry:
        """What they say together, their hard constraints aside: see `rules`."""
        return reduce(_extended, self.entries)

    def rules(self, places: KnownPlaces, classes: DataClasses) -> PolicyRules:
        """Return the hard constraints of all of them together."""
        parts = [(Level.STRATEGY, compile_rules(one, places, classes)) for one in self.entries]
        return merge(parts).rules


def lineages(written: Written) -> dict[str, Lineage]:
    """Return every strategy that there is, by name: presets, and those that are written.

    What a strategy extends and there is not, or what leads back to itself, is left out.
    """
    return {name: lineage_of(name, written) for name in (*PRESETS, *written)}


def lineage_of(name: str, written: Written) -> Lineage:
    """Return a strategy, written or a preset, and all that it starts from.

    Who has a preset's name keeps that preset's constraints, whatever else it extends.
    """
    names = list(_ancestors(name, written))
    own = [written[one] for one in names if one in written]
    presets = [preset_named(one) for one in reversed(names)]
    return Lineage((*own, *(one for one in presets if one is not None)))


def _ancestors(name: str, written: Written) -> Iterator[str]:
    """Yield the names of a strategy and of what it starts from, as far as that is sound."""
    seen: set[str] = set()
    following: str | None = name
    while following is not None and following not in seen:
        yield following
        seen.add(following)
        following = extended_by(following, written)


def extended_by(name: str, written: Written) -> str | None:
    """Return the name that a strategy extends; of the preset of its own name it is none."""
    entry = written.get(name)
    said = entry.extends if entry is not None else None
    if said is None:
        return None
    meant = said if said in written else ALIASES.get(said, said)
    return None if meant == name and preset_named(name) is not None else meant


def _extended(own: StrategyEntry, base: StrategyEntry) -> StrategyEntry:
    """Return what a strategy says together with what it extends."""
    wishes = {
        name: getattr(base, name)
        for name in _WISHES
        if name in base.model_fields_set and not _says(own, name)
    }
    days = [d for d in (own.usual_retention_days, base.usual_retention_days) if d is not None]
    tighter = {
        "exchange": max(own.exchange, base.exchange, key=list(Exchangeable).index),
        "require_jurisdictions": own.require_jurisdictions or base.require_jurisdictions,
        "usual_retention_days": min(days, default=None),
        "limits": _limits(own.limits, base.limits),
        "timeouts": _timeouts(own.timeouts, base.timeouts),
    }
    return own.model_copy(update={**wishes, **_trade(own, base), **tighter})


def _says(entry: StrategyEntry, name: str) -> bool:
    return name in entry.model_fields_set and getattr(entry, name) is not None


def _trade(own: StrategyEntry, base: StrategyEntry) -> dict[str, Any]:
    """Return what of another's trade still holds: of its two forms the own one, if there is any.

    An order trades nothing.
    """
    if own.objective in ORDERS or own.value_usd is not None:
        return {}
    in_words = {"pay": own.pay or base.pay, "for_": own.for_ or base.for_}
    if own.pay is not None or own.for_ is not None:
        return in_words
    return {**in_words, "value_usd": base.value_usd}


def _limits(own: StrategyLimitsEntry, base: StrategyLimitsEntry) -> StrategyLimitsEntry:
    """Return limits of which another's hard ones only tighten; its soft ones are wishes."""
    out = {}
    for name in StrategyLimitsEntry.model_fields:
        said, held = getattr(own, name), getattr(base, name)
        if said is None or held is None or not held.hard:
            out[name] = held if said is None else said
        else:
            tightest = {
                field: _TIGHTEST[field](getattr(said, field), getattr(held, field))
                for field in type(held).model_fields
            }
            out[name] = held.model_copy(update=tightest)
    return own.model_copy(update=out)


def _timeouts(own: TimeoutsEntry, base: TimeoutsEntry) -> TimeoutsEntry:
    """Return timeouts of which the tightest hold, as wherever several say something."""
    said = {name: (getattr(own, name), getattr(base, name)) for name in _CAPS}
    tightest = {name: min(filter(None, both), default=None) for name, both in said.items()}
    beside = own.beside_s if "beside_s" in own.model_fields_set else base.beside_s
    return own.model_copy(update={**tightest, "beside_s": beside})


_TIGHTEST: dict[str, Any] = {
    **dict.fromkeys(("within_s", "usd"), min),
    **dict.fromkeys(("probability", "floor"), max),
    "hard": max,
}
