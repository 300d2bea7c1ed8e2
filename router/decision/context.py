"""What is settled of a call before a draw: routing, task, demand; and how that is told."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, structs

from bandit.draws import LEARNING
from router.beliefs.beliefs import Beliefs
from router.beliefs.choices import Choices, host_of
from router.beliefs.kept import ReviewKey, key_text
from router.config.compiled import App, Configuration, Strategy
from router.decision.units import Unit
from router.dialects.request import CallRequest, Structure
from router.endpoints.capabilities import Needs
from router.endpoints.entries import DataClass, Dialect
from router.policy.callers import Caller
from router.policy.constraints import Demand, Eligibility
from router.policy.hints import Hints
from router.policy.route import ModelField, Route, choose_strategy, find_route, parse_model
from router.policy.tasks import FoundBy, Said, Task, categorize
from router.translation.translations import Translations

MAX_ROUTINGS = 4096
"""Kinds of calls remembered; a model's name is the caller's to choose, so there is a bound."""


class Moment(Struct, frozen=True):
    """When a call came."""

    epoch_s: float
    monotonic_s: float
    ahead_ms: float = 0.0  # how far the store's clock is ahead of this process's

    @property
    def store_ms(self) -> int:
        """When, in epoch milliseconds of the store's clock: what several processes agree on."""
        return int(self.epoch_s * 1000 + self.ahead_ms)


class CallContext(Struct, frozen=True):
    """Everything about a call that is settled before a draw."""

    caller: Caller
    hints: Hints
    task: Task
    task_index: int  # the row by which it is decided, under which laws and notes are kept
    category: int  # of the beliefs: the task by the labels that the app goes by
    strategy: Strategy
    route: Route
    eligibility: Eligibility
    translations: Translations
    unit: Unit
    draw_key: str
    seed: bytes
    beliefs: Beliefs
    explore: bool
    review_key: ReviewKey | None  # None where no choices apply
    choices: Choices | None  # None also until the key's are known
    at: Moment

    @property
    def decided_by(self) -> str:
        """The task whose posterior and choice decide: the call's own, or the one above it."""
        name, configuration = self.task.name, self.beliefs.configuration
        stands = configuration.task_index.get(name) == self.task_index
        return name if stands else configuration.leaves[name]


class Routing(Struct, frozen=True):
    """How calls of one app that ask for one model under one strategy are routed."""

    target: ModelField
    strategy: Strategy
    within: Route | None  # of sessions within the app's percentage
    beyond: Route | None  # of the others
    off: Route | None  # of all, while routing is switched off
    draw_key: str  # what a draw is stored under, beside unit and task
    choices: ReviewKey | None  # whose choices `within` follows


class Routings:
    """How calls are routed under one configuration; worked out once for each kind of call."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._known: dict[tuple[str, str | None, str, Dialect], Routing] = {}

    def of(self, model: str, wanted: str | None, app: App, dialect: Dialect) -> Routing:
        """Return how calls are routed that ask for a model, and maybe for a strategy.

        Raises:
            RequestRejected: there is no such strategy.
        """
        key = (model, wanted, app.name, dialect)
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= MAX_ROUTINGS:
                self._known.clear()
            known = self._known[key] = self._work_out(model, wanted, app, dialect)
        return known

    def _work_out(self, model: str, wanted: str | None, app: App, dialect: Dialect) -> Routing:
        configuration = self._configuration
        target = parse_model(model)
        strategy = choose_strategy(wanted, target, app, configuration.strategies)
        within, beyond, off = (
            find_route(
                target,
                app,
                strategy,
                configuration.catalog,
                dialect=dialect,
                share=share,
                off=off,
            )
            for share, off in ((0.0, False), (1.0, False), (0.0, True))
        )
        incumbent = within.first.id if within and within.first else ""
        named = "" if target.automatic else target.name
        choices = None
        if within is not None and within.is_guarded:
            choices = ReviewKey(app.name, strategy.name, named, incumbent)
        # What no incumbent tells apart, whom it may be drawn from does.
        others = "" if incumbent else _taken_apart(app, dialect)
        draw_key = key_text(strategy.name, named, incumbent or others)
        return Routing(target, strategy, within, beyond, off, draw_key, choices)


def with_law_in_force(route: Route, choices: Choices | None, task: int, beliefs: Beliefs) -> Route:
    """Return the route under the law of its choices, or of learning mode as it stands now."""
    if choices is not None:
        return structs.replace(route, law=choices.laws[task])
    if route.law is LEARNING and beliefs.learning is not LEARNING:
        return structs.replace(route, law=beliefs.learning)
    return route


def _taken_apart(app: App, dialect: Dialect) -> str:
    """Return a dialect's name where other endpoints take it than take chats; else nothing."""
    takers = ({e.index for e in app.permitted if e.takes(d)} for d in (dialect, Dialect.CHAT))
    own, chat = takers
    return "" if own == chat else dialect.value


def why(context: CallContext) -> str:
    """Return why a call does not explore, or what was not checked."""
    law = context.route.law
    if law is None:
        return "goes on from what lies at this endpoint" if context.route.goes_on else "not routed"
    if not context.explore:
        return "sensitive data" if context.hints.explore else "asked not to explore"
    if law.is_learning:
        return "learning mode"
    if context.route.groups is not None:
        return "the call names its model"
    return context.choices.notes[context.task_index] if context.choices else "nothing known yet"


def task_of(
    hints: Hints, named: str | None, app: App, request: CallRequest, configuration: Configuration
) -> Task:
    """Return the task of a call; its structure is looked at only where a rule asks for it.

    Args:
        named: by the `model` field, which is a hint like any other.
    """
    said = _said(hints, named, app)
    structure = Structure()
    if configuration.rules and not any(name for _, name in said):
        structure = request.structure(read_system=configuration.reads_system)
    tasks, rules = configuration.tasks, configuration.rules
    return categorize(said, structure, tasks=tasks, rules=rules, complexity=hints.complexity)


def task_unread(hints: Hints, app: App, configuration: Configuration) -> str:
    """Return the task of a call whose body is not read, as far as it is said."""
    said, complexity = _said(hints, None, app), hints.complexity
    tasks = configuration.tasks
    return categorize(said, Structure(), tasks=tasks, rules=(), complexity=complexity).name


def _said(hints: Hints, named: str | None, app: App) -> tuple[Said, ...]:
    """Return what is said of a call's task, in the order that decides."""
    return (FoundBy.HINT, hints.task or named), (FoundBy.APP, app.entry.task)


def demand_of(
    caller: Caller,
    request: CallRequest,
    data_class: DataClass,
    translations: Translations,
    *,
    lacking: int,
) -> Demand:
    """Return what the call asks of an endpoint.

    Args:
        lacking: bits of `Needs` that some endpoint does not meet; of others nothing hangs on it.
    """
    entry, needs = caller.app.entry, request.needs
    if lacking & Needs.PARALLEL_TOOLS and request.calls_together():
        needs |= Needs.PARALLEL_TOOLS
    return Demand(
        dialect=request.dialect,
        needs=needs,
        data_class=data_class,
        regions=frozenset(entry.regions) if entry.regions else None,
        has_credential=bool(caller.credentials),
        text_bytes=request.text_bytes,
        max_tokens=request.output_limit,
        translations=translations,
    )


def choice_of(context: CallContext) -> dict[str, Any]:
    """Return what the release key stands at, and whether and why this call explores or not."""
    law, choices = context.route.law, context.choices
    app, catalog = context.caller.app, context.beliefs.configuration.catalog
    current = law.current if law is not None else None
    challengers = (law.challengers or ()) if law is not None else ()
    return {
        "decided_by": context.decided_by,
        "current": None if current is None else host_of(app, catalog, current),
        "challengers": [host_of(app, catalog, group) for group in challengers],
        "room": choices.room if choices is not None else None,
        "release_version": choices.version if choices is not None else None,
        "exploring": context.explore and law is not None and law.stay < 1,
        "note": why(context),
    }
