"""What holds for a release key whatever a call asks: merged rules, who may serve, who is first.

Pure; worked out once for each app, role, task and strategy of a configuration.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from router.config.compiled import App, Configuration, KeyHolder, Role, Strategy
from router.config.entries import BUILT_IN_STRATEGY, GENERAL, NO_INCUMBENT, Users
from router.config.levels import parent_of
from router.config.rules import (
    NOTHING,
    Level,
    MergedPolicy,
    PolicyRules,
    hard_of,
    merge,
    of_places,
    says,
    strictest,
    usual_rules,
    why_forbidden,
)
from router.config.standing import ALWAYS, no_jurisdictions
from router.config.strategies import Exchangeable
from router.config.trades import BALANCED, NOT_SAID
from router.endpoints.catalog import Endpoint
from router.errors import RequestRejected
from telemetry.numbers import brief

MAX_POLICIES = 4096
"""Merged policies remembered; what hints say is the caller's to choose, so there is a bound."""


class AppStanding(Struct, frozen=True, eq=False):
    """What holds for calls of an app in a role, of a task, under a strategy."""

    app: App
    role: Role | None
    task: str
    strategy: Strategy
    policy: MergedPolicy
    permitted: tuple[Endpoint, ...]  # by hard constraints, as listed
    wanted: tuple[Endpoint, ...]  # of those with the capabilities preferred; all, where none has
    named: Endpoint | str | None  # the incumbent that is named, or `none`
    apart: str  # the task, where its own rules permit others than the app's; else empty

    @property
    def role_name(self) -> str:
        """The role's name; empty where there is none."""
        return self.role.name if self.role is not None else ""


class ChosenStrategy(Struct, frozen=True):
    """A strategy, and who set it."""

    strategy: Strategy
    level: Level

    @property
    def asked(self) -> str | None:
        """Its name, where the call itself asks for it."""
        return self.strategy.name if self.level is Level.REQUEST else None


class PolicyTable:
    """The standings of one configuration."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._known: dict[tuple[str, str, str, str], AppStanding] = {}
        self._policies: dict[tuple[object, ...], MergedPolicy] = {}
        self._strategies: dict[tuple[object, ...], ChosenStrategy] = {}

    def of(self, app: App, role: Role | None, task: str, strategy: Strategy) -> AppStanding:
        """Return what stands for an app in a role, of a task, under a strategy."""
        key = (app.name, role.name if role else "", task, strategy.name)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._work_out(app, role, task, strategy)
        return known

    def strategy(
        self,
        app: App,
        role: Role | None,
        task: str,
        *,
        wanted: str | None,
        users: tuple[str | None, str | None],
    ) -> ChosenStrategy:
        """Return what `choose_strategy` says; what callers make up is not remembered.

        Raises:
            RequestRejected: there is no such strategy.
        """
        known = self._configuration.users
        own, named = (user if user in known else None for user in users)
        key = (app.name, role.name if role else "", task, wanted, own, named)
        found = self._strategies.get(key)
        if found is None:
            found = choose_strategy(
                self._configuration, app, role, task, wanted=wanted, users=users
            )
            self._strategies[key] = found
        return found

    def marked(
        self, app: App, role: Role | None, users: tuple[str | None, str | None]
    ) -> PolicyRules:
        """Return the hard constraints of all that a call may be whose structure nobody can read.

        Those are the tasks that a rule marks, each under the strategy that it would have.
        """
        names = [name for name, _ in self._configuration.rules]
        chosen = (self.strategy(app, role, name, wanted=None, users=users) for name in names)
        pairs = zip(names, chosen, strict=True)
        return strictest(self.of(app, role, n, one.strategy).policy.rules for n, one in pairs)

    def usual(self, app: App) -> AppStanding:
        """Return what stands for calls of an app that say nothing else."""
        task = app.entry.task or GENERAL
        chosen = choose_strategy(self._configuration, app, None, task)
        return self.of(app, None, task, chosen.strategy)

    def policy(
        self,
        standing: AppStanding,
        request: PolicyRules,
        *,
        session: PolicyRules = NOTHING,
        holder: KeyHolder | None = None,
        user: str | None = None,
        strategy: str | None = None,
        usual: AppStanding | None = None,
        unread: PolicyRules = NOTHING,
    ) -> MergedPolicy:
        """Return all that holds for one call.

        Args:
            request: what its own hints say.
            session: what earlier calls of its session said.
            user: the name that it gives its user, which nobody checked: it only tightens.
            strategy: that it asks for itself.
            usual: what would stand if the call said nothing; its hard constraints hold as well.
            unread: those of tasks of which the call may be, as nobody can read it.

        Raises:
            RequestRejected: its strategy asks for jurisdictions, and no level says any.
        """
        named = user if self._is_known(user) else None
        key = (standing, request, session, holder, named, strategy, usual, unread)
        known = self._policies.get(key)
        if known is None:
            if len(self._policies) >= MAX_POLICIES:
                self._policies.clear()
            levels = [(Level.REQUEST, request), (Level.SESSION, session)]
            if strategy is not None:
                levels.append((Level.REQUEST, PolicyRules(strategy=strategy)))
            if holder is not None and holder.data_class is not None:
                levels.append((Level.KEY, PolicyRules(data_class=holder.data_class)))
            levels += standing.policy.parts
            if usual is not None and usual is not standing:
                levels += _hard_beside(usual, standing)
            levels.append((Level.TASK, unread))
            levels += [(Level.USER, one) for one in self._users(standing.app, holder, user)]
            known = self._policies[key] = merge(sorted(levels, key=lambda one: ORDER[one[0]]))
        if standing.strategy.requires_jurisdictions and known.rules.jurisdictions is None:
            hint = no_jurisdictions(standing.strategy.name)
            raise RequestRejected("invalid_request", hint, param="strategy")
        return known

    def _is_known(self, user: str | None) -> bool:
        return user in self._configuration.users

    def _users(self, app: App, holder: KeyHolder | None, user: str | None) -> Iterator[PolicyRules]:
        users = self._configuration.users
        own = holder.user if holder is not None else None
        for name in dict.fromkeys((own, user)):
            if name is not None and name in users:
                yield users[name]
        is_said = own in users or user in users
        if app.entry.users is Users.REQUIRED and not is_said:
            yield self._configuration.strictest_user

    def _work_out(self, app: App, role: Role | None, task: str, strategy: Strategy) -> AppStanding:
        configuration = self._configuration
        own = rules_of_task(configuration, task)
        parts = [
            (Level.ROLE, role.rules if role else NOTHING),
            (Level.TASK, PolicyRules(strategy=_by_task(app, task))),
            *((Level.TASK, rules) for rules in own),
            (Level.APP, app.rules),
            (Level.ORGANISATION, configuration.organisation),
            (Level.STRATEGY, strategy.rules),
        ]
        parts.append((Level.BUILT_IN, usual_rules(parts, strategy.usual_retention_days)))
        # A task or role is named by callers: neither may lower what nobody else said.
        if not (says(app.rules, "data_class") or says(configuration.organisation, "data_class")):
            parts.append((Level.BUILT_IN, PolicyRules(data_class=configuration.classes.usual)))
        policy = merge(parts)
        endpoints = configuration.catalog.endpoints
        permitted = tuple(
            e for e in endpoints if why_forbidden(policy.rules, e.place, ALWAYS) is None
        )
        prefer = policy.rules.prefer or 0
        wanted = tuple(e for e in permitted if not prefer & ~e.capabilities)
        return AppStanding(
            app,
            role,
            task,
            strategy,
            policy,
            permitted,
            wanted or permitted,
            self._named(app, strategy, policy.rules.incumbent),
            apart_of(configuration, task),
        )

    def _named(self, app: App, strategy: Strategy, name: str | None) -> Endpoint | str | None:
        """Return the incumbent that is named; where calls are kept with it, `none` names nobody."""
        by_id = self._configuration.catalog.by_id
        if name == NO_INCUMBENT and strategy.exchange is Exchangeable.ANY:
            return NO_INCUMBENT
        found = by_id.get(name or "")
        if found is None and strategy.exchange is Exchangeable.NONE:
            return by_id.get(app.entry.endpoint or "")
        return found


def usual_strategy(configuration: Configuration) -> str:
    """Return the name of the strategy of the first app's calls that say nothing."""
    app = next(iter(configuration.apps.values()))
    return configuration.derive(PolicyTable).usual(app).strategy.name


def _hard_beside(usual: AppStanding, standing: AppStanding) -> list[tuple[Level, PolicyRules]]:
    """Return the hard constraints of one standing that are not parts of another."""
    parts = [part for part in usual.policy.parts if part not in standing.policy.parts]
    return [(level, hard_of(rules)) for level, rules in parts]


ORDER = {level: i for i, level in enumerate(Level)}


def rules_of_task(configuration: Configuration, task: str) -> list[PolicyRules]:
    """Return what a task says, and then the one that it is part of."""
    names = (task, parent_of(task))
    return [configuration.task_rules[n] for n in names if n in configuration.task_rules]


def apart_of(configuration: Configuration, task: str) -> str:
    """Return the task, or the one above it, that itself says who may serve it; else nothing."""
    for name in (task, parent_of(task)):
        rules = configuration.task_rules.get(name or "", NOTHING)
        if of_places(rules) != NOTHING or rules.prefer:
            return name or ""
    return ""


def choose_strategy(
    configuration: Configuration,
    app: App,
    role: Role | None,
    task: str,
    *,
    wanted: str | None = None,
    users: tuple[str | None, ...] = (),
) -> ChosenStrategy:
    """Return the strategy of a call: the first that is set along the levels.

    What an app says of a task goes before what the task says of itself for everybody.

    Args:
        wanted: what the call itself asks for.
        users: whose it is, as far as that is said.

    Raises:
        RequestRejected: there is no such strategy; it may hold constraints, so it is not guessed.
    """
    strategies = configuration.strategies
    if wanted is not None:
        if wanted == BALANCED and wanted not in strategies:
            raise RequestRejected("unknown_strategy", NOT_SAID, param="strategy")
        if wanted not in strategies:
            known = ", ".join(sorted(strategies))
            raise RequestRejected(
                "unknown_strategy",
                f"unknown strategy {brief(wanted)}; known: {known}",
                param="strategy",
            )
        return ChosenStrategy(strategies[wanted], Level.REQUEST)
    for level, name in _strategies(configuration, app, role, task, users):
        if name is not None:
            return ChosenStrategy(strategies[name], level)
    return ChosenStrategy(strategies[BUILT_IN_STRATEGY], Level.BUILT_IN)


def _strategies(
    configuration: Configuration,
    app: App,
    role: Role | None,
    task: str,
    users: tuple[str | None, ...],
) -> Iterator[tuple[Level, str | None]]:
    yield Level.ROLE, role.rules.strategy if role is not None else None
    yield Level.TASK, _by_task(app, task)
    for rules in rules_of_task(configuration, task):
        yield Level.TASK, rules.strategy
    yield Level.APP, app.rules.strategy
    for rules in (configuration.users[user] for user in users if user in configuration.users):
        yield Level.USER, rules.strategy
    yield Level.ORGANISATION, configuration.organisation.strategy


def _by_task(app: App, task: str) -> str | None:
    """Return the strategy that an app says of a task, or of what the task is part of."""
    said = app.entry.strategies
    return said.get(task, said.get(parent_of(task) or ""))
