"""From a request to a decision: task, strategy, route, constraints, unit, draw.

The same steps serve a call and its dry run; only a call claims its draw in the store. Whatever
the configuration says is read from the beliefs that the call started with.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, structs

from bandit.draws import Step
from router.beliefs.beliefs import Beliefs
from router.beliefs.keeper import Keeper
from router.config.compiled import App, Configuration
from router.config.entries import UnitKind
from router.config.exclusions import Exclusion
from router.decision import planner, stand_ins
from router.decision.context import (
    CallContext,
    Moment,
    Routing,
    Routings,
    demand_of,
    require_tools,
    with_law_in_force,
)
from router.decision.draws import Draws
from router.decision.held import endpoint_held, held_draw, note_conversation, note_said
from router.decision.limiting import CallSize, within_limits
from router.decision.nonces import Nonces
from router.decision.planner import Plan
from router.decision.preview import Foreseen, told_of
from router.decision.ruling import ruled
from router.decision.said import NO_SESSION, CallSession
from router.decision.sessions import Sessions
from router.decision.shared_draws import StoredDraw
from router.decision.stored_ids import StoredIds
from router.decision.units import Unit, uniforms, unit_of
from router.dialects.request import CallRequest
from router.endpoints.capabilities import MEDIA_NEEDS
from router.endpoints.catalog import Endpoint
from router.endpoints.health import Health
from router.endpoints.token_sizes import TokenSizes
from router.policy.callers import Caller
from router.policy.constraints import Filter
from router.policy.exploring import may_explore
from router.policy.hints import Headers, Hints, read_hints
from router.policy.route import Route, route_to
from router.translation.translations import Translations
from telemetry.secret import DrawsSecret


class Decision(Struct, frozen=True):
    """A call's plan with what it is booked under."""

    context: CallContext
    plan: Plan
    nonce: bytes
    held: StoredDraw | None = None  # the stored draw that it follows
    stands_in_for: Endpoint | None = None  # which the unit drew first, and whose breaker is open

    @property
    def decided_at_ms(self) -> int:
        """When, in epoch milliseconds of the store's clock."""
        return self.context.at.store_ms

    @property
    def diverted(self) -> tuple[str, str] | None:
        """Whom a breaker keeps from serving the unit that drew it, and who serves instead."""
        if self.stands_in_for is not None:
            return self.stands_in_for.id, "stand_in"
        if self.context.eligibility.reasons[self.plan.drawn.index] is Exclusion.BREAKER:
            return self.plan.drawn.id, "next"
        return None


class Decider:
    """Makes decisions; one for the process."""

    def __init__(
        self,
        keeper: Keeper,
        health: Health,
        draws: Draws,
        thoughts: StoredIds,
        secret: DrawsSecret,
        sessions: Sessions,
    ) -> None:
        self.keeper = keeper
        self.health = health
        self.draws = draws
        self.thoughts = thoughts
        self.sessions = sessions
        self.sizes = TokenSizes()
        self._secret = secret
        self._nonces = Nonces()

    async def context(
        self,
        beliefs: Beliefs,
        caller: Caller,
        headers: Headers,
        request: CallRequest,
        at: Moment,
        *,
        maker: Endpoint | None = None,
        noting: bool = True,
    ) -> CallContext | None:
        """Return what is settled before a draw; None where no endpoint lists the model.

        Args:
            beliefs: those that the call started with.
            maker: at which that lies from which the call goes on: then nothing is drawn.
            noting: whether what it says holds for later calls of its session.

        Raises:
            RequestRejected: a hint that cannot be followed.
        """
        configuration, app = beliefs.configuration, caller.app
        declared, classes = request.declared, configuration.classes
        hints = read_hints(headers, declared, classes, has_user=caller.has_user)
        session = await self.session_of(configuration, caller, hints, at)
        if noting and not hints.dry_run:  # what is refused was said, too
            note_said(self.sessions, session, at, data_class=hints.data_class)
        ruling = ruled(
            configuration,
            caller,
            hints,
            request.model,
            session.said,
            request.structure,
            off=self.keeper.off,
        )
        task, standing, policy = ruling.task, ruling.standing, ruling.policy
        routing = configuration.derive(Routings).of(ruling.asked, standing, request.dialect)
        require_tools(policy, request.offered)
        if policy.keeps_nothing:
            request = request.kept_nowhere()
        draw_key = f"{task.name}\x1f{routing.draw_key}"
        unit = unit_of(
            secrets=self.keeper.secrets.users.of_units,
            app=app.name,
            app_digest=app.digest,
            user=caller.user(hints.user),
            session=hints.session,
            stateless=app.entry.unit is UnitKind.CALL,
            now=at.epoch_s,
            draw_key=draw_key,
        )
        seed = unit.key or self._nonces.take()
        route = self._share(routing, app, unit, seed, draw_key, at)
        if maker is not None:
            route = route_to(standing.strategy, maker)
        if route is None:
            return None
        task_index = beliefs.row(app, task.name)
        review_key = routing.choices if route.is_guarded else None
        choices = beliefs.choices.get(review_key) if review_key else None
        makers = await self.thoughts.makers_of(app.name, request.thoughts, configuration.catalog)
        translations = Translations(request, begun_at_s=at.epoch_s, makers=makers)
        constraints = configuration.derive(Filter.of)
        demand = demand_of(caller, request, policy, translations, lacking=constraints.lacking)
        category = beliefs.category(app, task_index)
        most = None if demand.max_tokens is None else demand.max_tokens * request.n_answers
        size = CallSize(demand.text_bytes, most, self.sizes, at.epoch_s)
        eligible = constraints.apply(
            demand, self.health, self.sizes, at.monotonic_s, at_s=at.epoch_s
        )
        return CallContext(
            caller=caller,
            request=request,
            hints=hints,
            task=task,
            role=ruling.asked.role.role,
            standing=standing,
            policy=policy,
            task_index=task_index,
            category=category,
            strategy=standing.strategy,
            route=with_law_in_force(route, choices, task_index, beliefs),
            eligibility=within_limits(
                eligible, ruling.usual, standing, policy.rules, beliefs, category, size
            ),
            translations=translations,
            unit=unit,
            draw_key=draw_key,
            seed=seed,
            beliefs=beliefs,
            explore=may_explore(policy),
            review_key=review_key,
            choices=choices,
            at=at,
            session=session,
        )

    async def session_of(
        self, configuration: Configuration, caller: Caller, hints: Hints, at: Moment
    ) -> CallSession:
        """Return the session of a call, with what its earlier calls said; most have none."""
        if hints.session is None:
            return NO_SESSION
        # Whoever asks: some calls of a client name no user, and carry the same conversation.
        secrets = self.keeper.secrets.users.of_units
        return await self.sessions.of(
            configuration, secrets, caller.app, hints.session, now=at.epoch_s
        )

    def learn_size(self, endpoint: Endpoint, request: CallRequest, tokens: int) -> None:
        """Take note of what a prompt that was answered was counted as, if it is text alone."""
        if not request.needs & MEDIA_NEEDS and request.text_bytes:
            self.sizes.learn(endpoint.digest, request.text_bytes, tokens)

    def _share(
        self, routing: Routing, app: App, unit: Unit, seed: bytes, draw_key: str, at: Moment
    ) -> Route | None:
        """Return how the unit is routed: the app's percentage of them is drawn."""
        if self.keeper.off:
            return routing.off
        percent = app.entry.percent
        if percent >= 100:
            return routing.within
        began_ms = self.draws.began_ms(unit, now=at.epoch_s)
        secret, seed = self._secret.at(began_ms), unit.seed(began_ms) or seed
        is_within = uniforms(secret, seed, draw_key).share * 100 < percent
        return routing.within if is_within else routing.beyond

    async def decide(self, context: CallContext) -> Decision:
        """Return the decision of a call; the first call of a unit claims its draw.

        Raises:
            NoCandidates: no endpoint may serve it.
        """
        note_said(self.sessions, context.session, context.at, task=context.task.of_session)
        if context.route.law is None:
            return Decision(context, self._plan(context), self._nonces.take())
        if context.review_key is not None and context.choices is None:
            self.keeper.want(context.review_key)
        held = await held_draw(self.draws, context)
        endpoint = self._standing(context, held)
        if held is None or endpoint is None:
            plan = self._plan(context)
            if plan.drawing is None:  # nobody healthy may serve: an outage ends no stored draw
                return Decision(context, plan, self._nonces.take())
            given = _given(context, plan)
            held = await self._claim(context, context.unit.key, given, instead_of=held)
            if held is None or held == given:
                note_conversation(self.draws, context, given)
                return Decision(context, plan, self._nonces.take())
            endpoint = self._standing(context, held) or plan.drawn
        note_conversation(self.draws, context, held)
        breaker = self.health.breakers[endpoint.digest]
        if stand_ins.may_serve(context.unit, held, breaker, context.at):
            relieved = await self._relieve(context, held, endpoint)
            if relieved is not None:
                return relieved
        plan = self._follow(context, held, endpoint)
        return Decision(context, plan, self._nonces.take(), held)

    async def _relieve(
        self, context: CallContext, held: StoredDraw, endpoint: Endpoint
    ) -> Decision | None:
        """Return the decision of a unit's stand-in; None where it has none and draws none.

        Args:
            held: the unit's first draw, which stays.
            endpoint: that it names.
        """
        unit = context.unit
        assert unit.key is not None  # no other unit has a stand-in
        key = stand_ins.key_of(unit.key, held)
        found = await self.draws.find_stand_in(key, unit, first=held, now=context.at.epoch_s)
        substitute = self._standing(context, found)
        if found is None or substitute is None:
            if not self.health.breakers[endpoint.digest].is_out(context.at.monotonic_s):
                return None
            plan = self._plan(structs.replace(context, seed=key))
            if plan.drawing is None:
                return None
            given = _given(context, plan)
            found = await self._claim(context, key, given, instead_of=found)
            if found is None or found == given:
                return Decision(context, plan, self._nonces.take(), stands_in_for=endpoint)
            substitute = self._standing(context, found) or plan.drawn
        plan = self._follow(context, found, substitute)
        return Decision(context, plan, self._nonces.take(), found, endpoint)

    async def _claim(
        self,
        context: CallContext,
        key: bytes | None,
        given: StoredDraw,
        *,
        instead_of: StoredDraw | None,
    ) -> StoredDraw | None:
        """Return the draw that the unit has now; None where the call stands for itself."""
        now = context.at.epoch_s
        if key is None:
            return None
        held = await self.draws.claim(
            key,
            given,
            context.unit,
            now=now,
            instead_of=instead_of,
            waited_s=context.session.waited_s,
        )
        if held != given and self._standing(context, held) is None:
            held = await self.draws.claim(key, given, context.unit, now=now, instead_of=held)
        return held

    async def foresee(self, context: CallContext) -> Endpoint:
        """Return who would serve the call now, as far as that is settled; nothing is drawn for it.

        That is whom the unit drew or the one that stands in, else the incumbent, else the first
        that may serve as listed.

        Raises:
            NoCandidates: no endpoint may serve it.
        """
        unit, route = context.unit, context.route
        held = await held_draw(self.draws, context)
        if held is None and unit.key is not None:
            held = await self.draws.find(unit.key, unit, now=context.at.epoch_s)
        standing = self._standing(context, held)
        if held is not None and standing is not None and route.law is not None:
            held, standing, _ = self._in_force(context, held, standing)
            plan = self._follow(context, held, standing)
        else:
            plan = self._plan(structs.replace(context, route=structs.replace(route, law=None)))
        return planner.server_of(plan)

    def preview(self, context: CallContext) -> dict[str, Any]:
        """Return what would be decided, and why; nothing is stored or sent.

        Raises:
            NoCandidates: no endpoint may serve it.
        """
        plan = fresh = self._plan(context)
        now = context.at.epoch_s
        held = self.draws.get(context.unit.key, now=now) if context.unit.key else None
        standing, stands_in_for = self._standing(context, held), None
        if held is not None and standing is not None:
            held, standing, stands_in_for = self._in_force(context, held, standing)
            plan = self._follow(context, held, standing)
        plan = structs.replace(plan, drawn=planner.server_of(plan))
        shown = Foreseen(plan, fresh, standing is not None, stands_in_for)
        return told_of(context, shown, off=self.keeper.off)

    def _in_force(
        self, context: CallContext, held: StoredDraw, endpoint: Endpoint
    ) -> tuple[StoredDraw, Endpoint, Endpoint | None]:
        """Return a unit's draw or the stand-in for it, as far as this process knows."""
        unit, breaker = context.unit, self.health.breakers[endpoint.digest]
        if unit.key is not None and stand_ins.may_serve(unit, held, breaker, context.at):
            key = stand_ins.key_of(unit.key, held)
            found = self.draws.get(key, now=context.at.epoch_s)
            substitute = self._standing(context, found)
            if found is not None and substitute is not None and found != held:
                return found, substitute, endpoint
        return held, endpoint, None

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
            numbers=uniforms(self._secret.at(), context.seed, context.draw_key),
            explore=context.explore,
        )

    def _standing(self, context: CallContext, held: StoredDraw | None) -> Endpoint | None:
        """Return the endpoint of a draw unless that has ended."""
        return endpoint_held(context, held, self.keeper.forgotten.since_ms)


def _given(context: CallContext, plan: Plan) -> StoredDraw:
    """Return a fresh draw as it is stored."""
    at_ms, version = context.at.store_ms, context.beliefs.version
    return StoredDraw(plan.drawn.digest, plan.propensity, at_ms, version, plan.step or Step.SAMPLE)
