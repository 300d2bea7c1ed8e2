"""The configuration, compiled: one immutable value, made of entries that were checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from bandit import orders
from bandit.utility import BALANCED, Objective, Order
from router.config.entries import (
    NO_INCUMBENT,
    AppEntry,
    File,
    Learn,
    MatchEntry,
    ObjectiveKind,
    StrategyEntry,
    TaskEntry,
)
from router.config.file import parse, read
from router.config.keys import digest_of
from router.config.levels import (
    complexity_leaves,
    implied_leaves,
    most_specific_first,
    parent_of,
    written_leaves,
)
from router.config.process import ArchiveEntry, ServerEntry, StoreEntry
from router.config.standing import why_forbidden
from router.endpoints.auth import AuthEntry
from router.endpoints.catalog import Catalog, Endpoint
from router.endpoints.compiling import compile_catalog
from router.endpoints.entries import ModelEntry, TimeoutsEntry
from router.endpoints.keys import KeyRing
from router.errors import ConfigError, Problem
from telemetry.events import digest8
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
    incumbent: Endpoint | str | None  # an endpoint, `none`, or None: the first that an app permits
    release_every_s: float
    timeouts: TimeoutsEntry


@dataclass(frozen=True, slots=True)
class App:
    """A compiled app."""

    name: str
    entry: AppEntry
    digest: int
    incumbent: Endpoint | str | None  # `none`, an endpoint, or None: as the strategy says
    permitted: tuple[Endpoint, ...]  # by its standing constraints, in order; never empty
    outlook: int  # whose labels it goes by: 0 those that are shared, else its own
    categories: dict[str, int]  # by task the digest under which its calls are booked


def compile_objective(entry: StrategyEntry) -> Objective:
    """Return what the strategy maximises, with its kind's defaults."""
    match entry.objective:
        case ObjectiveKind.CHEAPEST:
            return Objective(Order.CHEAPEST)
        case ObjectiveKind.FASTEST:
            return Objective(Order.FASTEST)
        case ObjectiveKind.BALANCED:
            value, latency = entry.value_usd, entry.latency_usd_per_s
            return Objective(
                Order.UTILITY,
                BALANCED.value_usd if value is None else value,
                BALANCED.latency_usd_per_s if latency is None else latency,
            )
        case ObjectiveKind.QUALITY:
            return Objective(Order.UTILITY, entry.value_usd, entry.latency_usd_per_s or 0.0)


def compile_release_every_s(entry: StrategyEntry) -> float:
    """Return how often the strategy's choices are reviewed, with its kind's default."""
    is_order = entry.objective in (ObjectiveKind.CHEAPEST, ObjectiveKind.FASTEST)
    return entry.release_every_s or (orders.REVIEW_EVERY_S if is_order else RELEASE_EVERY_S)


@dataclass(frozen=True, slots=True, eq=False)
class Configuration:
    """Everything compiled; immutable."""

    server: ServerEntry
    store: StoreEntry
    archive: ArchiveEntry
    catalog: Catalog
    tasks: dict[str, TaskEntry]  # all that a call may have, implied leaves as well
    rules: tuple[tuple[str, MatchEntry], ...]  # of tasks, in the order in which they are looked at
    leaves: dict[str, str]  # by leaf the task above it; of complexity also where nobody may ask
    implied: frozenset[str]  # leaves that only complexity makes
    task_index: dict[str, int]  # of those that decide for themselves: all but most leaves
    strategies: dict[str, Strategy]
    apps: dict[str, App]
    app_keys: dict[bytes, str]  # digest of a key -> app
    admin_key: bytes | None  # its digest
    seal_key: bytes | None = field(repr=False)  # of `seal_secret`; None: the store's seals
    seal_key_before: bytes | None = field(repr=False)
    task_digests: tuple[int, ...]  # in the order of `task_index`
    own_apps: tuple[str, ...]  # whose labels count for themselves alone; of outlook 1, 2, …
    version: int
    reads_system: bool  # some rule looks at the system prompt
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
    catalog = compile_catalog(
        {name: entry or ModelEntry() for name, entry in entries.models.items()},
        entries.providers,
        entries.endpoints,
        secrets=secrets,
        before=keys,
    )
    strategies = {
        name: Strategy(
            name,
            digest8("strategy", name),
            compile_objective(entry),
            _incumbent(entry.incumbent, catalog),
            compile_release_every_s(entry),
            entry.timeouts,
        )
        for name, entry in entries.all_strategies.items()
    }
    written = entries.all_tasks
    implied = implied_leaves(written)
    tasks = {**written, **dict.fromkeys(implied, TaskEntry())}
    rules = [(name, written[name].match) for name in most_specific_first(written)]
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
            _incumbent(entry.incumbent, catalog),
            tuple(e for e in catalog.endpoints if _permits(entry, e)),
            own_apps.index(name) + 1 if name in own_apps else 0,
            categories(name, entry.learn),
        )
        for name, entry in entries.all_apps.items()
    }
    admin = entries.server.admin_key
    return Configuration(
        server=entries.server,
        store=entries.store,
        archive=entries.archive,
        catalog=catalog,
        tasks=tasks,
        rules=tuple((name, match) for name, match in rules if match is not None),
        leaves={**written_leaves(written), **complexity_leaves(written)},
        implied=frozenset(implied),
        task_index={name: i for i, name in enumerate(tops)},
        strategies=strategies,
        apps=apps,
        app_keys={
            digest_of(key): name
            for name, e in entries.all_apps.items()
            for key in e.keys
            if secrets
        },
        admin_key=digest_of(admin) if admin and secrets else None,
        seal_key=_seal_key(entries.server.seal_secret if secrets else None),
        seal_key_before=_seal_key(entries.server.seal_secret_before if secrets else None),
        task_digests=tuple(digest8("task", name) for name in tops),
        own_apps=tuple(own_apps),
        version=version,
        reads_system=any(match is not None and match.system is not None for _, match in rules),
    )


def _incumbent(named: str | None, catalog: Catalog) -> Endpoint | str | None:
    return NO_INCUMBENT if named == NO_INCUMBENT else catalog.by_id.get(named or "")


def _seal_key(entry: AuthEntry | None) -> bytes | None:
    return derived_key(entry.secret()) if entry else None


def _permits(app: AppEntry, endpoint: Endpoint) -> bool:
    region, most = endpoint.region, endpoint.max_data_class
    return why_forbidden(app, region=region, max_data_class=most) is None
