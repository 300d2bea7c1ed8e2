"""What holds for an app, and in each of its tasks and roles, before a call says anything. Pure.

Each field comes with who set it. What keys, users, sessions and calls say comes on top: it can
only tighten what is hard here, and goes before what is preferred, each in its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from router.config.compiled import App, Configuration, Role
from router.config.entries import GENERAL, AppEntry, Mode
from router.config.rules import (
    NOTHING,
    PREFERENCES,
    Level,
    MergedPolicy,
    PolicyRules,
    says,
    why_forbidden,
)
from router.endpoints.catalog import Endpoint
from router.endpoints.entries import Dialect
from router.errors import RequestRejected
from router.policy.route import CHALLENGED, ModelField, find_route, incumbent_of
from router.policy.standing import AppStanding, PolicyTable, choose_strategy
from router.policy.telling import shown_value

BUILT_IN = (Level.BUILT_IN,)
AUTOMATIC = ModelField("auto", automatic=True)
LEARNING_MODE = "none"


class EffectiveField(Struct, frozen=True):
    """A field, what holds, and which levels set it: several, where none of them alone did."""

    name: str
    value: Any  # as JSON has it; None: nothing
    by: tuple[Level, ...]


class EffectivePolicy(Struct, frozen=True):
    """What holds for calls of an app, of a task and in a role."""

    app: str
    task: str
    role: str | None
    is_usual: bool  # of calls that say nothing
    fields: tuple[EffectiveField, ...]

    def beside(self, usual: EffectivePolicy) -> list[EffectiveField]:
        """Return the fields that differ from those of another policy."""
        known = {field.name: field for field in usual.fields}
        own = [field for field in self.fields if known.get(field.name) != field]
        names = {field.name for field in self.fields}
        gone = [f for f in usual.fields if f.name not in names]
        return own + [EffectiveField(f.name, None, BUILT_IN) for f in gone]


def effective_policies(
    configuration: Configuration, app: App, at_s: float
) -> tuple[EffectivePolicy, list[EffectivePolicy]]:
    """Return what holds for an app's calls that say nothing, and of each task and role.

    Of the others only those are there in which anything differs.

    Args:
        at_s: moment, in epoch seconds: agreements end.
    """
    usual = effective_policy(configuration, app, None, None, at_s)
    others = []
    for role, task in _others(configuration, usual.task):
        found = effective_policy(configuration, app, role, task, at_s)
        if found.beside(usual):
            others.append(found)
    return usual, others


def effective_policy(
    configuration: Configuration, app: App, role: Role | None, task: str | None, at_s: float
) -> EffectivePolicy:
    """Return what holds for an app's calls in a role and of a task.

    Args:
        task: None is the role's first, else the app's own.
        at_s: moment, in epoch seconds.
    """
    usual = app.entry.task or GENERAL
    if task is None:
        task = next(iter(role.entry.tasks), usual) if role is not None else usual
    chosen = choose_strategy(configuration, app, role, task)
    table = configuration.derive(PolicyTable)
    standing = table.of(app, role, task, chosen.strategy)
    policy = table.policy(standing, NOTHING)
    fields = [
        EffectiveField("strategy", chosen.strategy.name, (chosen.level,)),
        *_routing(configuration, app.entry, standing),
        *_incumbents(configuration, standing),
        *_permitted(configuration, policy, at_s),
        *_rules(policy),
    ]
    is_usual = role is None and task == usual
    return EffectivePolicy(app.name, task, role.name if role else None, is_usual, tuple(fields))


def _others(configuration: Configuration, usual: str) -> Iterator[tuple[Role | None, str]]:
    """Yield what calls may be of, beside what they are of by themselves."""
    for task in configuration.tasks:
        if task != usual and task not in configuration.implied:
            yield None, task
    for role in configuration.roles.values():
        if role.entry.active:
            for task in role.entry.tasks or [usual]:
                yield role, task


def _routing(
    configuration: Configuration, entry: AppEntry, standing: AppStanding
) -> Iterator[EffectiveField]:
    """Yield the mode, and how far calls that fail may go."""

    def of_app(name: str) -> tuple[Level, ...]:
        return (Level.APP,) if name in entry.model_fields_set else BUILT_IN

    yield EffectiveField("mode", entry.mode.value, of_app("mode"))
    if entry.mode is Mode.PINNED:
        yield EffectiveField("endpoint", entry.endpoint, of_app("endpoint"))
    by = of_app("fallback") if entry.fallback is not None else BUILT_IN
    catalog = configuration.catalog
    first = next(iter(standing.permitted), catalog.endpoints[0])
    spoken = next((one for one in CHALLENGED if first.takes(one)), Dialect.CHAT)
    for name, target in (("auto", AUTOMATIC), ("named", ModelField(first.model))):
        try:
            route = find_route(target, standing, catalog, dialect=spoken, share=0.0, off=False)
        except RequestRejected:  # a model's name that is an endpoint's id, in another dialect
            continue
        if route is not None:
            yield EffectiveField(f"fallback.{name}", route.fallback.value, by)


def _incumbents(configuration: Configuration, standing: AppStanding) -> Iterator[EffectiveField]:
    """Yield the incumbent of each dialect that somebody takes, and who named it."""
    level = _who_named(standing)
    for dialect in Dialect:
        takers = [e for e in standing.permitted if e.takes(dialect)]
        if not takers:
            continue
        incumbent = incumbent_of(standing, dialect)
        if incumbent is None and dialect in CHALLENGED:
            yield EffectiveField(f"incumbent.{dialect.value}", LEARNING_MODE, (level,))
            continue
        if incumbent not in takers:  # of vectors, of which nothing is learned: who makes them
            incumbent = takers[0]
        by = level if incumbent is standing.named else Level.BUILT_IN
        yield EffectiveField(f"incumbent.{dialect.value}", incumbent.id, (by,))


def _who_named(standing: AppStanding) -> Level:
    parts = standing.policy.parts
    return next((level for level, part in parts if part.incumbent is not None), Level.BUILT_IN)


def _permitted(
    configuration: Configuration, policy: MergedPolicy, at_s: float
) -> Iterator[EffectiveField]:
    """Yield who may serve, and of each who may not the reason, and whose rules it breaks."""
    permitted: list[str] = []
    forbidden: list[EffectiveField] = []
    for endpoint in configuration.catalog.endpoints:
        why = why_forbidden(policy.rules, endpoint.place, at_s)
        if why is None:
            permitted.append(endpoint.id)
        else:
            by = _who_forbids(policy, endpoint, at_s)
            forbidden.append(EffectiveField(f"excluded.{endpoint.id}", why.value, by))
    levels = {level for field in forbidden for level in field.by}
    by = tuple(level for level in Level if level in levels) or BUILT_IN
    yield EffectiveField("permitted", permitted, by)
    yield from forbidden


def _who_forbids(policy: MergedPolicy, endpoint: Endpoint, at_s: float) -> tuple[Level, ...]:
    forbid = [
        level
        for level, rules in policy.parts
        if why_forbidden(rules, endpoint.place, at_s) is not None
    ]
    return tuple(dict.fromkeys(forbid)) or tuple(dict.fromkeys(one for one, _ in policy.parts))


def _rules(policy: MergedPolicy) -> Iterator[EffectiveField]:
    """Yield every field of the merged rules; strategy and incumbent are told before."""
    for name in PolicyRules.__struct_fields__:
        if name in PREFERENCES[:2]:
            continue
        value = getattr(policy.rules, name)
        if not says(policy.rules, name):
            yield EffectiveField(name, False if value is False else None, BUILT_IN)
            continue
        said = [(one, getattr(part, name)) for one, part in policy.parts if says(part, name)]
        alone = [level for level, own in said if own == value]
        by = alone or [level for level, _ in said]
        levels = tuple(dict.fromkeys(by[:1] if name in PREFERENCES else by))
        yield EffectiveField(name, shown_value(name, value), levels)
