"""Apps and tasks as they are written, and the whole file."""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from typing import Annotated

from pydantic import Discriminator, Field, Tag

from router.config.budgets import Budgets
from router.config.exploring import ExploringEntry
from router.config.extending import Lineage, lineage_of, lineages
from router.config.keys import DEFAULT_APP, CallersKey
from router.config.levels import with_parents
from router.config.notices import NoticesEntry
from router.config.policies import (
    KnownPlaces,
    OrganisationEntry,
    PreferencesEntry,
    RoleEntry,
    TagKey,
)
from router.config.presets import ALIASES, PRESETS
from router.config.process import ArchiveEntry, AuditEntry, OtelEntry, ServerEntry, StoreEntry
from router.config.releasing import Releasing
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

    app: Name | None = None
    """The app to which the user's keys belong."""
    keys: list[CallersKey] = Field(default_factory=list)
    """Keys of the user's own. Without any the name is a label, which only tightens."""


class SampleRateEntry(Entry):
    """From how many calls on labels are read off a share of an app's conversations alone."""

    above_calls_per_s: Annotated[float, Field(gt=0)]
    """So many calls a second of the app, in one process, are read at most; of fewer, all."""


def _kind_of_sample(value: object) -> str:
    return "rate" if isinstance(value, dict | SampleRateEntry) else "share"


class SignalsEntry(Entry):
    """Off how many of an app's conversations labels are read."""

    sample: Annotated[
        Annotated[float, Field(gt=0, le=1), Tag("share")] | Annotated[SampleRateEntry, Tag("rate")],
        Discriminator(_kind_of_sample),
    ]
    """The share of conversations, each of them whole, or the rate of calls above which there is
    one. What is left out is counted, and no label."""


class AppEntry(PreferencesEntry):
    """An app that calls through the sidecar."""

    keys: list[CallersKey] = Field(default_factory=list)
    """Keys of the app. On loopback, without any configured, every call belongs to `default`."""
    mode: Mode = Mode.OBSERVE
    """What the sidecar may do with the app's calls."""
    percent: Annotated[float, Field(ge=0, le=100)] = 100.0
    """Of a hundred sessions how many are routed, in mode `route`; the rest is as in `observe`."""
    endpoint: Name | None = None
    """The endpoint of mode `pinned`."""
    strategies: dict[Name, Name] = Field(default_factory=dict)
    """Strategies by task."""
    incumbent: Name | None = None
    """Who serves first, instead of the strategy's."""
    task: Name | None = None
    """The task of calls that name none, instead of what rules find."""
    users: Users = Users.OPTIONAL
    """With `required`, a call that names none of `users` is under the hard constraints of all of
    them."""
    unit: UnitKind = UnitKind.SESSION
    """What draws once: a session, or each call by itself."""
    locked: bool = False
    """An episode keeps the endpoint that each of its roles drew first."""
    map_models: bool = False
    """Calls that name a model are routed, with that model as incumbent."""
    fallback: Fallback | None = None
    """How far a call that failed may go. Unset, as the mode has it."""
    signals: bool | SignalsEntry = True
    """Whether labels are read off the app's calls, or off those of a share of its conversations."""
    learn: Learn = Learn.SHARE
    """Whom the app's labels teach."""
    raters: bool = False
    """The app's users rate: of each one three decisions count in a task, endpoint and day."""
    timeouts: TimeoutsEntry = TimeoutsEntry()
    """Limits of one attempt."""
    stream: Streaming = Streaming.LIVE
    """How streamed answers come: as they are said, or whole, so that a broken one can be begun
    again."""
    classify: Classify = Classify.SUGGEST
    """What the classifier of prompts may do with calls whose task nobody says."""
    spend_tag: TagKey | None = None
    """Key of the tag that the app's spend is booked by as well."""
    exploring: ExploringEntry | None = None
    """Daily ceilings of exploring, instead of the organisation's."""
    holdout: Annotated[float, Field(ge=0, le=0.03)] = 0.02
    """Which share of units stays with the incumbent once a trial was won."""
    auto_pin: bool = False
    """A trial that ended without a gain gives the incumbent the traffic."""
    releases: Releasing | None = None
    """What becomes of whom a review finds better. Unset, as the organisation says, else `auto`."""

    @property
    def signals_sample(self) -> float | SampleRateEntry | None:
        """Off which share of its conversations labels are read, or above which rate; None: none."""
        if isinstance(self.signals, SignalsEntry):
            return self.signals.sample
        return 1.0 if self.signals else None


GENERAL = "general"


Exemplar = Annotated[str, Field(min_length=1, max_length=4000)]
Exemplars = Annotated[list[Exemplar], Field(min_length=1, max_length=200)]


class MatchEntry(Entry):
    """Structure that marks a task; every part that is named must hold."""

    tools: list[str] | bool | None = None
    """The call offers one of these tools. `true`: any tool."""
    min_tools: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """The call offers so many tools, or more."""
    schema_: bool | None = Field(default=None, alias="schema")
    """The call asks for a JSON schema, or some JSON object."""
    image: bool | None = None
    """The call holds a picture."""
    system: list[str] | None = None
    """One of these phrases stands in the system prompt, in any case of letters."""
    like: Exemplars | None = None
    """Examples of system prompts with tool names that such calls have."""

    @property
    def reads_system(self) -> bool:
        """Whether it looks at the system prompt."""
        return self.system is not None or self.like is not None


class TaskEntry(PreferencesEntry):
    """A task category; a name with one `/` is below the one before it."""

    match: MatchEntry | None = None
    """What marks a call of this task."""
    exemplars: Exemplars | None = None
    """Prompts that look like it: ten or more teach the classifier."""


@cache
def _starter(name: str) -> TaskEntry:
    return TaskEntry.model_validate(starter_value(name))


BUILT_IN_STRATEGY = "quality"
"""Of calls for which nobody says one."""


class File(Entry):
    """The whole file."""

    server: ServerEntry = ServerEntry()
    """Address, limits and state directory of the sidecar itself."""
    store: StoreEntry = StoreEntry()
    """The store that routers and workers share."""
    archive: ArchiveEntry = ArchiveEntry()
    """How long folded records are kept, in which files."""
    classes: list[Name] = Field(default_factory=lambda: list(USUAL_CLASSES))
    """All data classes in rising order. The four usual ones must be among them."""
    organisation: OrganisationEntry = OrganisationEntry()
    """Rules that hold for every app."""
    audit: AuditEntry = AuditEntry()
    """How long the record of what sensitive content left for where is kept."""
    otel: OtelEntry = OtelEntry()
    """Whether calls are told to OpenTelemetry."""
    models: dict[str, ModelEntry | None] = Field(default_factory=dict)
    """What each model can do, wherever it is hosted. Where the section is there, every endpoint's
    model must be in it."""
    providers: dict[str, ProviderEntry] = Field(default_factory=dict)
    """What holds for all endpoints of a provider."""
    endpoints: list[EndpointEntry] = Field(min_length=1)
    """What may be called, in order of preference. The first that an app permits is its incumbent,
    unless one is named."""
    tasks: dict[Name, TaskEntry | None] = Field(default_factory=dict)
    """Your task categories. A name with one `/` is below the one before it; `general` is always
    there."""
    starter_tasks: bool = False
    """Whether the tasks that come with the sidecar stand beside yours."""
    roles: dict[Name, RoleEntry] = Field(default_factory=dict)
    """Parts that calls play for their callers, such as planner and coder."""
    strategies: dict[Name, StrategyEntry] = Field(default_factory=dict)
    """Named ways to choose. Some are always there; what you write under their names starts from
    them."""
    users: dict[Name, UserEntry] = Field(default_factory=dict)
    """Rules for users, by the label that calls name."""
    notices: NoticesEntry = NoticesEntry()
    """Which changes are sent, and to whom."""
    budgets: Budgets = Field(default_factory=dict)
    """What calls may spend. A budget holds for the calls of which everything that it names is
    so."""
    apps: dict[Name, AppEntry] = Field(default_factory=dict)
    """The apps that call through the sidecar. Without any there is one, `default`."""

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
