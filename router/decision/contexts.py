"""What is settled of a call before a draw: task, rules, route, unit, and who may serve it.

Whatever the configuration says is read from the beliefs that the call started with.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import structs

from router.beliefs.beliefs import Beliefs
from router.beliefs.keeper import Keeper
from router.budgets.claims import Claims, find_claims
from router.budgets.exploring import ExploringCeilings
from router.budgets.prices import MoneyPrices
from router.config.compiled import App, Configuration
from router.decision.at_cheapest import at_cheapest
from router.decision.call_units import CallUnits
from router.decision.context import (
    CallContext,
    Moment,
    Routing,
    require_tools,
)
from router.decision.continuing import may_go_on, may_keep, task_kept
from router.decision.draws import Draws
from router.decision.first_calls import first_call, is_aside
from router.decision.guessing import PromptLook, look_at
from router.decision.held import note_said
from router.decision.held_to import hints_under
from router.decision.nonces import Nonces
from router.decision.paced import with_price
from router.decision.said import NO_SESSION, CallSession, FirstCall
from router.decision.sessions import Sessions
from router.decision.settled_kinds import CallKinds
from router.decision.stored_ids import StoredIds
from router.decision.units import Unit, uniforms, user_hash
from router.decision.within_budgets import within_budgets
from router.dialects.request import CallRequest
from router.endpoints.capabilities import MEDIA_NEEDS
from router.endpoints.catalog import Endpoint
from router.endpoints.health import Health
from router.endpoints.token_sizes import TokenSizes
from router.errors import RequestRejected, RouterError
from router.policy.callers import Caller
from router.policy.hints import Headers, Hints, read_hints
from router.policy.profiled import apart_from_traffic, profile_route, require_pinned
from router.policy.route import Route, route_to
from router.policy.spend_tags import NO_TAG, SpendTag, tag_of
from router.policy.standing import AppStanding
from router.translation.carried import NOBODY
from router.translation.translations import Translations
from telemetry.secret import DrawsSecret


class Contexts:
    """Settles what holds for calls; one for the process."""

    def __init__(
        self,
        keeper: Keeper,
        health: Health,
        draws: Draws,
        thoughts: StoredIds,
        secret: DrawsSecret,
        sessions: Sessions,
        ceilings: ExploringCeilings,
    ) -> None:
        self.ceilings = ceilings
        self.keeper = keeper
        self.health = health
        self.draws = draws
        self.thoughts = thoughts
        self.sessions = sessions
        self.secret = secret
        self.sizes = TokenSizes()
        self.nonces = Nonces()
        self._units = CallUnits(keeper)
        self.prices = MoneyPrices()

    async def of(
        self,
        beliefs: Beliefs,
        caller: Caller,
        headers: Headers,
        request: CallRequest,
        at: Moment,
        *,
        maker: Endpoint | None = None,
        noting: bool = True,
        draws: bool = True,
    ) -> CallContext | None:
        """Return what is settled before a draw; None where no endpoint lists the model.

        Args:
            beliefs: those that the call started with.
            maker: at which that lies from which the call goes on: then nothing is drawn.
            noting: whether what it says holds for later calls of its session.
            draws: whether it is decided, and so may be its session's first.

        Raises:
            RequestRejected: a hint that cannot be followed.
        """
        configuration, app, holder = beliefs.configuration, caller.app, caller.holder
        has_user = holder is not None and holder.user is not None
        hints = read_hints(headers, request.declared, configuration.classes, has_user=has_user)
        look = first = None
        if configuration.prompts.tell_apart:
            look = look_at(configuration, app, request, hints)
        session = NO_SESSION
        if hints.session is not None:
            if look is not None:
                claims, off = noting and draws and not hints.dry_run, self.keeper.off
                first = first_call(
                    configuration, caller, hints, request, look, at, off=off, claims=claims
                )
            secrets, named = self.keeper.secrets.users.of_units, hints.session
            if hints.is_users:
                named = _session_in(caller, hints)
            known = self.sessions.known(configuration, secrets, app, named, at.epoch_s, first)
            session = known or await self.session_of(configuration, caller, hints, at, first)
            if hints.data_class is not None and noting and not hints.dry_run:
                # What is refused was said, too.
                note_said(self.sessions, session, at, data_class=hints.data_class)
        try:
            return await self._of(
                beliefs, caller, hints, request, at, session=session, look=look, maker=maker
            )
        except RouterError:
            await self.sessions.take_back(session, now=at.epoch_s)
            raise

    async def _of(
        self,
        beliefs: Beliefs,
        caller: Caller,
        hints: Hints,
        request: CallRequest,
        at: Moment,
        *,
        session: CallSession,
        look: PromptLook | None,
        maker: Endpoint | None,
    ) -> CallContext | None:
        """Return what is settled of a call of which its session is known."""
        if hints.is_agents and is_aside(hints, request):
            session = session.aside()
        if hints.profile:
            require_pinned(hints, request.model, beliefs.configuration.catalog.by_id)
            hints, session = apart_from_traffic(hints), session.as_heard()
        makers, marks, app = NOBODY, request.thoughts, caller.app.name
        if marks:
            catalog = beliefs.configuration.catalog
            makers = await self.thoughts.makers_of(app, marks, catalog)
        settle = self._settle
        context = settle(beliefs, caller, hints, request, at, session, look, maker, makers)
        if context is None or context.unit.is_session or maker is not None:
            return context  # most often
        kept = await task_kept(self.draws, context) if may_keep(context) else None
        if kept is None:
            return context
        try:
            said = structs.replace(session.said, task=kept)
            session = structs.replace(session, said=said)
            other = settle(beliefs, caller, hints, request, at, session, look, maker, makers)
        except RequestRejected:  # by a rule of that task: it is its own that it goes by
            return context
        forgotten = self.keeper.forgotten.since_ms
        return other if other and await may_go_on(self.draws, other, forgotten) else context

    def _settle(
        self,
        beliefs: Beliefs,
        caller: Caller,
        hints: Hints,
        request: CallRequest,
        at: Moment,
        session: CallSession,
        look: PromptLook | None,
        maker: Endpoint | None,
        makers: Mapping[str, Endpoint],
    ) -> CallContext | None:
        configuration, app, off = beliefs.configuration, caller.app, self.keeper.switch.off
        guess = None if look is None else look.steer if session.is_first else look.suggest
        ruling, kind = configuration.derive(CallKinds).settled(
            beliefs, caller, hints, request, session.said, guess, off
        )
        standing, policy = ruling.standing, ruling.policy
        if policy.rules.tools:
            require_tools(policy, request.offered)
        if kind.keeps_nothing:
            request = request.kept_nowhere()
        unit = self._units.of(caller, hints, kind, at)
        seed = unit.key or self.nonces.take()
        routing = kind.routing
        if off:
            route = routing.off
        elif app.entry.percent >= 100:
            route = routing.within
        else:
            route = self._share(routing, app, unit, seed, kind.draw_key, at, session=session)
        if maker is not None:
            route = route_to(standing.strategy, maker)
        elif hints.profile:
            route = profile_route(standing.strategy, request.model, configuration.catalog)
        if route is None:
            return None
        translations = Translations(request, begun_at_s=at.epoch_s, makers=makers)
        eligible = kind.eligible(
            request,
            translations,
            self.health,
            self.sizes,
            at.monotonic_s,
            beliefs,
            at.epoch_s,
            bool(caller.credentials),
        )
        spend_tag = tag_of(app, hints) if app.spend_tag is not None else NO_TAG
        claims: Claims = ()
        if configuration.budgets:
            claims = self.claims_of(configuration, caller, hints, spend_tag, at, standing=standing)
        if claims and not off:
            endpoints = configuration.catalog.endpoints
            eligible = within_budgets(
                eligible, claims, request, translations, endpoints, at_s=at.epoch_s
            )
        ceilings = None
        if app.ceilings is not None and not hints.profile:
            ceilings = self.ceilings.of(app, at.store_ms / 1000)
        routed = kind.on(route, beliefs)
        explores = kind.may_explore and not (ceilings is not None and ceilings.why)
        context = CallContext(  # by position: to name each takes longer than all else here
            caller,
            request,
            hints,
            ruling.task,
            None if hints.profile else ruling.asked.role.role,
            standing,
            policy,
            kind.task_index,
            kind.category,
            standing.strategy,
            routed.route,
            eligible,
            translations,
            unit,
            kind.draw_key,
            kind.release,
            seed,
            beliefs,
            explores,
            routed.review_key,
            routed.choices,
            at,
            session,
            spend_tag,
            claims,
            ceilings,
            maker=maker,
            look=look,
        )
        return with_price(context, self.prices, self.secret.at()) if claims else context

    async def under(self, context: CallContext, spent: Claims) -> CallContext | None:
        """Return what is settled of a call anew, by what these budgets say instead of it.

        Args:
            spent: budgets of its that are used up, and that do not refuse it.

        Raises:
            RequestRejected: nothing can be settled by them.
        """
        found: CallContext | None = context
        hints = hints_under(context.hints, spent)
        if hints is not context.hints:
            found = await self._of(
                context.beliefs,
                context.caller,
                hints,
                context.request,
                context.at,
                session=context.session,
                look=context.look,
                maker=context.maker,
            )
        held_to = (*context.held_to, *spent)
        return found and at_cheapest(structs.replace(found, held_to=held_to))

    def claims_of(
        self,
        configuration: Configuration,
        caller: Caller,
        hints: Hints,
        tag: SpendTag,
        at: Moment,
        *,
        standing: AppStanding,
        is_routed: bool = True,
    ) -> Claims:
        """Return the accounts of budgets that a call counts in, by the store's clock.

        Args:
            is_routed: else no strategy is its own.
        """
        if not configuration.budgets:
            return ()  # most often
        app, user = caller.app.name, caller.user(hints.user)
        secret, user_key = self.keeper.secrets.users.of_units.now, ""
        if user is not None:  # whom the configuration names is the same one in every app
            user_key = user_hash(secret, "" if user in configuration.users else app, user).hex()
        said = {
            "app": app,
            "user": user,
            "tag": tag.name or None,
            "role": standing.role.name if standing.role is not None else None,
            "strategy": standing.strategy.name if is_routed else None,
        }
        at_s = at.store_ms / 1000
        return find_claims(configuration.budgets, said, user_key=user_key, at_s=at_s)

    async def session_of(
        self,
        configuration: Configuration,
        caller: Caller,
        hints: Hints,
        at: Moment,
        first: FirstCall | None = None,
    ) -> CallSession:
        """Return the session of a call, with what its earlier calls said; most have none.

        Args:
            first: what is settled if it has none.
        """
        if hints.session is None:
            return NO_SESSION
        secrets, session = self.keeper.secrets.users.of_units, _session_in(caller, hints)
        now = at.epoch_s
        return await self.sessions.of(
            configuration, secrets, caller.app, session, now=now, first=first
        )

    def learn_size(self, endpoint: Endpoint, request: CallRequest, tokens: int) -> None:
        """Take note of what a prompt that was answered was counted as, if it is text alone."""
        if not request.needs & MEDIA_NEEDS and request.text_bytes:
            self.sizes.learn(endpoint.digest, request.text_bytes, tokens)

    def _share(
        self,
        routing: Routing,
        app: App,
        unit: Unit,
        seed: bytes,
        draw_key: str,
        at: Moment,
        *,
        session: CallSession,
    ) -> Route | None:
        """Return how the unit is routed: the app's percentage of sessions, or of slots, is drawn.

        Args:
            session: which is within as a whole, in all its tasks and roles, or not at all.
        """
        percent = app.entry.percent
        began_ms = self.draws.began_ms(unit, now=at.epoch_s)
        secret, seed = self.secret.at(began_ms), unit.seed(began_ms) or seed
        if session.episode:
            seed, draw_key = session.episode.to_bytes(8, "little"), ""
        is_within = uniforms(secret, seed, draw_key).share * 100 < percent
        return routing.within if is_within else routing.beyond


def _session_in(caller: Caller, hints: Hints) -> str:
    """Return a declared session as it is known in its app, whoever asks.

    Some calls of a client name no user, and carry the same conversation.
    """
    session = hints.session or ""
    return f"{caller.user(hints.user)}\x1f{session}" if hints.is_users else session
