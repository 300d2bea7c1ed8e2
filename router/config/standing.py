"""What an app says once and for all: which endpoints may ever serve it, whatever a call asks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from msgspec import Struct

from router.config.entries import BUILT_IN_STRATEGY, GENERAL, AppEntry, File, Mode
from router.config.exclusions import Exclusion
from router.config.levels import parent_of
from router.config.masking import Place
from router.config.policies import ConstraintsEntry, compile_rules
from router.config.policy_checks import check_policies
from router.config.rules import Level, PolicyRules, merge, why_forbidden
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
        return Combination(app, task, None, self._strategy(entry, task, None))

    def reached_by_hints(self, app: str) -> Iterator[Combination]:
        """Yield what an app's calls are that name a task or a role."""
        entry = self._entries.all_apps[app]
        own = entry.task or GENERAL
        for task in self._entries.all_tasks:
            if task != own:
                yield Combination(app, task, None, self._strategy(entry, task, None))
        for role, said in self._entries.roles.items():
            if said.active:
                yield self._in_role(app, role)

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
        return Combination(app, task, role, self._strategy(entry, task, role))

    def _parts(self, combination: Combination) -> Iterator[tuple[Level, PolicyRules]]:
        entries = self._entries
        role = entries.roles.get(combination.role or "")
        strategy = entries.strategy(combination.strategy)
        parent = parent_of(combination.task) or ""
        said: list[tuple[Level, ConstraintsEntry | None]] = [
            (Level.ROLE, role),
            (Level.TASK, entries.all_tasks.get(combination.task)),
            (Level.TASK, entries.all_tasks.get(parent)),
            (Level.APP, entries.all_apps[combination.app]),
            (Level.ORGANISATION, entries.organisation),
            (Level.STRATEGY, strategy),
        ]
        for level, entry in said:
            if entry is not None:
                yield level, compile_rules(entry, self._known, self._classes)
        if not (entries.all_apps[combination.app].data_class or entries.organisation.data_class):
            yield Level.BUILT_IN, PolicyRules(data_class=self._classes.usual)

    def _strategy(self, app: AppEntry, task: str, role: str | None) -> str:
        entries = self._entries
        said: Sequence[str | None] = (
            entries.roles[role].strategy if role else None,
            app.strategies.get(task),
            entries.all_tasks[task].strategy if task in entries.all_tasks else None,
            app.strategy,
            entries.organisation.strategy,
        )
        return next((name for name in said if name is not None), BUILT_IN_STRATEGY)

    def _place(self, index: int) -> Whereabouts:
        entries = self._entries
        endpoint = entries.endpoints[index]
        provider = entries.providers.get(endpoint.provider or "", ProviderEntry())
        model = entries.models.get(endpoint.model) or ModelEntry()
        return place_of(endpoint, provider, model, self._classes)


def explained(why: Exclusion, rules: PolicyRules, place: Whereabouts) -> str:
    """Return why a place is forbidden, with what the rules want and what it says of itself."""
    terms = place.terms
    said: dict[Exclusion, tuple[str, object, object]] = {
        Exclusion.REGION: ("region", terms.region, _names(rules.regions)),
        Exclusion.JURISDICTION: ("jurisdiction", terms.jurisdiction, _names(rules.jurisdictions)),
        Exclusion.ZONE: ("zone", terms.zone, _names(rules.zones)),
        Exclusion.RETENTION: ("retention_days", terms.retention_days, rules.retention_days),
        Exclusion.TRAINING: ("trains_on_data", terms.trains_on_data, "false"),
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


_PLURAL = {"region": "regions", "jurisdiction": "jurisdictions", "zone": "zones"}


def _names(names: frozenset[str] | None) -> str:
    return ", ".join(sorted(names or ()))
