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
    """These may serve, and nobody else."""
    deny: list[Pattern] = Field(default_factory=list)
    """These may not serve."""


class ConstraintsEntry(Entry):
    """Hard constraints: they hold whatever else is said, and only tighten."""

    data_class: Name | None = None
    """The class of the data, at least. Only endpoints that may receive it serve."""
    regions: list[str] | None = None
    """Only endpoints in one of these regions serve."""
    jurisdictions: Words | None = None
    """Only endpoints under one of these laws serve."""
    zones: Annotated[list[Name], Field(min_length=1)] | None = None
    """Only endpoints of one of these zones serve."""
    max_retention_days: Annotated[int, Field(ge=0, le=36_500)] | None = None
    """Only endpoints that keep what they are sent for no longer serve. Unsaid counts as for
    ever."""
    no_training: bool = False
    """Only endpoints that say `trains_on_data: false` serve."""
    keep_nothing: bool = False
    """Nothing may be asked of a provider that has it keep or forward content. From `confidential`
    up this always holds."""
    private: bool = False
    """Only endpoints of zone `local`, or that keep nothing, serve."""
    endpoints: (
        Annotated[
            Annotated[list[Pattern], Tag("list")] | Annotated[EndpointsEntry, Tag("map")],
            Discriminator(list_or_map),
        ]
        | None
    ) = None
    """Who may serve, by endpoint or provider; `*` stands for anything. A list says who may, a map
    says `allow`, `deny` or both."""
    require: list[Capability] = Field(default_factory=list)
    """Capabilities that an endpoint must have, whatever the call needs."""
    forbid: list[Capability] = Field(default_factory=list)
    """Capabilities that an endpoint must not have."""
    tools: list[Pattern] | None = None
    """Names of the tools that a call may offer; `*` stands for anything. An empty list allows
    none."""
    min_context_tokens: Tokens | None = None
    """The least context of an endpoint. One that declares none is taken to have it."""
    max_cost_usd: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    """What one call may cost at most."""
    max_latency_ms: Annotated[float, Field(gt=0, le=86_400_000)] | None = None
    """Within how many milliseconds a call must be answered."""
    stakes: Stakes = Stakes.NORMAL
    """With `high` nothing is explored or tried."""
    explore: bool = True
    """With `false` calls hold to the choice."""


TagKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
"""What stands before the `=` of a tag."""


class PreferencesEntry(ConstraintsEntry):
    """Hard constraints, which only tighten, and what holds where nothing nearer says it."""

    strategy: Name | None = None
    """The strategy of calls that ask for none."""
    prefer: list[Capability] = Field(default_factory=list)
    """Endpoints with these capabilities come first, as long as there are any."""


class OrganisationEntry(PreferencesEntry):
    """What holds for all apps."""

    spend_tag: TagKey | None = None
    """Key of the tag that spend is booked by as well, for apps that declare none."""
    exploring: ExploringEntry | None = None
    """Daily ceilings of exploring, for each app that does not say its own."""
    releases: Releasing | None = None
    """Who says yes to releases of each app that does not say so itself."""


class RoleEntry(PreferencesEntry):
    """Who is responsible for a group of tasks."""

    active: bool = True
    """With `false` who asks for the role is refused."""
    tasks: list[Name] = Field(default_factory=list)
    """The tasks of the role. The first is that of its calls, unless a rule marks another."""
    callers: list[Pattern] = Field(default_factory=list)
    """Names of models by which callers mean this role; `*` stands for anything."""
    incumbent: Name | None = None
    """Who serves first in this role."""
    limits: StrategyLimitsEntry = StrategyLimitsEntry()
    """What an endpoint must keep in this role. A soft one goes before the strategy's."""


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
