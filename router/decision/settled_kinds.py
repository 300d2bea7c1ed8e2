"""What is settled of all calls of one kind by a configuration: worked out for the first of them.

A kind is what one ruling holds for, in one dialect. Most of it follows from the configuration, and
goes with that; what follows from beliefs as well (the law in force, who keeps a hard limit) is
settled anew as soon as they are others. Who the unit is, how endpoints are doing, how long the call
is, and what its budgets have left are looked at call by call. What is remembered does not hold the
beliefs, so that these go, banks and all, with the last call that is under them.
"""

from __future__ import annotations

from msgspec import Struct

from bandit.draws import Law
from router.beliefs.beliefs import Beliefs
from router.beliefs.choices import Choices
from router.beliefs.kept import ReviewKey
from router.config.compiled import Configuration
from router.decision.context import Routing, Routings, with_law_in_force
from router.decision.limiting import CallSize, within_limits
from router.decision.ruling import Guess, Ruling
from router.decision.rulings import MAX_NAMES, ruled
from router.decision.said import SessionSaid
from router.dialects.request import PLAIN, CallRequest
from router.endpoints.capabilities import Needs
from router.endpoints.entries import Dialect
from router.endpoints.health import Health
from router.endpoints.token_sizes import TokenSizes
from router.policy.callers import Caller
from router.policy.constraints import Demand, Eligibility, Filter
from router.policy.exploring import may_explore
from router.policy.hints import Hints
from router.policy.route import Route
from router.policy.tasks import FoundBy
from router.translation.translations import Translations

MAX_KINDS = 4096
_GENERAL = FoundBy.GENERAL
MAX_ELIGIBLE = 256
"""Of one kind: needs of calls that some endpoint does not meet, and agreements that ended."""


class RoutedKind(Struct, frozen=True, eq=False):
    """A kind of call on one route."""

    asked: Route
    route: Route  # the same under the law in force
    review_key: ReviewKey | None  # None where no choices apply
    choices: Choices | None
    learning: Law  # by which its law is what it is
    mark: object  # of the beliefs whose choices these are


class CallKinds:
    """The kinds of calls that came under one configuration."""

    def __init__(self, _: Configuration) -> None:
        self._known: dict[tuple[object, int], SettledKind] = {}
        self._usual: dict[tuple[object, ...], tuple[Ruling, SettledKind]] = {}
        self._places: object = None  # by which rows tasks are decided in what is known

    def settled(
        self,
        beliefs: Beliefs,
        caller: Caller,
        hints: Hints,
        request: CallRequest,
        said: SessionSaid,
        guess: Guess | None,
        off: bool,
    ) -> tuple[Ruling, SettledKind]:
        """Return what holds for a call, and its kind.

        Both are found at once of a call that says nothing of what holds for it, and whose
        structure no rule looks at, or has nothing that rules could look at.

        Raises:
            RequestRejected: a hint that cannot be followed.
        """
        if beliefs.places is not self._places:
            self._known.clear()
            self._usual.clear()
            self._places = beliefs.places
        configuration, key = beliefs.configuration, None
        if hints.is_usual and not off and hints.user not in configuration.users:
            app, model, dialect = caller.app.name, request.model, request.dialect
            key = (app, caller.holder, model, said.task, said.level, id(dialect))
            known = self._usual.get(key)
            if known is not None and _holds(known[0], configuration, request, guess):
                return known  # most often
        read, model = request.structure, request.model
        ruling = ruled(configuration, caller, hints, model, said, read, off=off, guess=guess)
        found = ruling, self.of(ruling, request.dialect, beliefs)
        if key is not None and _is_kept(ruling, configuration, request, guess):
            if len(self._usual) >= MAX_KINDS:
                self._usual.clear()
            self._usual[key] = found
        return found

    def of(self, ruling: Ruling, dialect: Dialect, beliefs: Beliefs) -> SettledKind:
        """Return the kind of a call.

        Args:
            beliefs: of which these are the kinds.
        """
        key = (ruling.mark, id(dialect))  # which is one object; its hash is slow
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= MAX_KINDS:
                self._known.clear()
            found = self._known[key] = SettledKind(beliefs, ruling, dialect)
        return found


def _holds(
    ruling: Ruling, configuration: Configuration, request: CallRequest, guess: Guess | None
) -> bool:
    """Return whether what holds for calls that say nothing of it holds for this one as well."""
    if guess is not None and ruling.task.found_by is _GENERAL:
        return False
    if not ruling.by_structure:
        return True
    return request.structure(read_system=configuration.reads_system) is PLAIN


def _is_kept(
    ruling: Ruling, configuration: Configuration, request: CallRequest, guess: Guess | None
) -> bool:
    """Return whether a ruling may be remembered: no word of a prompt gave it its task."""
    is_guessed = guess is not None and ruling.task.found_by is FoundBy.CLASSIFIER
    if is_guessed or len(request.model) > MAX_NAMES:
        return False
    return _holds(ruling, configuration, request, guess)


class SettledKind:
    """One kind of calls, under one configuration."""

    __slots__ = (
        "_caps_cost",
        "_constraints",
        "_eligible",
        "_is_limited",
        "_mark",
        "_routed",
        "_ruling",
        "category",
        "draw_key",
        "is_part",
        "keeps_nothing",
        "may_explore",
        "release",
        "routing",
        "task_index",
        "told",
    )

    def __init__(self, beliefs: Beliefs, ruling: Ruling, dialect: Dialect) -> None:
        configuration: Configuration = beliefs.configuration
        app, task = ruling.standing.app, ruling.task.name
        self._ruling = ruling
        self._constraints = configuration.derive(Filter.of)
        self._routed: list[RoutedKind] = []
        self._eligible: dict[tuple[object, ...], Eligibility] = {}
        self._is_limited = _is_limited(ruling)
        self._mark: object = None  # of the beliefs by which who is eligible keeps hard limits
        self.routing: Routing = configuration.derive(Routings).of(
            ruling.asked, ruling.standing, dialect
        )
        self.release = f"{task}\x1f{self.routing.release}"
        self.is_part = self.routing.part is not None
        self.draw_key = self.release if self.routing.part is None else self.routing.part
        self.told = hash((app.digest, self.is_part, self.draw_key))  # to tell its units apart
        self.task_index = beliefs.row(app, task)
        self.category = beliefs.category(app, self.task_index)
        self.may_explore = may_explore(ruling.policy)
        self.keeps_nothing = ruling.policy.keeps_nothing
        self._caps_cost = ruling.policy.rules.cost_usd is not None

    def on(self, route: Route, beliefs: Beliefs) -> RoutedKind:
        """Return it on a route: one of its routing's, or one that a single call has."""
        for known in self._routed:
            if known.asked is route:
                if known.mark is beliefs.mark or (
                    known.review_key is None and known.learning is beliefs.learning
                ):
                    return known
                self._routed.remove(known)
                break
        review_key = self.routing.choices if route.is_guarded else None
        choices = beliefs.choices.get(review_key) if review_key else None
        name, index = self._ruling.task.name, self.task_index
        law = with_law_in_force(route, choices, name, index, beliefs, locked=self.is_part)
        found = RoutedKind(route, law, review_key, choices, beliefs.learning, beliefs.mark)
        routing = self.routing
        if any(route is one for one in (routing.within, routing.beyond, routing.off)):
            self._routed.append(found)
        return found

    def eligible(
        self,
        request: CallRequest,
        translations: Translations,
        health: Health,
        sizes: TokenSizes,
        now: float,
        beliefs: Beliefs,
        at_s: float,
        has_credential: bool,
    ) -> Eligibility:
        """Return who may serve a call, by its needs, the rules, the limits, and how all are doing.

        Args:
            now: monotonic seconds.
            at_s: the same time in epoch seconds.
            has_credential: the caller has a key of its own that may go on.
        """
        if self._is_limited and self._mark is not beliefs.mark:
            self._eligible.clear()
            self._mark = beliefs.mark
        constraints, keeps_nothing = self._constraints, self.keeps_nothing
        needs, text_bytes, most = request.needs, request.text_bytes, request.output_limit
        if constraints.lacking & Needs.PARALLEL_TOOLS and request.calls_together():
            needs |= Needs.PARALLEL_TOOLS
        key = None
        if not (
            self._caps_cost
            or keeps_nothing
            or translations.have_makers
            or constraints.is_unusual(request.dialect, text_bytes, most, health, sizes, at_s)
        ):
            lapsed = constraints.lapsed(at_s) if constraints.agreed else ()
            key = (needs & constraints.lacking, has_credential, lapsed)
            known = self._eligible.get(key)
            if known is not None:
                return known  # most often
        demand = Demand(
            dialect=request.dialect,
            needs=needs,
            rules=self._ruling.policy.places,
            has_credential=has_credential,
            text_bytes=text_bytes,
            max_tokens=most,
            translations=translations,
            keeps_nothing=keeps_nothing,
        )
        found = constraints.apply(demand, health, sizes, now, at_s=at_s)
        found = self._within_limits(found, demand, request, sizes, at_s, beliefs)
        if key is not None:
            if len(self._eligible) >= MAX_ELIGIBLE:
                self._eligible.clear()
            self._eligible[key] = found
        return found

    def _within_limits(
        self,
        eligible: Eligibility,
        demand: Demand,
        request: CallRequest,
        sizes: TokenSizes,
        at_s: float,
        beliefs: Beliefs,
    ) -> Eligibility:
        ruling = self._ruling
        most = None if demand.max_tokens is None else demand.max_tokens * request.n_answers
        size = CallSize(demand.text_bytes, most, sizes, at_s)
        rules, category = ruling.policy.rules, self.category
        return within_limits(
            eligible, ruling.usual, ruling.standing, rules, beliefs, category, size
        )


def _is_limited(ruling: Ruling) -> bool:
    """Return whether beliefs say who is eligible: some hard limit is asked for."""
    rules = ruling.policy.rules
    if rules.cost_usd is not None or rules.latency_ms is not None:
        return True
    holders = (ruling.standing.strategy, ruling.standing.role, ruling.usual.strategy)
    return any(one is not None and one.limits.hard for one in (*holders, ruling.usual.role))
