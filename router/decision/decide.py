"""From what is settled of a call to its decision: what its unit drew, or a draw.

The same steps serve a call and its dry run; only a call claims its draw in the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from msgspec import Struct, structs

from bandit.steps import Step
from router.config.entries import Fallback
from router.config.exclusions import Exclusion
from router.decision import planner, stand_ins
from router.decision.assigning import numbers_of
from router.decision.context import CallContext
from router.decision.contexts import Contexts
from router.decision.continuing import note_task
from router.decision.ended import EndedDraw
from router.decision.endings import Endings, seed_of
from router.decision.held import (
    endpoint_held,
    goes_by_conversation,
    held_draw,
    note_conversation,
    note_said,
)
from router.decision.paced import note_call
from router.decision.planner import Plan
from router.decision.preview import Foreseen, told_of
from router.decision.progress import SessionProgress
from router.decision.shared_draws import DrawEnding, StoredDraw
from router.endpoints.breaker import NEVER
from router.endpoints.catalog import Endpoint
from router.errors import RouterError


class Decision(Struct, frozen=True):
    """A call's plan with what it is booked under."""

    context: CallContext
    plan: Plan
    nonce: bytes
    held: StoredDraw | None = None  # the stored draw that it follows
    stands_in_for: Endpoint | None = None  # which the unit drew first, and whose breaker is open
    ended: EndedDraw | None = None  # the unit's draw before, which ended here
    replaces: bool = False  # a draw whose endpoint is gone, or was named by an alarm
    first_step: Step | None = None  # of a stand-in: by which its unit drew first, and its side

    @property
    def assigned_by(self) -> Step | None:
        """The step that says on which side of a comparison its unit is; None: nothing was drawn."""
        return self.first_step or self.plan.step

    @property
    def ending(self) -> DrawEnding | None:
        """By what the unit's draw ended, where it drew anew here for that."""
        return self.ended.kind if self.ended is not None else None

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

    def __init__(self, contexts: Contexts) -> None:
        self.contexts = contexts
        self.keeper = contexts.keeper
        self.health = contexts.health
        self.draws = contexts.draws
        self.sessions = contexts.sessions
        self._secret = contexts.secret
        self._nonces = contexts.nonces
        self.sessions.on_ended = self.draws.ask_again
        self._claiming: set[bytes] = set()  # units for which a call waits for the store
        self.progress = SessionProgress()
        episodes = contexts.keeper.episodes
        self._endings = Endings(contexts.keeper.history, lambda: episodes.lengths, self.progress)

    async def decide(self, context: CallContext) -> Decision:
        """Return the decision of a call; the first call of a unit claims its draw.

        A call that is refused opens no session.

        Raises:
            NoCandidates: no endpoint may serve it.
        """
        try:
            task = context.task.of_session
            if task is not None:
                note_said(self.sessions, context.session, context.at, task=task)
            if context.claims:
                note_call(context, self.contexts.prices)
            return self._followed(context) or await self._decide(context)
        except RouterError:
            await self.sessions.take_back(context.session, now=context.at.epoch_s)
            raise

    def _followed(self, context: CallContext) -> Decision | None:
        """Return the decision of a session that goes on as most do; None: there is more to see."""
        unit, route = context.unit, context.route
        if not unit.is_session or unit.key is None or route.law is None:
            return None
        if context.review_key is not None and context.choices is None:
            return None
        held = self.draws.get(unit.key, now=context.at.epoch_s)
        endpoint = endpoint_held(context, held, self.keeper.forgotten.since_ms)
        if held is None or endpoint is None:
            return None
        breaker = self.health.breakers[endpoint.digest]
        if breaker.open_since is not None or breaker.outage_ended_at != NEVER:
            return None  # a stand-in may serve it
        if self._endings.of(context, held, endpoint) is not None:
            return None
        plan = Plan(
            route,
            context.category,
            context.eligibility,
            endpoint,
            held.propensity,
            held.step,
            context.beliefs,
        )
        return Decision(context, plan, self._nonces.take(), held)

    async def _decide(self, context: CallContext) -> Decision:
        if context.route.law is None:
            return Decision(context, self._plan(context), self._nonces.take())
        if context.review_key is not None and context.choices is None:
            self.keeper.want(context.review_key)
        held, unit = None, context.unit
        if unit.key is not None and unit.is_session:
            held = self.draws.get(unit.key, now=context.at.epoch_s)
        if held is None:
            held = await held_draw(self.draws, context)
        endpoint = self._standing(context, held)
        if held is None or endpoint is None:
            plan = self._plan(context)
            if plan.drawing is None:  # nobody healthy may serve: an outage ends no stored draw
                return Decision(context, plan, self._nonces.take())
            given, replaces, key = _given(context, plan), held is not None, context.unit.key
            is_first = self._is_first(context, held)
            with self._claims(key):
                held = await self._claim(context, key, given, instead_of=held)
            if held is None or (held == given and is_first):
                self._note_conversation(context, given)
                return Decision(context, plan, self._nonces.take(), replaces=replaces)
            endpoint = self._standing(context, held) or plan.drawn
        breaker = self.health.breakers[endpoint.digest]
        if stand_ins.may_serve(unit, held, breaker, context.at) and _may_relieve(context):
            relieved = await self._relieve(context, held, endpoint)
            if relieved is not None:
                self._note_conversation(context, held)
                return relieved
        ended = self._ended(context, held, endpoint)
        if ended is not None:
            moved = await self._move(context, held, ended)
            if moved is not None:
                return moved
        self._note_conversation(context, held)
        plan = self._follow(context, held, endpoint)
        return Decision(context, plan, self._nonces.take(), held)

    def _note_conversation(self, context: CallContext, given: StoredDraw) -> None:
        """Have the next call of this conversation find what this one goes by, and in which task."""
        if context.unit.is_session:
            return  # most often: it is found by its session
        note_conversation(self.draws, context, given)
        note_task(self.draws, context)

    def _is_first(self, context: CallContext, held: StoredDraw | None) -> bool:
        """Return whether no call that came at the same time draws for the unit as well.

        Args:
            held: what the unit had when this one looked.
        """
        key = context.unit.key
        if key is None:
            return True
        known = self.draws.get(key, now=context.at.epoch_s)
        return key not in self._claiming and (known is None or known == held)

    @contextmanager
    def _claims(self, key: bytes | None) -> Iterator[None]:
        """Have calls that come meanwhile know that one claims a draw: it drew, and they follow."""
        if key is None or key in self._claiming:
            yield
            return
        self._claiming.add(key)
        try:
            yield
        finally:
            self._claiming.discard(key)

    async def _move(
        self, context: CallContext, held: StoredDraw, ended: EndedDraw
    ) -> Decision | None:
        """Return the decision of a unit whose draw ends here; None where nothing may be drawn.

        Args:
            held: the unit's draw.
            ended: why it ends.
        """
        key = context.unit.key
        assert key is not None  # no other unit has a draw
        plan = self._plan(structs.replace(context, seed=seed_of(key, held)))
        if plan.drawing is None or key in self._claiming:
            return None
        given = structs.replace(_given(context, plan), ending=ended.kind)
        with self._claims(key):
            found = await self._claim(context, key, given, instead_of=held)
        self._note_conversation(context, found or given)
        if found is None or found == given:
            self.sessions.tell_ended(key)
            return Decision(context, plan, self._nonces.take(), ended=ended)
        endpoint = self._standing(context, found) or plan.drawn
        plan = self._follow(context, found, endpoint)
        return Decision(context, plan, self._nonces.take(), found)

    def _ended(
        self, context: CallContext, held: StoredDraw, endpoint: Endpoint
    ) -> EndedDraw | None:
        """Return why a unit's draw ends now; a conversation that goes on has a cache to lose."""
        ended = self._endings.of(context, held, endpoint)
        if ended is None or goes_by_conversation(self.draws, context):
            return None
        return ended

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
                nonce, step = self._nonces.take(), held.step
                return Decision(context, plan, nonce, None, endpoint, first_step=step)
            substitute = self._standing(context, found) or plan.drawn
        plan = self._follow(context, found, substitute)
        nonce, step = self._nonces.take(), held.step
        return Decision(context, plan, nonce, found, endpoint, first_step=step)

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

    def preview(
        self, context: CallContext, server_of: Callable[[Plan], Endpoint] = planner.server_of
    ) -> dict[str, Any]:
        """Return what would be decided, and why; nothing is stored or sent.

        Args:
            server_of: returns who would serve the call; what it raises passes through.

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
            if stands_in_for is None and self._ended(context, held, standing) is not None:
                seed = seed_of(context.unit.key or b"", held)
                plan, standing = self._plan(structs.replace(context, seed=seed)), None
        plan = structs.replace(plan, drawn=server_of(plan))
        shown = Foreseen(plan, fresh, standing is not None, stands_in_for)
        return told_of(context, shown, off=self.keeper.off)

    def _in_force(
        self, context: CallContext, held: StoredDraw, endpoint: Endpoint
    ) -> tuple[StoredDraw, Endpoint, Endpoint | None]:
        """Return a unit's draw or the stand-in for it, as far as this process knows."""
        unit, breaker = context.unit, self.health.breakers[endpoint.digest]
        if not _may_relieve(context):
            return held, endpoint, None
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
            numbers=numbers_of(context, self._secret.at()),
            explore=context.explore,
        )

    def _standing(self, context: CallContext, held: StoredDraw | None) -> Endpoint | None:
        """Return the endpoint of a draw unless that has ended."""
        return endpoint_held(context, held, self.keeper.forgotten.since_ms)


def _may_relieve(context: CallContext) -> bool:
    """Return whether a stand-in may be drawn: in a locked app, only if it says `fallback: any`."""
    return not context.is_locked or context.route.fallback is Fallback.ANY


def _given(context: CallContext, plan: Plan) -> StoredDraw:
    """Return a fresh draw as it is stored."""
    at_ms, version = context.at.store_ms, context.beliefs.version
    return StoredDraw(plan.drawn.digest, plan.propensity, at_ms, version, plan.step or Step.SAMPLE)
