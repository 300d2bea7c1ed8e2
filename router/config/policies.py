"""What every level of the policy may say, as it is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import Discriminator, Field, Tag

from router.config.exploring import ExploringEntry
from router.config.releasing import Releasing
from router.config.rules import PolicyRules
from router.config.wishes import StrategyLimitsEntry
from router.endpoints.capabilities import Capability, Needs
from router.endpoints.data_classes import DataClasses
from router.endpoints.entry import Entry, Name, Tokens, list_or_map

Pattern = Annotated[str, Field(min_length=1, max_length=256)]
"""A name, in which * stands for anything."""
Words = Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(min_length=1)]


class Stakes(StrEnum):
    """What hangs on an answer."""

    NORMAL = "normal"
    HIGH = "high"  # nothing is explored or tried


class EndpointsEntry(Entry):
    """Who may serve: endpoints by id, or all of a provider by its name."""

    allow: Annotated[list[Pattern], Field(min_length=1)] | None = None
    deny: list[Pattern] = Field(default_factory=list)


class ConstraintsEntry(Entry):
    """Hard constraints: they hold whatever else is said, and only tighten."""

    data_class: Name | None = None
    regions: list[str] | None = None
    jurisdictions: Words | None = None
    zones: Annotated[list[Name], Field(min_length=1)] | None = None
    max_retention_days: Annotated[int, Field(ge=0, le=36_500)] | None = None
    no_training: bool = False
    keep_nothing: bool = False
    """Nothing that has the provider keep or forward content; so it is from `confidential` up."""
    private: bool = False
    """Zone `local`, or nothing is kept."""
    endpoints: (
        Annotated[
            Annotated[list[Pattern], Tag("list")] | Annotated[EndpointsEntry, Tag("map")],
            Discriminator(list_or_map),
        ]
        | None
    ) = None
    """A list says who may; a map says `allow`, `deny` or both."""
    require: list[Capability] = Field(default_factory=list)
    forbid: list[Capability] = Field(default_factory=list)
    tools: list[Pattern] | None = None
    """Which tools a call may offer; none where it is empty."""
    min_context_tokens: Tokens | None = None
    """A model whose context is not declared is taken to have it."""
    max_cost_usd: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    max_latency_ms: Annotated[float, Field(gt=0, le=86_400_000)] | None = None
    stakes: Stakes = Stakes.NORMAL
    explore: bool = True


TagKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
"""What stands before the `=` of a tag."""


class PreferencesEntry(ConstraintsEntry):
    """The same, with what holds only where nothing nearer to the call says otherwise."""

    strategy: Name | None = None
    prefer: list[Capability] = Field(default_factory=list)


class OrganisationEntry(PreferencesEntry):
    """What holds for all apps."""

    spend_tag: TagKey | None = None
    """Key of the tag that an app's spend is booked by as well, where the app declares none."""
    exploring: ExploringEntry | None = None
    """What exploring may come to in a day of each app that does not say so itself."""
    releases: Releasing | None = None
    """Who says yes to releases of each app that does not say so itself."""


class RoleEntry(PreferencesEntry):
    """Who is responsible for a group of tasks."""

    active: bool = True
    tasks: list[Name] = Field(default_factory=list)
    """The first is what a call has of which nothing else is known."""
    callers: list[Pattern] = Field(default_factory=list)
    """Models' names by which callers mean this role."""
    incumbent: Name | None = None
    limits: StrategyLimitsEntry = StrategyLimitsEntry()
    """What is asked of an endpoint in this role; a soft limit goes before the strategy's."""


@dataclass(frozen=True, slots=True)
class KnownPlaces:
    """The names of all that may be called."""

    of_providers: Mapping[str, Sequence[str]]  # an endpoint's id, or a provider -> places' names

    @classmethod
    def of(
        cls, endpoints: Sequence[tuple[str, str | None]], providers: Sequence[str]
    ) -> KnownPlaces:
        """Return the places of endpoints, each with its provider, and of providers."""
        names: dict[str, list[str]] = {name: [f"{name}/"] for name in providers}
        for id_, provider in endpoints:
            names.setdefault(id_, []).append(id_)
            if provider is not None and provider != id_:
                names.setdefault(provider, []).append(id_)
        return cls(names)

    def meant_by(self, pattern: str) -> frozenset[str]:
        """Return the places that a name or pattern means."""
        found = (places for name, places in self.of_providers.items() if fnmatchcase(name, pattern))
        return frozenset(name for places in found for name in places)

    def meant_by_any(self, patterns: Sequence[str]) -> frozenset[str]:
        """Return the places that any of these mean."""
        return frozenset().union(*map(self.meant_by, patterns))


def compile_rules(
    entry: ConstraintsEntry, places: KnownPlaces, classes: DataClasses
) -> PolicyRules:
    """Return what an entry says; names that are not known say nothing, and were refused before."""
    endpoints = entry.endpoints
    if isinstance(endpoints, list):
        endpoints = EndpointsEntry(allow=endpoints or None)
    allow = endpoints.allow if endpoints else None
    prefers = entry.prefer if isinstance(entry, PreferencesEntry) else ()
    return PolicyRules(
        data_class=classes.by_name.get(entry.data_class or ""),
        regions=_set(entry.regions),
        jurisdictions=_set(entry.jurisdictions),
        zones=_set(entry.zones),
        retention_days=entry.max_retention_days,
        no_training=entry.no_training,
        keep_nothing=entry.keep_nothing,
        private=entry.private,
        allow=None if allow is None else places.meant_by_any(allow),
        deny=places.meant_by_any(endpoints.deny if endpoints else ()),
        require=bits(entry.require),
        forbid=bits(entry.forbid),
        context_tokens=entry.min_context_tokens,
        tools=frozenset() if entry.tools is None else frozenset({frozenset(entry.tools)}),
        cost_usd=entry.max_cost_usd,
        latency_ms=entry.max_latency_ms,
        high_stakes=entry.stakes is Stakes.HIGH,
        no_exploring=not entry.explore,
        strategy=getattr(entry, "strategy", None),
        incumbent=getattr(entry, "incumbent", None),
        prefer=bits(prefers) or None,
    )


def bits(capabilities: Sequence[Capability]) -> int:
    """Return capabilities as bits of `Needs`."""
    return sum({int(getattr(Needs, one.name)) for one in capabilities})


def _set(names: Sequence[str] | None) -> frozenset[str] | None:
    return frozenset(names) if names else None
