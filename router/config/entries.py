"""Strategies, apps and tasks as they are written, and the whole file."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from router.config.keys import CallersKey
from router.config.levels import with_parents
from router.config.process import ArchiveEntry, ServerEntry, StoreEntry
from router.endpoints.entries import (
    DataClass,
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
MAX_RELEASE_EVERY_S = 10 * 366 * 86_400
"""Ten years: what is meant to be never."""


def is_reserved(model: str) -> bool:
    """Return whether a model's name is ours: no provider ever gets it."""
    return model == AUTO or model.startswith((f"{AUTO}:", f"{AUTO}/", CLAUDE_AUTO))


class ObjectiveKind(StrEnum):
    """What a strategy is after."""

    QUALITY = "quality"
    BALANCED = "balanced"
    CHEAPEST = "cheapest"
    FASTEST = "fastest"


class StrategyEntry(Entry):
    """A named way to choose."""

    objective: ObjectiveKind = ObjectiveKind.QUALITY
    incumbent: Name | None = None  # an endpoint id, `none` for learning mode, else the first listed
    value_usd: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    latency_usd_per_s: Annotated[float, Field(ge=0, le=1_000)] | None = None
    release_every_s: Annotated[float, Field(gt=0, le=MAX_RELEASE_EVERY_S)] | None = None
    timeouts: TimeoutsEntry = TimeoutsEntry()


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


class AppEntry(Entry):
    """An app that calls through the sidecar."""

    keys: list[CallersKey] = Field(default_factory=list)
    mode: Mode = Mode.OBSERVE
    percent: Annotated[float, Field(ge=0, le=100)] = 100.0
    endpoint: Name | None = None  # of mode `pinned`
    strategy: Name = "balanced"
    incumbent: Name | None = None
    task: Name | None = None
    unit: UnitKind = UnitKind.SESSION
    map_models: bool = False
    fallback: Fallback | None = None
    regions: list[str] | None = None
    data_class: DataClass = DataClass.INTERNAL
    signals: bool = True  # read labels off the app's calls
    learn: Learn = Learn.SHARE
    raters: bool = False  # its users rate: of each one three decisions count in a cell and day
    timeouts: TimeoutsEntry = TimeoutsEntry()
    stream: Streaming = Streaming.LIVE


GENERAL = "general"


class MatchEntry(Entry):
    """Structure that marks a task; every part that is named must hold."""

    tools: list[str] | bool | None = None  # any of these names; true: any tool at all
    schema_: bool | None = Field(default=None, alias="schema")
    image: bool | None = None
    system: list[str] | None = None  # any of these, in the system prompt, in any case


class TaskEntry(Entry):
    """A task category; a name with one `/` is below the one before it."""

    match: MatchEntry | None = None


DEFAULT_APP = "default"


class File(Entry):
    """The whole file."""

    server: ServerEntry = ServerEntry()
    store: StoreEntry = StoreEntry()
    archive: ArchiveEntry = ArchiveEntry()
    models: dict[str, ModelEntry | None] = Field(default_factory=dict)
    providers: dict[str, ProviderEntry] = Field(default_factory=dict)
    endpoints: list[EndpointEntry] = Field(min_length=1)
    tasks: dict[Name, TaskEntry | None] = Field(default_factory=dict)
    strategies: dict[Name, StrategyEntry] = Field(default_factory=dict)
    apps: dict[Name, AppEntry] = Field(default_factory=dict)

    @property
    def all_tasks(self) -> dict[str, TaskEntry]:
        """The tasks that are written, what they are below, and the one that there always is."""
        tasks = {name: self.tasks.get(name) or TaskEntry() for name in with_parents(self.tasks)}
        tasks.setdefault(GENERAL, TaskEntry())
        return tasks

    @property
    def all_strategies(self) -> dict[str, StrategyEntry]:
        """One strategy of each kind, and those that are written."""
        return {
            kind.value: StrategyEntry(objective=kind) for kind in ObjectiveKind
        } | self.strategies

    @property
    def all_apps(self) -> dict[str, AppEntry]:
        """The apps that are written, else the one to which every call belongs."""
        return self.apps or {DEFAULT_APP: AppEntry()}
