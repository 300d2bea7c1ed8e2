"""What the levels of the policy mention that there is not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from router.config.entries import File
from router.config.keys import DEFAULT_APP, HeldKeyEntry
from router.config.masking import Place
from router.config.named import check_name
from router.config.policies import ConstraintsEntry, EndpointsEntry, PreferencesEntry
from router.config.strategies import ObjectiveKind
from router.endpoints.data_classes import problem_of_classes
from router.endpoints.terms import LOCAL, VENDOR


def check_policies(entries: File) -> Iterator[tuple[Place, str, str]]:
    """Yield classes, tasks, strategies and endpoints that nothing has: place, value, hint."""
    problem = problem_of_classes(entries.classes)
    if problem is not None:
        yield ("classes",), ", ".join(entries.classes), problem
        return
    for where, entry in levels_of(entries):
        yield from _check_level(where, entry, entries)
    for where, name in _classes_of_places(entries):
        yield from check_name(where, name, entries.classes, "data class")
    tasks = entries.all_tasks
    for name, role in entries.roles.items():
        for i, task in enumerate(role.tasks):
            yield from check_name(("roles", name, "tasks", i), task, tasks, "task")
        ids = [endpoint.id for endpoint in entries.endpoints]
        yield from check_name(("roles", name, "incumbent"), role.incumbent, ids, "endpoint")
    for name, app in entries.apps.items():
        for task, strategy in app.strategies.items():
            at: Place = ("apps", name, "strategies", task)
            yield from check_name(at, task, tasks, "task")
            yield from check_name(at, strategy, _strategies(entries), "strategy")
        yield from _check_keys(("apps", name), app.keys, entries)
    for name, user in entries.users.items():
        yield from check_name(("users", name, "app"), user.app, entries.all_apps, "app")
        if user.keys and user.app is None and DEFAULT_APP not in entries.all_apps:
            yield ("users", name, "app"), "missing", "name the app to which the keys belong"
        yield from _check_keys(("users", name), user.keys, entries)


def _strategies(entries: File) -> set[str]:
    """Return the names that a strategy may go by; of a trade that is missing others tell."""
    kinds = (kind.value for kind in ObjectiveKind)
    return {*entries.all_strategies, *kinds, *entries.aliases}


def levels_of(entries: File) -> Iterator[tuple[Place, ConstraintsEntry]]:
    """Yield every entry that says something of calls, and where it stands."""
    yield ("organisation",), entries.organisation
    sections: Mapping[str, Mapping[str, ConstraintsEntry | None]] = {
        "tasks": entries.tasks,
        "roles": entries.roles,
        "strategies": entries.strategies,
        "users": entries.users,
        "apps": entries.apps,
    }
    for section, named in sections.items():
        for name, entry in named.items():
            if entry is not None:
                yield (section, name), entry


def _check_level(
    where: Place, entry: ConstraintsEntry, entries: File
) -> Iterator[tuple[Place, str, str]]:
    yield from check_name((*where, "data_class"), entry.data_class, entries.classes, "data class")
    if isinstance(entry, PreferencesEntry):
        known = _strategies(entries)
        yield from check_name((*where, "strategy"), entry.strategy, known, "strategy")
    zones = _zones(entries)
    for i, zone in enumerate(entry.zones or ()):
        yield from check_name((*where, "zones", i), zone, zones, "zone")
    said = entry.endpoints
    if said == []:
        hint = "a list says who may serve, and it is empty; name endpoints, or leave it out"
        yield (*where, "endpoints"), "[]", hint
    lists = {"deny": said.deny, "allow": said.allow} if isinstance(said, EndpointsEntry) else {}
    places: list[tuple[Place, str]] = [
        ((*where, "endpoints", side, i), pattern)
        for side, patterns in lists.items()
        for i, pattern in enumerate(patterns or ())
    ]
    if isinstance(said, list):
        places += [((*where, "endpoints", i), pattern) for i, pattern in enumerate(said)]
    known_places = entries.known_places
    for at, pattern in places:
        if not known_places.meant_by(pattern):
            yield from check_name(at, pattern, known_places.of_providers, "endpoint or provider")


def _zones(entries: File) -> set[str]:
    hosts = [*entries.endpoints, *entries.providers.values()]
    return {LOCAL, VENDOR, *(host.zone for host in hosts if host.zone is not None)}


def _classes_of_places(entries: File) -> Iterator[tuple[Place, str | None]]:
    for i, endpoint in enumerate(entries.endpoints):
        yield ("endpoints", i, "max_data_class"), endpoint.max_data_class
    for name, provider in entries.providers.items():
        yield ("providers", name, "max_data_class"), provider.max_data_class


def _check_keys(
    where: Place, keys: Sequence[object], entries: File
) -> Iterator[tuple[Place, str, str]]:
    for i, key in enumerate(keys):
        if not isinstance(key, HeldKeyEntry):
            continue
        at: Place = (*where, "keys", i)
        yield from check_name((*at, "role"), key.role, entries.roles, "role")
        yield from check_name((*at, "task"), key.task, entries.all_tasks, "task")
        yield from check_name((*at, "user"), key.user, entries.users, "user")
        yield from check_name((*at, "data_class"), key.data_class, entries.classes, "data class")
