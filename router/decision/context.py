"""What is settled of a call before a draw: routing, task, demand; and how that is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from msgspec import Struct, structs

from bandit.draws import LEARNING
from router.beliefs.beliefs import Beliefs
from router.beliefs.choices import Choices
from router.beliefs.kept import ReviewKey
from router.beliefs.review_keys import host_of
from router.budgets.claims import Claims
from router.budgets.exploring import CeilingClaims
from router.config.compiled import Configuration, Role, Strategy
from router.config.rules import MergedPolicy
from router.config.strategies import Exchangeable
from router.decision.guessing import PromptLook
from router.decision.held_to import at_cheapest_for, warning_under
from router.decision.said import NO_SESSION, CallSession
from router.decision.units import Unit
from router.dialects.request import CallRequest
from router.endpoints.catalog import Endpoint
from router.endpoints.entries import Dialect
from router.errors import RequestRejected
from router.policy.callers import Caller
from router.policy.constraints import Eligibility
from router.policy.exploring import why_held
from router.policy.hints import Hints
from router.policy.roles import CallersRole, find_role
from router.policy.route import ModelField, Route, find_route, parse_model
from router.policy.spend_tags import NO_TAG, SpendTag
from router.policy.standing import AppStanding
from router.policy.tasks import Task
from router.translation.translations import Translations
from telemetry.numbers import brief

T = TypeVar("T")
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
    request: CallRequest  # with what nobody asked for forced off, where nothing may be kept
    hints: Hints
    task: Task
    role: Role | None  # that it is booked under
    standing: AppStanding
    policy: MergedPolicy  # all that holds for this call
    task_index: int  # the row by which it is decided, under which laws and notes are kept
    category: int  # of the beliefs: the task by the labels that the app goes by
    strategy: Strategy
    route: Route
    eligibility: Eligibility
    translations: Translations
    unit: Unit
    draw_key: str  # what its draw is stored under, beside the unit
    release: str  # what its release key is made of: task and review key
    seed: bytes
    beliefs: Beliefs
    explore: bool
    review_key: ReviewKey | None  # None where no choices apply
    choices: Choices | None  # None also until the key's are known
    at: Moment
    session: CallSession = NO_SESSION
    spend_tag: SpendTag = NO_TAG  # by which its app's spend is booked as well
    claims: Claims = ()  # the accounts of budgets that it counts in
    ceilings: CeilingClaims | None = None  # of what its app's exploring comes to; most have none
    held_to: Claims = ()  # those used up, for which it goes by other rules than it would
    maker: Endpoint | None = None  # of what it goes on from: then nothing is drawn
    look: PromptLook | None = None  # what its first prompt looks like, where that matters

    @property
    def warnings(self) -> tuple[str, ...]:
        """What of its hints was not followed, and what holds instead, though the call goes on."""
        of_task, of_tag = self.task.warning, self.spend_tag.warning
        if of_task is None and of_tag is None and not self.held_to:
            return ()  # most often
        hints = [warning for warning in (of_task, of_tag) if warning is not None]
        catalog = self.beliefs.configuration.catalog
        return (*hints, *(warning_under(one, self.route, catalog) for one in self.held_to))

    @property
    def is_locked(self) -> bool:
        """Whether its app's episodes keep the endpoint of each role."""
        return self.caller.app.entry.locked

    @property
    def decided_by(self) -> str:
        """The task whose posterior and choice decide: the call's own, or the one above it."""
        name, configuration = self.task.name, self.beliefs.configuration
        stands = configuration.task_index.get(name) == self.task_index
        return name if stands else configuration.leaves[name]


class AskedModel(Struct, frozen=True):
    """What a call's `model` field asks for, and in which role."""

    target: ModelField
    role: CallersRole


class Routing(Struct, frozen=True):
    """How calls of one standing that ask for one model are routed."""

    within: Route | None  # of sessions within the app's percentage
    beyond: Route | None  # of the others
    off: Route | None  # of all, while routing is switched off
    release: str  # what a release key is made of, beside the task; also what a draw is stored under
    part: str | None  # of a locked app, what a draw is stored under, whatever the task
    choices: ReviewKey | None  # whose choices `within` follows


class Routings:
    """How calls are routed under one configuration; worked out once for each kind of call."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._asked: dict[tuple[object, ...], AskedModel] = {}
        self._known: dict[tuple[object, ...], Routing] = {}

    def asked(self, model: str, named: str | None, caller: Caller) -> AskedModel:
        """Return what a `model` field asks for, in the role that it or a hint names.

        Raises:
            RequestRejected: a name of ours that means nothing, or no such role.
        """
        key = (model, named, caller.holder)
        known = self._asked.get(key)
        if known is None:
            target = parse_model(model)
            role = target.role if named is None else named
            found = find_role(self._configuration, model, role, caller.holder)
            known = AskedModel(target, found)
            _remember(self._asked, key, known)
        return known

    def of(self, asked: AskedModel, standing: AppStanding, dialect: Dialect) -> Routing:
        """Return how calls are routed that ask for a model."""
        key = (asked.target.name, asked.role.by_model, standing, dialect)
        known = self._known.get(key)
        if known is None:
            known = self._work_out(asked, standing, dialect)
            _remember(self._known, key, known)
        return known

    def _work_out(self, asked: AskedModel, standing: AppStanding, dialect: Dialect) -> Routing:
        target = asked.target
        within, beyond, off = (
            find_route(
                target,
                standing,
                self._configuration.catalog,
                dialect=dialect,
                share=share,
                off=off,
                maps=asked.role.by_model,
            )
            for share, off in ((0.0, False), (1.0, False), (0.0, True))
        )
        if within is not None:
            within = structs.replace(within, preferred=_preferred(standing, within.first))
        incumbent = within.first.id if within and within.first else ""
        named = "" if target.automatic else target.name
        choices = None
        if within is not None and within.is_guarded:
            choices = review_key_of(standing, named, incumbent)
        # What no incumbent tells apart, whom it may be drawn from does.
        others = "" if incumbent else _taken_apart(standing, dialect)
        release = review_key_of(standing, named, incumbent or others).text
        part = _part(standing, named, dialect, within) if standing.app.entry.locked else None
        return Routing(within, beyond, off, release, part, choices)


def _part(standing: AppStanding, model: str, dialect: Dialect, within: Route | None) -> str:
    """Return which part of a locked episode a call plays: its role, and no task, word or hint.

    Who may be exchanged for whom is the part's as well: a draw that is kept must be one of them.
    """
    groups = within.groups if within is not None else None
    among = "" if groups is None else ",".join(map(str, sorted(groups)))
    vectors = "vectors" if dialect is Dialect.EMBEDDINGS else ""
    return "\x1f".join(("part", standing.role_name, model, vectors, among))


def _preferred(standing: AppStanding, incumbent: Endpoint | None) -> frozenset[int] | None:
    """Return whom calls are drawn from, where some are preferred; the incumbent always is one."""
    if standing.wanted == standing.permitted:
        return None
    firsts = () if incumbent is None else (incumbent,)
    return frozenset(endpoint.index for endpoint in (*standing.wanted, *firsts))


def review_key_of(standing: AppStanding, model: str, incumbent: str) -> ReviewKey:
    """Return whose choices calls of a standing follow."""
    return ReviewKey(
        standing.app.name,
        standing.strategy.name,
        model,
        incumbent,
        standing.role_name,
        standing.apart,
    )


def _remember(known: dict[tuple[object, ...], T], key: tuple[object, ...], value: T) -> None:
    if len(known) >= MAX_ROUTINGS:
        known.clear()
    known[key] = value


def require_tools(policy: MergedPolicy, offered: Callable[[], Sequence[str]]) -> None:
    """Refuse a call that offers a tool which the rules do not name.

    Args:
        offered: names the tools; asked only where some rule does.

    Raises:
        RequestRejected: it does; names the tool.
    """
    if not policy.rules.tools:
        return  # most often
    for tool in offered():
        for patterns in policy.rules.tools:
            if not any(fnmatchcase(tool, pattern) for pattern in patterns):
                allowed = ", ".join(sorted(patterns)) or "none"
                raise RequestRejected(
                    "tool_not_allowed",
                    f"the tool {brief(tool)} may not be offered here; allowed: {allowed}",
                    param="tools",
                )


def with_law_in_force(
    route: Route, choices: Choices | None, name: str, task: int, beliefs: Beliefs, *, locked: bool
) -> Route:
    """Return the route under the law of its choices, or of learning mode as it stands now.

    Args:
        name: of the call's own task.
        task: the row by which it is decided.
        locked: what is drawn is a part of a whole, whose labels are the whole's.
    """
    if choices is not None:
        law, assignment = choices.laws[task], choices.assignment_of(name)
        return structs.replace(route, law=law, assignment=assignment)
    if route.law is LEARNING and locked:
        return structs.replace(route, law=replace(beliefs.learning, is_exact=True))
    if route.law is LEARNING and beliefs.learning is not LEARNING:
        return structs.replace(route, law=beliefs.learning)
    return route


def _taken_apart(standing: AppStanding, dialect: Dialect) -> str:
    """Return a dialect's name where other endpoints take it than take chats; else nothing."""
    takers = ({e.index for e in standing.permitted if e.takes(d)} for d in (dialect, Dialect.CHAT))
    own, chat = takers
    return "" if own == chat else dialect.value


def why(context: CallContext) -> str:
    """Return why a call does not explore, or what was not checked."""
    law, exchange = context.route.law, context.strategy.exchange
    if law is None and exchange is Exchangeable.NONE and not context.route.goes_on:
        return "pinned by its strategy"
    if law is None:
        return "goes on from what lies at this endpoint" if context.route.goes_on else "not routed"
    if at_cheapest_for(context.held_to):
        return "a budget is used up"
    if not context.explore and (held := why_held(context.policy)):
        return held
    if not context.explore and context.ceilings is not None and law.stay < 1:
        return context.ceilings.why
    if law.is_learning:
        return "learning mode"
    if context.route.groups is not None:
        is_kept = exchange is Exchangeable.EQUIVALENTS
        return "only equivalents are exchanged" if is_kept else "the call names its model"
    return context.choices.notes[context.task_index] if context.choices else "nothing known yet"


def choice_of(context: CallContext) -> dict[str, Any]:
    """Return what the release key stands at, and whether and why this call explores or not."""
    law, choices = context.route.law, context.choices
    standing, catalog = context.standing, context.beliefs.configuration.catalog
    current = law.current if law is not None else None
    challengers = (law.challengers or ()) if law is not None else ()
    return {
        "decided_by": context.decided_by,
        "current": None if current is None else host_of(standing, catalog, current),
        "challengers": [host_of(standing, catalog, group) for group in challengers],
        "room": choices.room if choices is not None else None,
        "release_version": choices.version if choices is not None else None,
        "exploring": context.explore and law is not None and law.stay < 1,
        "note": why(context),
    }
