"""The plan of a call: who serves it, who is next, and with what probability. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bandit.assignment import law_under, numbers_under, step_under
from bandit.draws import LEARNING, Draw, Law, Table, Uniforms, draw, propensities
from bandit.limits import Limit
from bandit.pacing import with_price
from bandit.steps import Step
from bandit.utility import Objective
from router.beliefs.beliefs import Beliefs
from router.config.entries import Fallback
from router.config.exclusions import BINDING, OF_RULES, Exclusion
from router.decision.last_resort import last_resort
from router.decision.limiting import drawn_within, told_of, without
from router.endpoints.catalog import Catalog, Endpoint
from router.policy.constraints import Eligibility
from router.policy.route import Route


class Drawing(Struct, frozen=True):
    """What a draw was made from: the law in force for the call, and the table under it."""

    law: Law
    table: Table
    mask: NDArray[np.bool_]  # (n_arms,) endpoints that could be drawn


class Plan(Struct, frozen=True):
    """What was decided for one call, before anything was sent."""

    route: Route
    category: int
    eligibility: Eligibility
    drawn: Endpoint
    propensity: float
    step: Step | None  # None where nothing was drawn
    beliefs: Beliefs
    drawing: Drawing | None = None  # None where this call drew nothing
    relaxed: tuple[Limit, ...] = ()  # soft limits that gave way in the draw

    @property
    def drawn_now(self) -> bool:
        """Whether this call drew, rather than followed."""
        return self.drawing is not None

    @property
    def by_incumbent(self) -> bool:
        """Whether the drawn endpoint is of the incumbent's group."""
        law = self.route.law
        return law is not None and law.incumbent == self.drawn.group

    def shares(self) -> dict[str, float]:
        """Return the probability that each endpoint had, where it had any."""
        if self.drawing is None:
            return {self.drawn.id: 1.0}
        catalog = self.beliefs.configuration.catalog
        return endpoint_shares(self.drawing.law, self.drawing.table, catalog)

    @property
    def objective(self) -> Objective:
        """What the draw maximised, with the value of a success where it has one."""
        return objective_of(self.route, self.beliefs, self.category)

    def then(self) -> Iterator[Endpoint]:
        """Yield whom to try next, best first, as far as this call may fall back.

        Soft limits come first: who keeps them is tried before anybody else. Where the call's own
        rules forbid the drawn one, it goes to the first that is listed, whatever it may fall to;
        where a budget does that is used up, to the cheapest.
        """
        instead = self._instead() if self.is_forbidden else None
        if instead is not None:
            yield instead
        if self.route.fallback is Fallback.NONE or not self.eligibility.mask.any():
            return
        asked_first = _keeps_key(self) or instead
        for endpoint in self._ranked():
            if endpoint is not instead and not _is_foreign(endpoint, asked_first or endpoint):
                asked_first = asked_first or endpoint
                yield endpoint

    def _ranked(self) -> Iterable[Endpoint]:
        """Everybody else who may serve, by group and host, those within the limits before them."""
        catalog = self.beliefs.configuration.catalog
        table = self._ranking()
        groups = list(catalog.kin[self.drawn.group])
        if self.route.fallback is Fallback.ANY:
            ranked = np.argsort(-np.where(table.eligible, table.utility, -np.inf), kind="stable")
            groups += [int(g) for g in ranked if g not in groups]
        hosts = (
            endpoint
            for group in groups
            if table.eligible[group]
            for endpoint in _hosts(catalog, table, group, self)
        )
        if not self.eligibility.limits.asked:
            return hosts
        others = self.eligibility.mask.copy()
        others[self.drawn.index] = False
        near, _ = drawn_within(self.eligibility, self.beliefs, self.category, others)
        return sorted(hosts, key=lambda endpoint: not near[endpoint.index])

    @property
    def is_forbidden(self) -> bool:
        """Whether this call's own rules forbid the drawn endpoint: hints, session or user."""
        return self.eligibility.reasons[self.drawn.index] in OF_RULES

    def _instead(self) -> Endpoint | None:
        """Return who serves where the drawn endpoint is forbidden."""
        if self.eligibility.reasons[self.drawn.index] is Exclusion.BUDGET_SPENT:
            return _cheapest(self.route, self.eligibility, self.beliefs.configuration.catalog)
        return first_listed(self.route, self.eligibility)

    def _ranking(self) -> Table:
        """The table of all who are eligible; its means do not depend on the law."""
        law = self.route.law or LEARNING
        return self.beliefs.table(self.category, self.objective, law, self.eligibility.mask)


def plan(
    route: Route,
    eligibility: Eligibility,
    beliefs: Beliefs,
    *,
    category: int,
    numbers: Uniforms,
    explore: bool = True,
) -> Plan:
    """Return the plan of a call that draws, or for which nothing is drawn.

    Args:
        explore: False holds the call to the choice: s = 1 and ε = 0. In learning mode, which has
            no choice yet, that is the group of the best posterior mean utility.

    Raises:
        NoCandidates: no endpoint may serve the call; carries the reasons.
    """
    catalog = beliefs.configuration.catalog
    if route.law is None:
        first = _straight(route, eligibility, catalog)
        return Plan(route, category, eligibility, first, 1.0, None, beliefs)
    inside = within_groups(route, eligibility, catalog)
    # Of all endpoints the reasons say it, and much sooner than numpy.
    if not (None in eligibility.reasons if inside is eligibility else inside.mask.any()):
        drawn = last_resort(route, eligibility, catalog)
        return Plan(route, category, eligibility, drawn, 1.0, Step.FAILOVER, beliefs)
    law = route.law
    cheapest = (
        _cheapest(route, inside, catalog) if Exclusion.BUDGET_SPENT in inside.reasons else None
    )
    if cheapest is not None:  # nothing is drawn: that comes once the budget begins anew
        step = Step.STAY if cheapest.group in (law.incumbent, law.current) else Step.FAILOVER
        return Plan(route, category, eligibility, cheapest, 1.0, step, beliefs)
    instead = _instead_of_choice(route, law, inside, catalog)
    if instead is not None:
        return Plan(route, category, eligibility, instead, 1.0, Step.FAILOVER, beliefs)
    return _drawn(route, eligibility, inside, beliefs, category, numbers, explore=explore)


def _drawn(
    route: Route,
    eligibility: Eligibility,
    inside: Eligibility,
    beliefs: Beliefs,
    category: int,
    numbers: Uniforms,
    *,
    explore: bool,
) -> Plan:
    """Return the plan of a call that draws.

    Args:
        inside: who may be drawn of those who may serve.
    """
    law, catalog = route.law, beliefs.configuration.catalog
    assert law is not None  # without one nothing is drawn
    if not (explore or law.is_learning):
        law = replace(law, challengers=())  # nor where the choice may not serve
    mask, relaxed = drawn_within(eligibility, beliefs, category, inside.mask)
    mask = without(mask, route.barred) if route.barred else mask
    side, members = route.assignment if explore else None, catalog.group_members
    assigned = law_under(side, law, lambda g: any(mask[a] for a in members[g]))
    if assigned is not None:
        law, numbers = assigned, numbers_under(numbers)
    table = beliefs.table(category, objective_of(route, beliefs, category), law, mask)
    if not explore:
        law = without_exploring(law, table)
    given: Draw = draw(law, table, numbers)
    drawing, step = Drawing(law, table, mask), given.step
    if assigned is not None and side is not None:
        step = step_under(side, step)
    drawn, p = catalog.endpoints[given.arm], given.propensity
    return Plan(route, category, eligibility, drawn, p, step, beliefs, drawing, relaxed)


def objective_of(route: Route, beliefs: Beliefs, category: int) -> Objective:
    """Return what a route's strategy maximises; a trade compares with the incumbent's cost.

    Where there is none, as in learning mode, with that of the first that is listed. The price that
    keeps budgets makes cost count more.
    """
    compared = route.first or route.listed[0]
    objective = beliefs.objective(route.strategy, category, compared.index)
    return with_price(objective, route.price) if route.price else objective


def limits_of(plan: Plan) -> dict[str, Any]:
    """Return what a fresh draw keeps to: limits, those that gave way, and who was outside.

    With what a success is worth, where money counts.
    """
    catalog, drawing = plan.beliefs.configuration.catalog, plan.drawing
    outside: list[str] = []
    if drawing is not None:
        inside = within_groups(plan.route, plan.eligibility, catalog).mask & ~drawing.mask
        outside = [catalog.endpoints[arm].id for arm in np.flatnonzero(inside).tolist()]
    return {
        "limits": told_of(plan.eligibility.limits),
        "relaxed": list(plan.relaxed),
        "outside_limits": outside,
        "value_usd": plan.objective.value_usd,
        "price_of_money": plan.route.price,
    }


def first_listed(route: Route, eligibility: Eligibility) -> Endpoint | None:
    """Return the first that may serve a call, of those that its `model` field may mean."""
    for endpoint in route.listed:
        is_meant = route.groups is None or endpoint.group in route.groups
        if is_meant and eligibility.mask[endpoint.index]:
            return endpoint
    return None


def _cheapest(route: Route, eligibility: Eligibility, catalog: Catalog) -> Endpoint | None:
    """Return who serves of those that a budget which is used up leaves: the choice, if it may."""
    law, mask, groups = route.law, eligibility.mask, route.groups
    choice = () if law is None else (law.current, law.incumbent)
    left = [e for e in catalog.endpoints if mask[e.index] and (groups is None or e.group in groups)]
    return next((e for e in left if e.group in choice), left[0] if left else None)


def _instead_of_choice(
    route: Route, law: Law, inside: Eligibility, catalog: Catalog
) -> Endpoint | None:
    """Return who serves where a call's own rules forbid all that it might be drawn from."""
    reasons, members = inside.reasons, catalog.group_members
    if law.incumbent is None or any(reasons[arm] not in OF_RULES for arm in members[law.incumbent]):
        return None  # most often
    groups = {g for g in (law.incumbent, law.current, *(law.challengers or ())) if g is not None}
    if any(inside.mask[arm] for group in groups for arm in members[group]):
        return None
    return first_listed(route, inside)


def has_others(plan: Plan) -> bool:
    """Return whether anybody beside the drawn endpoint may serve the call."""
    fallback, drawn = plan.route.fallback, plan.drawn
    if fallback is Fallback.NONE:
        return False
    if _keeps_key(plan) is None:
        return len(list(plan.then())) > 1
    catalog, mask = plan.beliefs.configuration.catalog, plan.eligibility.mask
    arms: Iterable[int] = range(len(catalog.endpoints))
    if fallback is Fallback.GROUP:
        arms = (arm for group in catalog.kin[drawn.group] for arm in catalog.group_members[group])
    for arm in arms:  # the first or second of them, most often
        if arm != drawn.index and mask[arm] and not _is_foreign(catalog.endpoints[arm], drawn):
            return True
    return False


def last_resort_of(plan: Plan) -> Endpoint:
    """Return whom to ask where nobody may serve a call whose unit has its draw.

    Raises:
        NoCandidates, Overloaded: policy forbids everybody, or they have enough to do.
    """
    catalog = plan.beliefs.configuration.catalog
    return last_resort(plan.route, plan.eligibility, catalog, plan.drawn)


def without_exploring(law: Law, table: Table) -> Law:
    """Return the law that holds a call to the choice, or in learning mode to the best group."""
    current = law.current
    if current is None:
        current = int(np.where(table.eligible, table.utility, -np.inf).argmax())
    return replace(law, current=current, floor=0.0, stay=1.0, explores_hosts=False)


def follow(
    route: Route,
    eligibility: Eligibility,
    beliefs: Beliefs,
    *,
    category: int,
    drawn: Endpoint,
    propensity: float,
    step: Step,
) -> Plan:
    """Return the plan of a call whose unit has its draw already."""
    return Plan(route, category, eligibility, drawn, propensity, step, beliefs)


def may_serve(plan: Plan, endpoint: Endpoint) -> bool:
    """Return whether an endpoint may serve the call.

    A straight route asks for privacy and hard limits only.
    """
    reason = plan.eligibility.reasons[endpoint.index]
    if endpoint is plan.drawn and (plan.route.law is None or plan.step is Step.FAILOVER):
        return reason not in BINDING
    return reason is None


def server_of(plan: Plan) -> Endpoint:
    """Return who would serve the call now: the drawn endpoint, else who is next.

    Raises:
        NoCandidates, Overloaded: nobody may.
    """
    if may_serve(plan, plan.drawn):
        return plan.drawn
    return next(plan.then(), None) or last_resort_of(plan)


def within_groups(route: Route, eligibility: Eligibility, catalog: Catalog) -> Eligibility:
    """Return the eligible endpoints among the groups that may be drawn."""
    mask, limits = eligibility.mask, eligibility.limits
    if route.groups is not None:
        mask = mask & np.array([e.group in route.groups for e in catalog.endpoints])
    if route.preferred is not None:
        wanted = mask & np.array([e.index in route.preferred for e in catalog.endpoints])
        mask = wanted if wanted.any() else mask
    if mask is eligibility.mask:
        return eligibility
    return Eligibility(mask, eligibility.reasons, limits=limits)


def group_shares(law: Law, table: Table) -> list[float]:
    """Return the probability of each group, for explanations."""
    return [float(p) for p in propensities(law, table)]


def endpoint_shares(law: Law, table: Table, catalog: Catalog) -> dict[str, float]:
    """Return the probability of each endpoint that can be drawn."""
    out: dict[str, float] = {}
    for group, p in enumerate(group_shares(law, table)):
        if p > 0:
            inside = table.host_shares(group, explores=law.explores_hosts)
            out |= {catalog.endpoints[arm].id: p * share for arm, share in inside.items()}
    return out


def _straight(route: Route, eligibility: Eligibility, catalog: Catalog) -> Endpoint:
    """Return whom a call that is not routed goes to.

    Only privacy and hard limits can turn it from the first.
    """
    if route.first is not None and eligibility.reasons[route.first.index] not in BINDING:
        return route.first
    for endpoint in route.listed:
        if eligibility.mask[endpoint.index]:
            return endpoint
    return last_resort(route, eligibility, catalog)


def _hosts(catalog: Catalog, table: Table, group: int, of: Plan) -> Iterator[Endpoint]:
    counts = np.bincount(table.hosts(group), minlength=len(catalog.endpoints))
    for arm in sorted(catalog.group_members[group], key=lambda a: -counts[a]):
        endpoint = catalog.endpoints[arm]
        if endpoint is not of.drawn and of.eligibility.reasons[arm] is None:
            yield endpoint


def _keeps_key(plan: Plan) -> Endpoint | None:
    """Return the endpoint whose host alone may see the caller's own key; None: whoever is first.

    An outage takes a key nowhere else. What the drawn endpoint may not serve at all was never
    going to take the key there.
    """
    reason = plan.eligibility.reasons[plan.drawn.index]
    if reason is None:
        return plan.drawn  # most often
    may_be_asked = reason in (Exclusion.BREAKER, Exclusion.IN_FLIGHT)
    return plan.drawn if may_be_asked or plan.route.law is None else None


def _is_foreign(endpoint: Endpoint, drawn: Endpoint) -> bool:
    """Return whether the caller's own key would go to another host than it was meant for."""
    return endpoint.client_auth and endpoint.target.authority != drawn.target.authority
