"""What an app says once and for all: which endpoints may ever serve it, whatever a call asks."""

from __future__ import annotations

import math
from collections.abc import Iterator

from msgspec import Struct

from router.config.entries import BUILT_IN_STRATEGY, GENERAL, AppEntry, File, Mode
from router.config.exclusions import Exclusion
from router.config.levels import parent_of
from router.config.masking import Place
from router.config.policies import ConstraintsEntry, compile_rules
from router.config.policy_checks import check_policies
from router.config.rules import Level, PolicyRules, merge, usual_rules, why_forbidden
from router.config.strategies import Exchangeable
from router.endpoints.compiling import place_of
from router.endpoints.data_classes import DataClasses
from router.endpoints.entries import ModelEntry, ProviderEntry
from router.endpoints.places import Whereabouts

ALWAYS = -math.inf
"""Before any agreement ended: what ends by date is a warning, and refuses no file."""


class Combination(Struct, frozen=True):
    """Calls of an app that say nothing, or name a task or a role."""

    app: str
    task: str
    role: str | None
    strategy: str
    named_at: Place  # where the strategy is
    user: str | None = None


def check_standing(entries: File) -> Iterator[tuple[Place, str, str]]:
    """Yield apps that nobody may serve, and named endpoints that may not: place, value, hint.

    Nothing is asked of what hints alone may reach: there a call that nobody may serve is refused.
    """
    if any(True for _ in check_policies(entries)):
        return  # that is told, and of what is not known nobody knows what it permits
    checker = _Checker(entries)
    for name in entries.all_apps:
        combination = checker.own(name)
        where: Place = ("apps", name)
        forbidden = checker.forbidden(combination)
        if len(forbidden) == len(entries.endpoints):
            reasons = "; ".join(f"{id_}: {why}" for id_, why in forbidden.items())
            yield where, name, f"no endpoint may serve this app: {reasons}"
            continue
        yield from checker.check_named(combination, forbidden)
    yield from checker.check_roles()
    yield from checker.check_jurisdictions()


def warn_of_unreachable(entries: File) -> list[str]:
    """Return a line for each task and role in which nobody may serve an app."""
    checker = _Checker(entries)
    out = []
    for name in entries.all_apps:
        for combination in checker.reached_by_hints(name):
            forbidden = checker.forbidden(combination)
            if len(forbidden) == len(entries.endpoints):
                at = f"role {combination.role}" if combination.role else f"task {combination.task}"
                out.append(
                    f"no endpoint may serve app {name} in {at}: such calls are refused (409); "
                    + "; ".join(f"{id_}: {why}" for id_, why in forbidden.items())
                )
    return out


class _Checker:
    """The merged rules of a file's apps, and whom they forbid."""

    def __init__(self, entries: File) -> None:
        self._entries = entries
        self._classes = DataClasses(entries.classes)
        self._known = entries.known_places
        self._places = [self._place(i) for i in range(len(entries.endpoints))]

    def own(self, app: str) -> Combination:
        """Return what an app's calls are that say nothing."""
        entry = self._entries.all_apps[app]
        task = entry.task or GENERAL
        return Combination(app, task, None, *self._strategy(app, entry, task, None))

    def reached_by_hints(self, app: str) -> Iterator[Combination]:
        """Yield what an app's calls are that name a task or a role."""
        entry = self._entries.all_apps[app]
        own = entry.task or GENERAL
        for task in self._entries.all_tasks:
            if task != own:
                yield Combination(app, task, None, *self._strategy(app, entry, task, None))
        for role, said in self._entries.roles.items():
            if said.active:
                yield self._in_role(app, role)

    def of_users(self, app: str) -> Iterator[Combination]:
        """Yield what an app's calls are that come of a user with a strategy, and say nothing."""
        own = self.own(app)
        for name, user in self._entries.users.items():
            goes_before = own.named_at[0] in ("strategies", "organisation")
            may_come = user.app in (None, app) and goes_before
            if user.strategy is not None and may_come:
                where = ("users", name, "strategy")
                yield Combination(app, own.task, None, user.strategy, where, name)

    def forbidden(self, combination: Combination) -> dict[str, str]:
        """Return by its id why each endpoint is forbidden that is."""
        rules = merge(list(self._parts(combination))).rules
        reasons = ((place, why_forbidden(rules, place, ALWAYS)) for place in self._places)
        return {p.name: explained(why, rules, p) for p, why in reasons if why is not None}

    def check_named(
        self, combination: Combination, forbidden: dict[str, str]
    ) -> Iterator[tuple[Place, str, str]]:
        """Yield what an app names though its own rules forbid it."""
        app = self._entries.all_apps[combination.app]
        named = {"incumbent": app.incumbent}
        if app.mode is Mode.PINNED:
            named["endpoint"] = app.endpoint
        strategy = self._entries.strategy(combination.strategy)
        if app.incumbent is None and strategy is not None:
            named["strategy"] = strategy.incumbent
        is_pinned = strategy is not None and strategy.exchange is Exchangeable.NONE
        if is_pinned and not any(named.values()):
            named["endpoint"] = app.endpoint
        for field, endpoint in named.items():
            if endpoint in forbidden:
                hint = f"the app's own constraints forbid it: {forbidden[endpoint]}"
                yield ("apps", combination.app, field), endpoint, hint

    def check_roles(self) -> Iterator[tuple[Place, str, str]]:
        """Yield incumbents of roles that the rules forbid in whichever app the role is."""
        for name, role in self._entries.roles.items():
            apps = [self._in_role(app, name) for app in self._entries.all_apps]
            reasons = [self.forbidden(one).get(role.incumbent or "") for one in apps]
            if role.active and role.incumbent and all(reasons):
                hint = f"the role's own constraints, or its apps', forbid it: {reasons[0]}"
                yield ("roles", name, "incumbent"), role.incumbent, hint

    def _in_role(self, app: str, role: str) -> Combination:
        entry = self._entries.all_apps[app]
        task = next(iter(self._entries.roles[role].tasks), entry.task or GENERAL)
        return Combination(app, task, role, *self._strategy(app, entry, task, role))

    def check_jurisdictions(self) -> Iterator[tuple[Place, str, str]]:
        """Yield each place that names a strategy which asks for jurisdictions that nobody says."""
        told = set()
        for app in self._entries.all_apps:
            for one in (self.own(app), *self.reached_by_hints(app), *self.of_users(app)):
                strategy = self._entries.strategy(one.strategy)
                if strategy is None or not strategy.require_jurisdictions or one.named_at in told:
                    continue
                if merge(list(self._parts(one))).rules.jurisdictions is None:
                    told.add(one.named_at)
                    yield one.named_at, one.strategy, no_jurisdictions(one.strategy)

    def _parts(self, combination: Combination) -> Iterator[tuple[Level, PolicyRules]]:
        entries = self._entries
        role = entries.roles.get(combination.role or "")
        lineage = entries.lineage(combination.strategy)
        parent = parent_of(combination.task) or ""
        said: list[tuple[Level, ConstraintsEntry | None]] = [
            (Level.ROLE, role),
            (Level.TASK, entries.all_tasks.get(combination.task)),
            (Level.TASK, entries.all_tasks.get(parent)),
            (Level.APP, entries.all_apps[combination.app]),
            (Level.USER, entries.users.get(combination.user or "")),
            (Level.ORGANISATION, entries.organisation),
        ]
        parts = [
            (level, compile_rules(entry, self._known, self._classes))
            for level, entry in said
            if entry is not None
        ]
        if lineage is not None:
            parts.append((Level.STRATEGY, lineage.rules(self._known, self._classes)))
            parts.append((Level.BUILT_IN, usual_rules(parts, lineage.entry.usual_retention_days)))
        yield from parts
        if not (entries.all_apps[combination.app].data_class or entries.organisation.data_class):
            yield Level.BUILT_IN, PolicyRules(data_class=self._classes.usual)

    def _strategy(self, name: str, app: AppEntry, task: str, role: str | None) -> tuple[str, Place]:
        """Return the strategy of an app's calls, and where it is named, else where it stands."""
        entries, tasks = self._entries, [task, parent_of(task) or ""]
        said: list[tuple[Place, str | None]] = []
        if role is not None:
            said.append((("roles", role, "strategy"), entries.roles[role].strategy))
        said += [(("apps", name, "strategies", one), app.strategies.get(one)) for one in tasks]
        for one in tasks:
            if one in entries.all_tasks:
                said.append((("tasks", one, "strategy"), entries.all_tasks[one].strategy))
        said.append((("apps", name, "strategy"), app.strategy))
        said.append((("organisation", "strategy"), entries.organisation.strategy))
        found = ((named, where) for where, named in said if named is not None)
        return next(found, (BUILT_IN_STRATEGY, ("strategies", BUILT_IN_STRATEGY)))

    def _place(self, index: int) -> Whereabouts:
        entries = self._entries
        endpoint = entries.endpoints[index]
        provider = entries.providers.get(endpoint.provider or "", ProviderEntry())
        model = entries.models.get(endpoint.model) or ModelEntry()
        return place_of(endpoint, provider, model, self._classes)


def no_jurisdictions(strategy: str) -> str:
    """Return what to write where a strategy asks for jurisdictions and no level says any."""
    return (
        f"{strategy} asks under whose law content may lie; write jurisdictions: [EU], or whichever "
        "they are, on the strategy, app, role, task, user or organisation"
    )


def explained(why: Exclusion, rules: PolicyRules, place: Whereabouts) -> str:
    """Return why a place is forbidden, with what the rules want and what it says of itself."""
    terms = place.terms
    said: dict[Exclusion, tuple[str, object, object]] = {
        Exclusion.REGION: ("region", terms.region, _names(rules.regions)),
        Exclusion.JURISDICTION: ("jurisdiction", terms.jurisdiction, _names(rules.jurisdictions)),
        Exclusion.ZONE: ("zone", terms.zone, _names(rules.zones)),
        Exclusion.RETENTION: ("retention_days", terms.retention_days, rules.retention_days),
        Exclusion.TRAINING: ("trains_on_data", terms.trains_on_data, "false"),
        Exclusion.SMALL_CONTEXT: ("context_tokens", place.context_tokens, rules.context_tokens),
        Exclusion.PRIVATE: ("zone", terms.zone, "local, or zero_retention: true"),
    }
    if why is Exclusion.DATA_CLASS:
        return f"max_data_class is {place.most}, data_class of the app {rules.data_class}"
    if why is Exclusion.NOT_ALLOWED:
        return "its rules about endpoints leave it out"
    if why not in said:
        return why.value.replace("_", " ")
    field, own, wanted = said[why]
    is_said = "not given" if own is None else own
    return f"{field} is {is_said}, {_PLURAL.get(field, field)} of the app {wanted}"


_PLURAL = {
    "region": "regions",
    "jurisdiction": "jurisdictions",
    "zone": "zones",
    "context_tokens": "min_context_tokens",
}


def _names(names: frozenset[str] | None) -> str:
    return ", ".join(sorted(names or ()))
