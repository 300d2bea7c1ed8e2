"""The configuration, compiled: one immutable value, made of entries that were checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from bandit import orders
from bandit.limits import NO_LIMITS, Limits
from bandit.posterior import Posterior
from bandit.trade import Trade, with_trade
from bandit.utility import BALANCED, Objective, Order
from router.classify.taught import Exemplars, SystemExemplars
from router.config.budgets import Budget, compile_budgets
from router.config.entries import (
    AppEntry,
    File,
    Learn,
    MatchEntry,
    SampleRateEntry,
    Streaming,
    TaskEntry,
    UnitKind,
)
from router.config.exemplars import prompt_exemplars, rules_of_tasks, system_exemplars
from router.config.exploring import Ceilings, compile_ceilings
from router.config.file import parse, read
from router.config.keys import DEFAULT_APP, HeldKeyEntry, digest_of
from router.config.levels import (
    complexity_leaves,
    implied_leaves,
    parent_of,
    written_leaves,
)
from router.config.notices import NoticesEntry
from router.config.policies import ConstraintsEntry, RoleEntry, compile_rules
from router.config.process import ArchiveEntry, AuditEntry, OtelEntry, ServerEntry, StoreEntry
from router.config.releasing import Releasing
from router.config.rules import PolicyRules, strictest
from router.config.strategies import ORDERS, Exchangeable, ObjectiveKind, StrategyEntry
from router.config.wishes import compile_limits, compile_trade
from router.endpoints.auth import AuthEntry
from router.endpoints.catalog import Catalog
from router.endpoints.compiling import compile_catalog
from router.endpoints.data_classes import DataClass, DataClasses
from router.endpoints.entries import ModelEntry, TimeoutsEntry
from router.endpoints.keys import KeyRing
from router.errors import ConfigError, Problem
from telemetry.digests import digest8
from telemetry.keyring import derived_key

T = TypeVar("T")

RELEASE_EVERY_S = 7 * 86_400.0
"""A week has every day of it: what serves working days well may serve weekends badly."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """A compiled strategy."""

    name: str
    digest: int
    objective: Objective
    release_every_s: float
    timeouts: TimeoutsEntry
    rules: PolicyRules
    trade: Trade | None = None  # from which the value of a success follows, in words
    limits: Limits = NO_LIMITS
    exchange: Exchangeable = Exchangeable.ANY
    requires_jurisdictions: bool = False
    usual_retention_days: int | None = None  # at most, where no level says any

    def objective_at(self, posterior: Posterior, incumbent: int) -> Objective:
        """Return the objective under a posterior; of a trade, with the values that follow from it.

        Args:
            incumbent: arm with whose cost a trade compares.
        """
        if self.trade is None:
            return self.objective
        return with_trade(self.objective, self.trade, posterior, incumbent)


@dataclass(frozen=True, slots=True)
class Role:
    """A compiled role."""

    name: str
    digest: int
    entry: RoleEntry
    rules: PolicyRules
    limits: Limits


@dataclass(frozen=True, slots=True)
class App:
    """A compiled app."""

    name: str
    entry: AppEntry
    digest: int
    rules: PolicyRules
    outlook: int  # whose labels it goes by: 0 those that are shared, else its own
    categories: dict[str, int]  # by task the digest under which its calls are booked
    spend_tag: str | None = None  # key of the tag that its spend is booked by as well
    ceilings: Ceilings | None = None  # of what exploring comes to in a day
    releases: Releasing = Releasing.AUTO  # who says yes to them
    # What calls ask of its entry, which is slow to be asked.
    buffers: bool = field(init=False)  # its streams come whole
    signals_sample: float | SampleRateEntry | None = field(init=False)  # None: nobody looks
    is_stateless: bool = field(init=False)  # every call stands for itself

    def __post_init__(self) -> None:
        entry = self.entry
        object.__setattr__(self, "buffers", entry.stream is Streaming.BUFFERED)
        object.__setattr__(self, "signals_sample", entry.signals_sample)
        object.__setattr__(self, "is_stateless", entry.unit is UnitKind.CALL)


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """Whose key it is, and what it says of the calls that come with it."""

    app: str
    role: str | None = None
    task: str | None = None
    user: str | None = None
    data_class: DataClass | None = None


def compile_objective(entry: StrategyEntry) -> Objective:
    """Return what the strategy maximises, with its kind's defaults."""
    match entry.objective:
        case ObjectiveKind.CHEAPEST:
            return Objective(Order.CHEAPEST)
        case ObjectiveKind.FASTEST:
            return Objective(Order.FASTEST)
        case ObjectiveKind.BALANCED:
            latency = entry.latency_usd_per_s
            if latency is None:
                latency = 0.0 if entry.has_trade else BALANCED.latency_usd_per_s
            return Objective(Order.UTILITY, entry.value_usd, latency)
        case ObjectiveKind.QUALITY:
            return Objective(Order.UTILITY, entry.value_usd, entry.latency_usd_per_s or 0.0)


def compile_release_every_s(entry: StrategyEntry) -> float:
    """Return how often the strategy's choices are reviewed, with its kind's default."""
    is_order = entry.objective in ORDERS
    return entry.release_every_s or (orders.REVIEW_EVERY_S if is_order else RELEASE_EVERY_S)


@dataclass(frozen=True, slots=True, eq=False)
class Configuration:
    """Everything compiled; immutable."""

    server: ServerEntry
    store: StoreEntry
    archive: ArchiveEntry
    classes: DataClasses
    audit: AuditEntry
    otel: OtelEntry
    catalog: Catalog
    organisation: PolicyRules
    tasks: dict[str, TaskEntry]  # all that a call may have, implied leaves as well
    task_rules: dict[str, PolicyRules]
    rules: tuple[tuple[str, MatchEntry], ...]  # of tasks, in the order in which they are looked at
    leaves: dict[str, str]  # by leaf the task above it; of complexity also where nobody may ask
    implied: frozenset[str]  # leaves that only complexity makes
    task_index: dict[str, int]  # of those that decide for themselves: all but most leaves
    roles: dict[str, Role]
    strategies: dict[str, Strategy]
    users: dict[str, PolicyRules]
    budgets: tuple[Budget, ...]
    strictest_user: PolicyRules  # the hard constraints of all users together
    apps: dict[str, App]
    callers_keys: dict[bytes, KeyHolder]  # by the digest of a key
    key_holders: dict[str, KeyHolder]  # the same by the key's place, which tells nothing of it
    admin_key: bytes | None  # its digest
    seal_key: bytes | None = field(repr=False)  # of `seal_secret`; None: the store's seals
    seal_key_before: bytes | None = field(repr=False)
    task_digests: tuple[int, ...]  # in the order of `task_index`
    own_apps: tuple[str, ...]  # whose labels count for themselves alone; of outlook 1, 2, …
    version: int
    reads_system: bool  # some rule looks at the system prompt
    systems: SystemExemplars  # of tasks that a rule marks by what they look like
    prompts: Exemplars  # of tasks that a prompt may look like
    structural_complexity: bool  # tools and schema say it, where nobody does
    notices: NoticesEntry
    _derived: dict[object, Any] = field(default_factory=dict, repr=False)

    def derive(self, make: Callable[[Configuration], T]) -> T:
        """Return what `make` makes of this configuration; it is made once.

        So whatever follows from a configuration belongs to it, and goes with it.
        """
        known: T | None = self._derived.get(make)
        if known is None:
            known = self._derived[make] = make(self)
        return known


def category_digest(task: str, app: str, learn: Learn) -> int:
    """Return the digest under which calls of a task are booked, so that it says whom labels teach.

    Quality is read under the task's own digest, and for an app that learns alone under its own;
    under what listeners are booked nobody reads it. What is measured of endpoints is read under
    all of them.
    """
    match learn:
        case Learn.SHARE:
            return digest8("task", task)
        case Learn.OWN:
            return digest8("task", task, "app", app)
        case Learn.LISTEN:
            return digest8("task", task, "listening")


def load(path: Path, *, secrets: bool = True) -> Configuration:
    """Return the compiled configuration.

    Args:
        secrets: False leaves keys out and does not ask for them.

    Raises:
        ConfigError: with every problem of the file.
    """
    return compile_text(read(path), file=str(path), secrets=secrets)


def compile_text(text: str, *, file: str, secrets: bool = True) -> Configuration:
    """Return the configuration in `text`.

    Raises:
        ConfigError: with every problem found.
    """
    entries = parse(text, file=file, secrets=secrets)
    try:
        return compile_entries(entries, version=digest8("configuration", text), secrets=secrets)
    except LookupError as error:  # a command that prints no key, or one that went since
        raise ConfigError(file, [Problem(0, "auth", "missing", str(error))]) from None


def compile_entries(
    entries: File, *, version: int, secrets: bool, keys: KeyRing | None = None
) -> Configuration:
    """Return the configuration that entries mean; everything in them was checked before.

    Args:
        keys: those of the configuration that this one follows.

    Raises:
        LookupError: a key is not to be had.
    """
    classes = DataClasses(entries.classes)
    catalog = compile_catalog(
        {name: entry or ModelEntry() for name, entry in entries.models.items()},
        entries.providers,
        entries.endpoints,
        classes=classes,
        secrets=secrets,
        before=keys,
    )
    places = entries.known_places

    def rules_of(entry: ConstraintsEntry) -> PolicyRules:
        return compile_rules(entry, places, classes)

    strategies = {
        name: _strategy(name, lineage.entry, lineage.rules(places, classes), catalog)
        for name, lineage in entries.lineages.items()
    }
    strategies |= {alias: strategies[name] for alias, name in entries.aliases.items()}
    roles = {
        name: Role(
            name,
            digest8("role", name),
            entry,
            rules_of(entry),
            compile_limits(entry.limits),
        )
        for name, entry in entries.roles.items()
    }
    written = entries.all_tasks
    implied = implied_leaves(written)
    tasks = {**written, **dict.fromkeys(implied, TaskEntry())}
    rules = rules_of_tasks(entries)
    tops = [name for name in written if parent_of(name) is None]
    own_apps = [name for name, entry in entries.all_apps.items() if entry.learn is Learn.OWN]
    shared: dict[Learn, dict[str, int]] = {}  # one for all apps that do not learn alone

    def categories(app: str, learn: Learn) -> dict[str, int]:
        found = {} if learn is Learn.OWN else shared.setdefault(learn, {})
        if not found:
            found |= {task: category_digest(task, app, learn) for task in tasks}
        return found

    apps = {
        name: App(
            name,
            entry,
            digest8("app", name),
            rules_of(entry),
            own_apps.index(name) + 1 if name in own_apps else 0,
            categories(name, entry.learn),
            entry.spend_tag or entries.organisation.spend_tag,
            compile_ceilings(entry.exploring, entries.organisation.exploring),
            entry.releases or entries.organisation.releases or Releasing.AUTO,
        )
        for name, entry in entries.all_apps.items()
    }
    users = {name: rules_of(entry) for name, entry in entries.users.items()}
    admin = entries.server.admin_key
    holders = list(_holders(entries, classes))
    systems, prompts = (
        SystemExemplars(system_exemplars(entries)),
        Exemplars(prompt_exemplars(entries)),
    )
    for exemplars in (systems, prompts) if secrets else ():
        exemplars.learn()
    return Configuration(
        server=entries.server,
        store=entries.store,
        archive=entries.archive,
        classes=classes,
        audit=entries.audit,
        otel=entries.otel,
        catalog=catalog,
        organisation=rules_of(entries.organisation),
        tasks=tasks,
        task_rules={name: rules_of(entry) for name, entry in tasks.items()},
        rules=rules,
        leaves={**written_leaves(written), **complexity_leaves(written)},
        implied=frozenset(implied),
        task_index={name: i for i, name in enumerate(tops)},
        roles=roles,
        strategies=strategies,
        users=users,
        budgets=compile_budgets(entries.budgets),
        strictest_user=strictest(users.values()),
        apps=apps,
        callers_keys={digest_of(key): one for _, key, one in holders} if secrets else {},
        key_holders={place: one for place, _, one in holders},
        admin_key=digest_of(admin) if admin and secrets else None,
        seal_key=_seal_key(entries.server.seal_secret if secrets else None),
        seal_key_before=_seal_key(entries.server.seal_secret_before if secrets else None),
        task_digests=tuple(digest8("task", name) for name in tops),
        own_apps=tuple(own_apps),
        version=version,
        reads_system=any(match.reads_system for _, match in rules),
        systems=systems,
        prompts=prompts,
        structural_complexity=entries.starter_tasks,
        notices=entries.notices,
    )


def _strategy(name: str, entry: StrategyEntry, rules: PolicyRules, catalog: Catalog) -> Strategy:
    return Strategy(
        name,
        digest8("strategy", name),
        compile_objective(entry),
        compile_release_every_s(entry),
        entry.timeouts,
        rules,
        compile_trade(entry.pay, entry.for_),
        compile_limits(entry.limits),
        entry.exchange,
        entry.require_jurisdictions,
        entry.usual_retention_days,
    )


def _seal_key(entry: AuthEntry | None) -> bytes | None:
    return derived_key(entry.secret()) if entry else None


def _holders(
    entries: File, classes: DataClasses
) -> Iterator[tuple[str, AuthEntry | HeldKeyEntry | str, KeyHolder]]:
    """Yield the place of every key of an app or user, the key, and whose it is."""
    for name, app in entries.all_apps.items():
        for i, key in enumerate(app.keys):
            yield f"apps.{name}.keys.{i}", key, _holder(key, name, None, classes)
    for name, user in entries.users.items():
        for i, key in enumerate(user.keys):
            holder = _holder(key, user.app or DEFAULT_APP, name, classes)
            yield f"users.{name}.keys.{i}", key, holder


def _holder(
    key: AuthEntry | HeldKeyEntry | str, app: str, user: str | None, classes: DataClasses
) -> KeyHolder:
    if not isinstance(key, HeldKeyEntry):
        return KeyHolder(app, user=user)
    data_class = classes.by_name.get(key.data_class or "")
    return KeyHolder(app, key.role, key.task, key.user or user, data_class)
