"""Apps and tasks as they are written, and the whole file."""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from typing import Annotated

from pydantic import Field

from router.config.budgets import Budgets
from router.config.exploring import ExploringEntry
from router.config.extending import Lineage, lineage_of, lineages
from router.config.keys import DEFAULT_APP, CallersKey
from router.config.levels import with_parents
from router.config.policies import (
    KnownPlaces,
    OrganisationEntry,
    PreferencesEntry,
    RoleEntry,
    TagKey,
)
from router.config.presets import ALIASES, PRESETS
from router.config.process import ArchiveEntry, AuditEntry, OtelEntry, ServerEntry, StoreEntry
from router.config.starters import starter_value, starters_beside
from router.config.strategies import StrategyEntry
from router.endpoints.data_classes import USUAL_CLASSES
from router.endpoints.entries import (
    EndpointEntry,
    ModelEntry,
    ProviderEntry,
    TimeoutsEntry,
)
from router.endpoints.entry import Entry, Name

NO_INCUMBENT = "none"

AUTO = "auto"
CLAUDE_AUTO = "claude-auto"
"""The same, for clients that show only models whose names begin like Anthropic's."""
ROLE, CLAUDE_ROLE = "role:", "claude-role-"
"""Before a role's name, where a model's is asked for."""
_RESERVED = (f"{AUTO}:", f"{AUTO}/", CLAUDE_AUTO, ROLE, CLAUDE_ROLE)


def is_reserved(model: str) -> bool:
    """Return whether a model's name is ours: no provider ever gets it."""
    return model == AUTO or model.startswith(_RESERVED)


class Streaming(StrEnum):
    """How streamed answers come to an app."""

    LIVE = "live"  # as they are said
    BUFFERED = "buffered"  # whole at once: what breaks off is begun again elsewhere


class Mode(StrEnum):
    """What the sidecar may do with an app's calls."""

    OBSERVE = "observe"
    ROUTE = "route"
    PINNED = "pinned"


class UnitKind(StrEnum):
    """What is given one draw."""

    SESSION = "session"
    CALL = "call"


class Fallback(StrEnum):
    """How far a failed call may go."""

    NONE = "none"
    GROUP = "group"
    ANY = "any"


class Learn(StrEnum):
    """Whom an app's labels teach."""

    SHARE = "share"  # every app that uses the task's name
    OWN = "own"  # itself; what the others shared is where it starts from
    LISTEN = "listen"  # nobody; it goes by what the others share


class Users(StrEnum):
    """Whether an app's calls must say for whom they are."""

    OPTIONAL = "optional"
    REQUIRED = "required"  # one that does not, or names nobody known, has the strictest's rules


class Classify(StrEnum):
    """What the classifier of prompts may do with calls whose task nobody says, and no rule."""

    SUGGEST = "suggest"  # reports say which task they look like
    ROUTE = "route"  # it also gives a declared session the task of its first call
    OFF = "off"


class UserEntry(PreferencesEntry):
    """A user: a label inside an app, or one with keys."""

    app: Name | None = None  # to which the keys belong
    keys: list[CallersKey] = Field(default_factory=list)


class AppEntry(PreferencesEntry):
    """An app that calls through the sidecar."""

    keys: list[CallersKey] = Field(default_factory=list)
    mode: Mode = Mode.OBSERVE
    percent: Annotated[float, Field(ge=0, le=100)] = 100.0
    endpoint: Name | None = None  # of mode `pinned`
    strategies: dict[Name, Name] = Field(default_factory=dict)  # by task
    incumbent: Name | None = None
    task: Name | None = None
    users: Users = Users.OPTIONAL
    unit: UnitKind = UnitKind.SESSION
    locked: bool = False  # an episode keeps the endpoint that each of its roles drew first
    map_models: bool = False
    fallback: Fallback | None = None
    signals: bool = True  # read labels off the app's calls
    learn: Learn = Learn.SHARE
    raters: bool = False  # its users rate: of each one three decisions count in a cell and day
    timeouts: TimeoutsEntry = TimeoutsEntry()
    stream: Streaming = Streaming.LIVE
    classify: Classify = Classify.SUGGEST
    spend_tag: TagKey | None = None  # key of the tag that its spend is booked by as well
    exploring: ExploringEntry | None = None  # daily ceilings, instead of the organisation's


GENERAL = "general"


Exemplar = Annotated[str, Field(min_length=1, max_length=4000)]
Exemplars = Annotated[list[Exemplar], Field(min_length=1, max_length=200)]


class MatchEntry(Entry):
    """Structure that marks a task; every part that is named must hold."""

    tools: list[str] | bool | None = None  # any of these names; true: any tool at all
    min_tools: Annotated[int, Field(ge=1, le=10_000)] | None = None  # so many, or more
    schema_: bool | None = Field(default=None, alias="schema")
    image: bool | None = None
    system: list[str] | None = None  # any of these, in the system prompt, in any case
    like: Exemplars | None = None  # system prompts with tool names that such calls have

    @property
    def reads_system(self) -> bool:
        """Whether it looks at the system prompt."""
        return self.system is not None or self.like is not None


class TaskEntry(PreferencesEntry):
    """A task category; a name with one `/` is below the one before it."""

    match: MatchEntry | None = None
    exemplars: Exemplars | None = None  # prompts that look like it


@cache
def _starter(name: str) -> TaskEntry:
    return TaskEntry.model_validate(starter_value(name))


BUILT_IN_STRATEGY = "quality"
"""Of calls for which nobody says one."""


class File(Entry):
    """The whole file."""

    server: ServerEntry = ServerEntry()
    store: StoreEntry = StoreEntry()
    archive: ArchiveEntry = ArchiveEntry()
    classes: list[Name] = Field(default_factory=lambda: list(USUAL_CLASSES))
    """All data classes in rising order, the four usual ones among them."""
    organisation: OrganisationEntry = OrganisationEntry()
    audit: AuditEntry = AuditEntry()
    otel: OtelEntry = OtelEntry()
    models: dict[str, ModelEntry | None] = Field(default_factory=dict)
    providers: dict[str, ProviderEntry] = Field(default_factory=dict)
    endpoints: list[EndpointEntry] = Field(min_length=1)
    tasks: dict[Name, TaskEntry | None] = Field(default_factory=dict)
    starter_tasks: bool = False  # vision, extract, code, maths, prose and tools beside them
    roles: dict[Name, RoleEntry] = Field(default_factory=dict)
    strategies: dict[Name, StrategyEntry] = Field(default_factory=dict)
    users: dict[Name, UserEntry] = Field(default_factory=dict)
    budgets: Budgets = Field(default_factory=dict)
    apps: dict[Name, AppEntry] = Field(default_factory=dict)

    @property
    def known_places(self) -> KnownPlaces:
        """All that may be called, by the names that lists of endpoints may use."""
        hosts = [(endpoint.id, endpoint.provider) for endpoint in self.endpoints]
        return KnownPlaces.of(hosts, list(self.providers))

    @property
    def all_tasks(self) -> dict[str, TaskEntry]:
        """The tasks that are written, what they are below, and the one that there always is."""
        starters = {name: _starter(name) for name in self.starters}
        tasks = {
            name: self.tasks.get(name) or starters.get(name) or TaskEntry()
            for name in with_parents([*self.tasks, *starters])
        }
        tasks.setdefault(GENERAL, TaskEntry())
        return tasks

    @property
    def starters(self) -> list[str]:
        """The names of the starter tasks that hold, in the order in which they are looked at."""
        return starters_beside(self.tasks) if self.starter_tasks else []

    @property
    def lineages(self) -> dict[str, Lineage]:
        """The presets and the strategies that are written, each with all that it starts from."""
        return lineages(self.strategies)

    @property
    def all_strategies(self) -> dict[str, StrategyEntry]:
        """What the same say in the end, their hard constraints aside."""
        return {name: lineage.entry for name, lineage in self.lineages.items()}

    @property
    def aliases(self) -> dict[str, str]:
        """Other names of strategies: alias -> name."""
        return {alias: of for alias, of in ALIASES.items() if alias not in self.strategies}

    def lineage(self, name: str) -> Lineage | None:
        """Return a strategy by its name or another one of its; None where there is none."""
        meant = self.aliases.get(name, name)
        is_there = meant in PRESETS or meant in self.strategies
        return lineage_of(meant, self.strategies) if is_there else None

    def strategy(self, name: str) -> StrategyEntry | None:
        """Return what a strategy says in the end, its hard constraints aside; None: no such."""
        found = self.lineage(name)
        return None if found is None else found.entry

    @property
    def all_apps(self) -> dict[str, AppEntry]:
        """The apps that are written, else the one to which every call belongs."""
        return self.apps or {DEFAULT_APP: AppEntry()}
