"""From a request to a decision: task, strategy, route, constraints, unit, draw.

The same steps serve a call and its dry run; only a call claims its draw in the store.
"""

from __future__ import annotations

import os
import time
from typing import Any

from msgspec import Struct, structs

from bandit.draws import LEARNING, Step
from router.beliefs.beliefs import Beliefs
from router.beliefs.choices import Choices, ReviewKey, host_of, key_text
from router.beliefs.keeper import Keeper
from router.config.compiled import App, Strategy
from router.config.entries import UnitKind
from router.decision import planner
from router.decision.draws import Draws
from router.decision.planner import Plan
from router.decision.shared_draws import StoredDraw
from router.decision.units import Unit, conversation, uniforms, unit_of
from router.dialects import chat
from router.dialects.request import Structure
from router.endpoints.catalog import Endpoint
from router.endpoints.entries import SENSITIVE, DataClass, Dialect
from router.endpoints.health import Health
from router.policy.callers import Caller
from router.policy.constraints import Demand, Eligibility, Filter
from router.policy.hints import Headers, Hints, read_hints
from router.policy.route import ModelField, Route, choose_strategy, find_route, parse_model
from router.policy.tasks import Task, categorize

MAX_ROUTINGS = 4096
"""Kinds of calls remembered; a model's name is the caller's to choose, so there is a bound."""


class CallContext(Struct, frozen=True):
    """Everything about a call that is settled before a draw."""

    caller: Caller
    wish: Hints
    target: ModelField
    task: Task
    category: int
    strategy: Strategy
    route: Route
    eligibility: Eligibility
    unit: Unit
    draw_key: str
    seed: bytes
    beliefs: Beliefs
    explore: bool
    review_key: ReviewKey | None  # None where no choices apply
    choices: Choices | None  # None also until the key's are known


class Decision(Struct, frozen=True):
    """A call's plan with what it is booked under."""

    context: CallContext
    plan: Plan
    nonce: bytes
    decided_at_ms: int
    held: StoredDraw | None = None  # the stored draw that it follows


class Routing(Struct, frozen=True):
    """How calls of one app that ask for one model under one strategy are routed."""

    target: ModelField
    strategy: Strategy
    within: Route | None  # of sessions within the app's percentage
    beyond: Route | None  # of the others
    off: Route | None  # of all, while routing is switched off
    draw_key: str  # what a draw is stored under, beside unit and task
    choices: ReviewKey | None  # whose choices `within` follows


class Nonces:
    """Random decision ids, fetched from the kernel 256 at a time: it costs a system call."""

    def __init__(self) -> None:
        self._pool: list[bytes] = []

    def take(self) -> bytes:
        """Return 16 bytes that were never returned before."""
        if not self._pool:
            fresh = os.urandom(256 * 16)
            self._pool = [fresh[i : i + 16] for i in range(0, len(fresh), 16)]
        return self._pool.pop()


class Decider:
    """Makes decisions; one for the process."""

    def __init__(self, keeper: Keeper, health: Health, draws: Draws, secret: bytes) -> None:
        self.keeper = keeper
        self.health = health
        self.draws = draws
        self._secret = secret
        self._nonces = Nonces()
        self._routings: dict[tuple[str, str | None, str], Routing] = {}
        self._configuration = keeper.current.configuration
        self._filter = Filter(self._configuration.catalog)
        self._has_rules = self._configuration.any_structural
        self._reads_system = self._configuration.any_system_rule

    def context(
        self, caller: Caller, headers: Headers, request: chat.Request, body: bytes
    ) -> CallContext | None:
        """Return what is settled before a draw; None where no endpoint lists the model.

        Raises:
            RequestRejected: a hint that cannot be followed.
        """
        configuration = self._configuration
        app = caller.app
        wish = read_hints(headers, request)
        routing = self._routing(request.model, wish.strategy, app)
        target, strategy = routing.target, routing.strategy
        needs = chat.needs(request, body)
        hint = wish.task or target.task
        ruled = self._has_rules and hint is None and app.entry.task is None
        structure = Structure()
        if ruled:
            structure = chat.structure(request, needs, read_system=self._reads_system)
        task = categorize(hint, app.entry.task, structure, configuration.tasks)
        draw_key = f"{task.name}\x1f{routing.draw_key}"
        now = time.time()
        unit = unit_of(
            app=app.digest,
            user=wish.user,
            session=wish.session,
            stateless=app.entry.unit is UnitKind.CALL,
            now=now,
            draw_key=draw_key,
        )
        seed = unit.key or self._nonces.take()
        route = self._share(routing, app, seed, draw_key)
        if route is None:
            return None
        beliefs = self.keeper.current
        category = configuration.task_index[task.name]
        review_key = routing.choices if route.is_guarded else None
        choices = beliefs.choices.get(review_key) if review_key else None
        if choices is not None:
            route = structs.replace(route, law=choices.laws[category])
        elif route.law is LEARNING and beliefs.learning is not LEARNING:
            route = structs.replace(route, law=beliefs.learning)
        data_class = app.entry.data_class.tightened(wish.data_class)
        demand = _demand(caller, request, body, needs, data_class)
        return CallContext(
            caller=caller,
            wish=wish,
            target=target,
            task=task,
            category=category,
            strategy=strategy,
            route=route,
            eligibility=self._filter.apply(demand, self.health, time.monotonic()),
            unit=unit,
            draw_key=draw_key,
            seed=seed,
            beliefs=beliefs,
            explore=wish.explore and data_class.level < SENSITIVE.level,
            review_key=review_key,
            choices=choices,
        )

    def _share(self, routing: Routing, app: App, seed: bytes, draw_key: str) -> Route | None:
        """Return how the unit is routed: the app's percentage of them is drawn."""
        if self.keeper.off:
            return routing.off
        percent = app.entry.percent
        if percent >= 100 or uniforms(self._secret, seed, draw_key).share * 100 < percent:
            return routing.within
        return routing.beyond

    def _routing(self, model: str, wanted: str | None, app: App) -> Routing:
        """Return how calls of this kind are routed; worked out once for each kind."""
        key = (model, wanted, app.name)
        found = self._routings.get(key)
        if found is None:
            if len(self._routings) >= MAX_ROUTINGS:
                self._routings.clear()
            configuration = self._configuration
            target = parse_model(model)
            strategy = choose_strategy(wanted, target, app, configuration.strategies)
            within, beyond, off = (
                find_route(target, app, strategy, configuration.catalog, share=share, off=off)
                for share, off in ((0.0, False), (1.0, False), (0.0, True))
            )
            incumbent = within.first.id if within and within.first else ""
            named = "" if target.automatic else target.name
            choices = None
            if within is not None and within.is_guarded:
                choices = ReviewKey(app.name, strategy.name, named, incumbent)
            draw_key = key_text(strategy.name, named, incumbent)
            found = Routing(target, strategy, within, beyond, off, draw_key, choices)
            self._routings[key] = found
        return found

    async def decide(self, context: CallContext, request: chat.Request) -> Decision:
        """Return the decision of a call; the first call of a unit claims its draw.

        Raises:
            NoCandidates: no endpoint may serve it.
        """
        now = time.time()
        decided_at_ms = int(now * 1000)
        if context.route.law is None:
            return Decision(context, self._plan(context), self._nonces.take(), decided_at_ms)
        if context.review_key is not None and context.choices is None:
            self.keeper.want(context.review_key)
        held = await self._held(context, request, now)
        endpoint = self._standing(context, held)
        if held is None or endpoint is None:
            plan = self._plan(context)
            given = StoredDraw(
                plan.drawn.digest,
                plan.propensity,
                decided_at_ms,
                context.beliefs.version,
                plan.step or Step.SAMPLE,
            )
            key = context.unit.key
            if key is not None:
                held = await self.draws.claim(key, given, context.unit, now=now, instead_of=held)
                if held != given and self._standing(context, held) is None:
                    held = await self.draws.claim(
                        key, given, context.unit, now=now, instead_of=held
                    )
            if key is None or held == given:
                self._note_conversation(context, request, given, now)
                return Decision(context, plan, self._nonces.take(), decided_at_ms)
            endpoint = self._standing(context, held) or plan.drawn
        assert held is not None
        self._note_conversation(context, request, held, now)
        plan = self._follow(context, held, endpoint)
        return Decision(context, plan, self._nonces.take(), decided_at_ms, held)

    def preview(self, context: CallContext) -> dict[str, Any]:
        """Return what would be decided, and why; nothing is stored or sent.

        Raises:
            NoCandidates: no endpoint may serve it.
        """
        catalog = self._configuration.catalog
        route = context.route
        plan = self._plan(context)
        held = self.draws.get(context.unit.key, now=time.time()) if context.unit.key else None
        standing = self._standing(context, held)
        if held is not None and standing is not None:
            plan = self._follow(context, held, standing)
        drawn = plan.drawn
        return {
            "endpoint": drawn.id,
            "model": drawn.upstream_model,
            "task": context.task.name,
            "warning": context.task.warning,
            "strategy": context.strategy.name,
            "app": context.caller.app.name,
            "mode": context.caller.app.entry.mode.value,
            "routed": route.routed,
            "off": self.keeper.off,
            "learning_mode": route.law is not None and route.law.incumbent is None,
            "incumbent": route.first.id if route.first else None,
            "propensity": plan.propensity,
            "step": plan.step,
            "follows_stored_draw": standing is not None,
            "propensities": self._shares(context, plan),
            **self._choice(context),
            "then": [e.id for e in plan.then()],
            "exclusions": context.eligibility.exclusions(catalog),
            "posterior_version": context.beliefs.version,
            "fallback": route.fallback.value,
        }

    def _shares(self, context: CallContext, plan: Plan) -> dict[str, float]:
        """Return the probability of every endpoint that a new draw can give."""
        law, catalog = context.route.law, self._configuration.catalog
        if law is None:
            return {plan.drawn.id: 1.0}
        inside = planner.within_groups(context.route, context.eligibility, catalog)
        table = context.beliefs.table(
            context.category, context.strategy.objective, law, inside.mask
        )
        if not context.explore:
            law = planner.without_exploring(law, table)
        return planner.endpoint_shares(law, table, catalog)

    def _choice(self, context: CallContext) -> dict[str, Any]:
        """Return what the release key stands at, and whether and why this call explores or not."""
        law, choices = context.route.law, context.choices
        catalog = self._configuration.catalog
        current = law.current if law is not None else None
        challengers = (law.challengers or ()) if law is not None else ()
        return {
            "current": None if current is None else host_of(catalog, current),
            "challengers": [host_of(catalog, group) for group in challengers],
            "room": choices.room if choices is not None else None,
            "release_version": choices.version if choices is not None else None,
            "exploring": context.explore and law is not None and law.stay < 1,
            "note": why(context),
        }

    def _follow(self, context: CallContext, held: StoredDraw, endpoint: Endpoint) -> Plan:
        return planner.follow(
            context.route,
            context.eligibility,
            context.beliefs,
            category=context.category,
            drawn=endpoint,
            propensity=held.propensity,
            step=held.step,
        )

    def _plan(self, context: CallContext) -> Plan:
        return planner.plan(
            context.route,
            context.eligibility,
            context.beliefs,
            category=context.category,
            numbers=uniforms(self._secret, context.seed, context.draw_key),
            explore=context.explore,
        )

    async def _held(
        self, context: CallContext, request: chat.Request, now: float
    ) -> StoredDraw | None:
        """Return what the unit, or the conversation that this call continues, was given."""
        unit = context.unit
        if unit.key is None:
            return None
        if not unit.is_session:
            earlier = chat.continued(request)
            if earlier is not None:
                key = conversation(context.caller.app.digest, _raw(earlier), context.draw_key)
                found = await self.draws.find_conversation(key, now=now)
                if found is not None:
                    return found
        return self.draws.get(unit.key, now=now)

    def _note_conversation(
        self, context: CallContext, request: chat.Request, given: StoredDraw, now: float
    ) -> None:
        if context.unit.key is not None and not context.unit.is_session:
            key = conversation(context.caller.app.digest, _raw(request.messages), context.draw_key)
            self.draws.note_conversation(key, given, now=now)

    def _standing(self, context: CallContext, held: StoredDraw | None) -> Endpoint | None:
        """Return the endpoint of a draw unless configuration, outage or alarm ended it."""
        if held is None:
            return None
        endpoint = self._configuration.catalog.by_digest.get(held.endpoint)
        if endpoint is None or self.health.is_lost(endpoint.index, time.monotonic()):
            return None
        if held.decided_at_ms < context.beliefs.known[endpoint.index].alarmed_at_ms:
            return None
        return endpoint


def _demand(
    caller: Caller, request: chat.Request, body: bytes, needs: int, data_class: DataClass
) -> Demand:
    """Return what the call asks of an endpoint."""
    entry = caller.app.entry
    return Demand(
        dialect=Dialect.CHAT,
        needs=needs,
        data_class=data_class,
        regions=frozenset(entry.regions) if entry.regions else None,
        has_credential=caller.credential is not None,
        text_bytes=chat.text_bytes(request, body, needs),
        max_tokens=request.output_limit,
    )


def why(context: CallContext) -> str:
    """Return why a call does not explore, or what was not checked."""
    law = context.route.law
    if law is None:
        return "not routed"
    if not context.explore:
        return "sensitive data" if context.wish.explore else "asked not to explore"
    if law.is_learning:
        return "learning mode"
    if context.route.groups is not None:
        return "the call names its model"
    return context.choices.notes[context.category] if context.choices else "nothing known yet"


def _raw(messages: list[Any]) -> list[bytes]:
    return [bytes(m) for m in messages]
