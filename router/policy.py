"""Who is routed and how: strategies, apps and modes, and the one function that merges them.

Only the `model` field, the app's mode and `map_models` decide whether a call is routed; hints
never do.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from msgspec import Struct
from pydantic import Field

from bandit import orders
from bandit.draws import LEARNING, Law
from bandit.utility import Objective, Order
from router.endpoints.catalog import Catalog, Endpoint
from router.endpoints.entries import AuthEntry, DataClass, Entry, Name
from router.errors import RequestRejected

NO_INCUMBENT = "none"
AUTO = "auto"


class Kind(StrEnum):
    """What a strategy is after."""

    QUALITY = "quality"
    BALANCED = "balanced"
    CHEAPEST = "cheapest"
    FASTEST = "fastest"


BALANCED_VALUE_USD = 0.05
BALANCED_LATENCY_USD_PER_S = 0.0005
"""Guesses to be replaced by the user's own: a success is worth five cents, and ten seconds of
waiting a tenth of that. UNVALIDATED."""


RELEASE_EVERY_S = 7 * 86_400.0
"""A week has every day of it: what serves working days well may serve weekends badly."""


class StrategyEntry(Entry):
    """A named way to choose."""

    objective: Kind = Kind.QUALITY
    incumbent: Name | None = None  # an endpoint id, `none` for learning mode, else the first listed
    value_usd: Annotated[float, Field(gt=0)] | None = None
    latency_usd_per_s: Annotated[float, Field(ge=0)] | None = None
    release_every_s: Annotated[float, Field(gt=0)] | None = None


class Mode(StrEnum):
    """What the sidecar may do with an app's calls."""

    OBSERVE = "observe"
    ROUTE = "route"
    PINNED = "pinned"


class Unit(StrEnum):
    """What is given one draw."""

    SESSION = "session"
    CALL = "call"


class Fallback(StrEnum):
    """How far a failed call may go."""

    NONE = "none"
    GROUP = "group"
    ANY = "any"


class AppEntry(Entry):
    """An app that calls through the sidecar."""

    keys: list[AuthEntry] = Field(default_factory=list)
    mode: Mode = Mode.OBSERVE
    percent: Annotated[float, Field(ge=0, le=100)] = 100.0
    endpoint: Name | None = None  # of mode `pinned`
    strategy: Name = "balanced"
    incumbent: Name | None = None
    task: Name | None = None
    unit: Unit = Unit.SESSION
    map_models: bool = False
    fallback: Fallback | None = None
    regions: list[str] | None = None
    data_class: DataClass = DataClass.INTERNAL
    signals: bool = True  # read labels off the app's calls


@dataclass(frozen=True, slots=True)
class Strategy:
    """A compiled strategy; `incumbent` None is learning mode."""

    name: str
    digest: int
    objective: Objective
    incumbent: Endpoint | None
    release_every_s: float


@dataclass(frozen=True, slots=True)
class App:
    """A compiled app."""

    name: str
    entry: AppEntry
    digest: int
    incumbent: Endpoint | str | None  # `none`, an endpoint, or None: as the strategy says


class Route(Struct, frozen=True):
    """How one call is routed.

    `law` None means that nothing is drawn: `first` serves it. `scope` names the groups that may
    be drawn or fallen back to; None is all.
    """

    strategy: Strategy
    law: Law | None
    first: Endpoint | None
    scope: frozenset[int] | None
    fallback: Fallback
    routed: bool
    by_name: bool  # the caller named a model or endpoint

    @property
    def is_guarded(self) -> bool:
        """Whether an incumbent is challenged: choices apply, and change by releases."""
        return self.law is not None and not self.law.is_learning and self.scope is None


class Target(Struct, frozen=True):
    """What a `model` field asks for."""

    name: str
    automatic: bool = False
    strategy: str | None = None
    task: str | None = None


def parse_model(model: str) -> Target:
    """Return what `auto`, `auto:<strategy>`, `auto/<task>` or a name asks for."""
    if model == AUTO:
        return Target(model, automatic=True)
    if model.startswith("auto:"):
        strategy, _, task = model[5:].partition("/")
        return Target(model, automatic=True, strategy=strategy, task=task or None)
    if model.startswith("auto/"):
        return Target(model, automatic=True, task=model[5:])
    return Target(model)


def compile_objective(entry: StrategyEntry) -> Objective:
    """Return what the strategy maximises, with its kind's defaults."""
    match entry.objective:
        case Kind.CHEAPEST:
            return Objective(Order.CHEAPEST)
        case Kind.FASTEST:
            return Objective(Order.FASTEST)
        case Kind.BALANCED:
            value, latency = entry.value_usd, entry.latency_usd_per_s
            return Objective(
                Order.UTILITY,
                BALANCED_VALUE_USD if value is None else value,
                BALANCED_LATENCY_USD_PER_S if latency is None else latency,
            )
        case Kind.QUALITY:
            return Objective(Order.UTILITY, entry.value_usd, entry.latency_usd_per_s or 0.0)


def compile_release_every_s(entry: StrategyEntry) -> float:
    """Return how often the strategy's choices are reviewed, with its kind's default."""
    is_order = entry.objective in (Kind.CHEAPEST, Kind.FASTEST)
    return entry.release_every_s or (orders.REVIEW_EVERY_S if is_order else RELEASE_EVERY_S)


def route(
    target: Target,
    app: App,
    strategy: Strategy,
    catalog: Catalog,
    *,
    share: float,
    off: bool,
) -> Route | None:
    """Return how the call is routed; None means that no endpoint lists the model.

    Args:
        share: the unit's own uniform in [0, 1), against the app's percentage.
        off: routing is switched off for everybody.
    """
    entry = app.entry
    pinned = catalog.by_id.get(target.name)
    if pinned is None and entry.mode is Mode.PINNED and not off:
        pinned = catalog.by_id[entry.endpoint or ""]
    if pinned is not None:
        fallback = entry.fallback or Fallback.NONE
        return _straight(strategy, pinned, fallback, by_name=True)
    draws = entry.mode is Mode.ROUTE and not off and share * 100 < entry.percent
    if target.automatic:
        fallback = entry.fallback or Fallback.ANY
        incumbent = incumbent_of(app, strategy)
        if not draws:
            return _straight(strategy, incumbent, fallback, by_name=False)
        return _drawn(strategy, incumbent, None, fallback, by_name=False)
    listed = catalog.by_model.get(target.name)
    if listed is None:
        return None
    if not draws:
        return _straight(strategy, listed[0], entry.fallback or Fallback.GROUP, by_name=True)
    if entry.map_models:
        return _drawn(strategy, listed[0], None, entry.fallback or Fallback.ANY, by_name=True)
    own = frozenset([listed[0].group])
    return _drawn(strategy, listed[0], own, entry.fallback or Fallback.GROUP, by_name=True)


def choose_strategy(
    wanted: str | None, target: Target, app: App, strategies: dict[str, Strategy]
) -> Strategy:
    """Return the strategy: header or body, else `auto:<strategy>`, else the app's.

    Raises:
        RequestRejected: no such strategy; it may hold constraints, so it is not guessed.
    """
    named = target.strategy if wanted is None else wanted
    name = app.entry.strategy if named is None else named
    found = strategies.get(name)
    if found is None:
        known = ", ".join(sorted(strategies))
        raise RequestRejected(
            "unknown_strategy", f"unknown strategy {name[:64]!r}; known: {known}", param="strategy"
        )
    return found


def incumbent_of(app: App, strategy: Strategy) -> Endpoint | None:
    """Return who serves `auto` until another is shown better; None in learning mode."""
    if app.incumbent is None:
        return strategy.incumbent
    return app.incumbent if isinstance(app.incumbent, Endpoint) else None


def _straight(
    strategy: Strategy, first: Endpoint | None, fallback: Fallback, *, by_name: bool
) -> Route:
    return Route(strategy, None, first, None, fallback, routed=False, by_name=by_name)


def _drawn(
    strategy: Strategy,
    incumbent: Endpoint | None,
    scope: frozenset[int] | None,
    fallback: Fallback,
    *,
    by_name: bool,
) -> Route:
    """Where the choices of a release key are not known, its incumbent keeps everything."""
    if incumbent is None:
        law = LEARNING
    else:
        law = Law(incumbent=incumbent.group, current=incumbent.group, stay=1.0)
    return Route(strategy, law, incumbent, scope, fallback, routed=True, by_name=by_name)
