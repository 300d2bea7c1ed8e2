"""What each level says of a call, and how that merges: hard constraints only tighten. Pure.

Of a preference, field by field, the first value holds that is set along the levels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any

from msgspec import Struct, structs

from router.config.exclusions import Exclusion
from router.endpoints.data_classes import DataClass
from router.endpoints.places import Whereabouts
from router.endpoints.terms import LOCAL


class Level(StrEnum):
    """Who says something of a call, the nearest to it first."""

    REQUEST = "request"
    SESSION = "session"
    KEY = "key"
    ROLE = "role"
    TASK = "task"
    APP = "app"
    USER = "user"
    ORGANISATION = "organisation"
    STRATEGY = "strategy"  # once it is chosen; what it constrains only tightens
    BUILT_IN = "built_in"


class PolicyRules(Struct, frozen=True, kw_only=True):
    """What one level says, or all of them together; None, no bit and False say nothing."""

    # Hard: of two values both hold.
    data_class: DataClass | None = None  # at least
    regions: frozenset[str] | None = None
    jurisdictions: frozenset[str] | None = None
    zones: frozenset[str] | None = None
    retention_days: int | None = None  # at most
    no_training: bool = False
    keep_nothing: bool = False  # nor forward anything: the request, too
    private: bool = False  # zone `local`, or nothing is kept
    allow: frozenset[str] | None = None  # names of places
    deny: frozenset[str] = frozenset()
    require: int = 0  # bits of Needs
    forbid: int = 0
    context_tokens: int | None = None  # at least, where it is declared
    tools: frozenset[frozenset[str]] = frozenset()  # lists of patterns: each must name a tool
    cost_usd: float | None = None  # of one call, at most
    latency_ms: float | None = None
    high_stakes: bool = False
    no_exploring: bool = False
    # Preferences: the first that is set holds.
    strategy: str | None = None
    incumbent: str | None = None
    prefer: int | None = None  # bits of Needs


class TraceStep(Struct, frozen=True):
    """What a level said of a field."""

    field: str
    level: Level
    value: Any


class MergedPolicy(Struct, frozen=True):
    """Merged rules, and who set them."""

    rules: PolicyRules
    parts: tuple[tuple[Level, PolicyRules], ...]
    places: PolicyRules  # what of them decides where calls may go

    @property
    def trace(self) -> tuple[TraceStep, ...]:
        """What every level said of every field, by field, the nearest level first."""
        return tuple(
            TraceStep(field, level, getattr(part, field))
            for field in _OPERATORS
            for level, part in self.parts
            if says(part, field)
        )

    @property
    def keeps_nothing(self) -> bool:
        """Whether a call may not have its provider keep or forward what it sends.

        What an endpoint promises of zone and retention does not hold for what a request asks it to
        keep, or to pass on.
        """
        rules = self.rules
        says_where = rules.zones is not None or rules.retention_days is not None
        is_held = rules.keep_nothing or rules.private or says_where
        return is_held or self.data_class.is_sensitive

    @property
    def data_class(self) -> DataClass:
        """The class of the call's data; some level always says one."""
        assert self.rules.data_class is not None
        return self.rules.data_class


NOTHING = PolicyRules()


def merge(parts: Sequence[tuple[Level, PolicyRules]]) -> MergedPolicy:
    """Return what several levels say together, given with the nearest to the call first."""
    merged: dict[str, Any] = {}
    for name, default in _DEFAULTS.items():
        value = default
        for _, part in parts:
            said = getattr(part, name)
            if said != default:
                value = said if value == default else _OPERATORS[name](value, said)
        if value != default:
            merged[name] = value
    rules = PolicyRules(**merged)
    said = tuple(part for part in parts if part[1] != NOTHING)
    return MergedPolicy(rules, said, of_places(rules))


def usual_rules(
    parts: Iterable[tuple[Level, PolicyRules]], strategy_days: int | None
) -> PolicyRules:
    """Return what holds where no level says it.

    Args:
        strategy_days: of retention at most, as the strategy has it.
    """
    if strategy_days is None or any(part.retention_days is not None for _, part in parts):
        return NOTHING
    return PolicyRules(retention_days=strategy_days)


def says(rules: PolicyRules, field: str) -> bool:
    """Return whether rules say something of a field."""
    return bool(getattr(rules, field) != _DEFAULTS[field])


def of_places(rules: PolicyRules) -> PolicyRules:
    """Return what of rules decides where calls may go: equal for calls that may go alike."""
    return structs.replace(rules, **{name: _DEFAULTS[name] for name in _OF_CALLS})


def hard_of(rules: PolicyRules) -> PolicyRules:
    """Return the hard constraints among rules."""
    return structs.replace(rules, **{name: _DEFAULTS[name] for name in PREFERENCES})


def strictest(rules: Iterable[PolicyRules]) -> PolicyRules:
    """Return the hard constraints of all of these together."""
    return hard_of(merge([(Level.USER, one) for one in rules]).rules)


def why_forbidden(rules: PolicyRules, place: Whereabouts, at_s: float) -> Exclusion | None:
    """Return why rules forbid a place at a moment, in epoch seconds; None where they do not."""
    if place.name in rules.deny or (rules.allow is not None and place.name not in rules.allow):
        return Exclusion.NOT_ALLOWED
    if rules.data_class is not None and rules.data_class.level > place.class_at(at_s).level:
        return Exclusion.DATA_CLASS
    terms = place.terms
    if rules.regions is not None and terms.region not in rules.regions:
        return Exclusion.REGION
    if rules.jurisdictions is not None and terms.jurisdiction not in rules.jurisdictions:
        return Exclusion.JURISDICTION
    if rules.zones is not None and terms.zone_at(at_s) not in rules.zones:
        return Exclusion.ZONE
    # What rested on an agreement is not promised any more once that has ended.
    kept = None if terms.has_lapsed(at_s) else terms.retention_days
    if rules.retention_days is not None and (kept is None or kept > rules.retention_days):
        return Exclusion.RETENTION
    if rules.no_training and terms.trains_on_data is not False:
        return Exclusion.TRAINING
    if rules.private and terms.zone_at(at_s) != LOCAL and kept != 0:
        return Exclusion.PRIVATE
    if rules.require & ~place.capabilities:
        return Exclusion.REQUIRED
    if rules.forbid & place.capabilities:
        return Exclusion.FORBIDDEN
    if _is_too_small(rules, place):
        return Exclusion.SMALL_CONTEXT
    return None


def _is_too_small(rules: PolicyRules, place: Whereabouts) -> bool:
    """Return whether a context is declared, and less than what rules ask for."""
    asked, declared = rules.context_tokens, place.context_tokens
    return asked is not None and declared is not None and declared < asked


def _both(a: frozenset[str], b: frozenset[str]) -> frozenset[str]:
    return a & b


def _all(a: Any, b: Any) -> Any:
    return a | b


def _first(a: Any, b: Any) -> Any:
    return a


_DEFAULTS: dict[str, Any] = {name: getattr(NOTHING, name) for name in PolicyRules.__struct_fields__}
PREFERENCES = ("strategy", "incumbent", "prefer")
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "data_class": DataClass.tightened,
    **dict.fromkeys(("regions", "jurisdictions", "zones", "allow"), _both),
    **dict.fromkeys(("retention_days", "cost_usd", "latency_ms"), min),
    "context_tokens": max,
    **dict.fromkeys(("deny", "require", "forbid", "tools"), _all),
    **dict.fromkeys(
        ("no_training", "keep_nothing", "private", "high_stakes", "no_exploring"), _all
    ),
    **dict.fromkeys(PREFERENCES, _first),
}
"""By field how two values make one. A new constraint, such as an allowance in money, is one field
and one line here."""
_OF_CALLS = (*PREFERENCES, "tools", "cost_usd", "latency_ms", "high_stakes", "no_exploring")
HARD = tuple(name for name in _OPERATORS if name not in PREFERENCES)
