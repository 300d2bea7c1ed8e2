"""The one YAML file: read, checked as a whole, compiled.

`check` finds every problem at once, each with its line, field, value and what to do.
"""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from router.endpoints.catalog import Catalog, compile_catalog
from router.endpoints.entries import (
    AuthEntry,
    EndpointEntry,
    Entry,
    ModelEntry,
    Name,
    ProviderEntry,
)
from router.errors import ConfigError, Problem
from router.policy import (
    AUTO,
    NO_INCUMBENT,
    App,
    AppEntry,
    Kind,
    Mode,
    Strategy,
    StrategyEntry,
    compile_objective,
    compile_release_every_s,
)
from router.settings import ArchiveEntry, ServerEntry, StoreEntry
from router.tasks import GENERAL, TaskEntry
from telemetry.events import digest8

DEFAULT_APP = "default"
MAX_FILE_BYTES = 4 << 20
MAX_REPAIRS = 8
"""Rounds of taking wrong values out; each round finds all errors of one depth."""
Path_ = tuple[str | int, ...]


class File(Entry):
    """The whole file."""

    server: ServerEntry = ServerEntry()
    store: StoreEntry = StoreEntry()
    archive: ArchiveEntry = ArchiveEntry()
    models: dict[str, ModelEntry | None] = Field(default_factory=dict)
    providers: dict[str, ProviderEntry] = Field(default_factory=dict)
    endpoints: list[EndpointEntry] = Field(min_length=1)
    tasks: dict[Name, TaskEntry | None] = Field(default_factory=dict)
    strategies: dict[Name, StrategyEntry] = Field(default_factory=dict)
    apps: dict[Name, AppEntry] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Configuration:
    """Everything compiled; immutable."""

    server: ServerEntry
    store: StoreEntry
    archive: ArchiveEntry
    catalog: Catalog
    tasks: dict[str, TaskEntry]
    task_index: dict[str, int]
    strategies: dict[str, Strategy]
    apps: dict[str, App]
    app_keys: dict[str, str]  # key -> app
    admin_key: str | None
    task_digests: tuple[int, ...]  # in the order of `task_index`
    version: int

    @property
    def any_structural(self) -> bool:
        """Whether some task is recognised by structure."""
        return any(t.match is not None for t in self.tasks.values())

    @property
    def any_system_rule(self) -> bool:
        """Whether some task is recognised by the system prompt."""
        return any(t.match is not None and t.match.system is not None for t in self.tasks.values())


def find_file(given: Path | None) -> Path:
    """Return the configuration file: as given, else `$POINTSMAN_CONFIG`, else here."""
    return given or Path(os.environ.get("POINTSMAN_CONFIG") or "pointsman.yaml")


def load(path: Path, *, secrets: bool = True) -> Configuration:
    """Return the compiled configuration.

    Args:
        secrets: False leaves keys out and does not ask for them.

    Raises:
        ConfigError: with every problem of the file.
    """
    try:
        text = path.read_text()
    except UnicodeDecodeError:
        problem = Problem(0, "file", "not text", "save it as UTF-8")
        raise ConfigError(str(path), [problem]) from None
    except OSError as error:
        hint = "write one (docs/examples/pointsman.yaml shows every field), or name it by --config"
        problem = Problem(0, "file", str(error.strerror), hint)
        raise ConfigError(str(path), [problem]) from None
    return compile_text(text, file=str(path), secrets=secrets)


def places(path: Path) -> tuple[Path, str | None]:
    """Return state directory and store URL as far as a file names them, however broken it is."""
    tree: Any = None
    with contextlib.suppress(OSError, ValueError, RecursionError, yaml.YAMLError):
        tree = yaml.load(path.read_text(), Loader=_Loader)  # noqa: S506 - a SafeLoader
    tree = tree if isinstance(tree, dict) else {}
    server = tree.get("server") if isinstance(tree.get("server"), dict) else {}
    store = tree.get("store") if isinstance(tree.get("store"), dict) else {}
    named = server.get("state_dir")
    entry = ServerEntry(state_dir=Path(named)) if isinstance(named, str) else ServerEntry()
    url = os.environ.get(str(store.get("url_env"))) or os.environ.get("REDIS_URL")
    return entry.state_directory(), url


def compile_text(text: str, *, file: str, secrets: bool = True) -> Configuration:
    """Return the configuration in `text`.

    Raises:
        ConfigError: with every problem found.
    """
    tree, lines, problems = _parse(text, file)
    entries, repaired = _validate(tree, lines, problems)
    if entries is not None:
        for where, value, hint in _cross_check(entries):
            is_key = where[-1] in ("env", "file", "url_env")
            if not (is_key and not secrets) and not any(where[: len(r)] == r for r in repaired):
                problems.append(Problem(_line(lines, where), _shown(where), value, hint))
    if problems or entries is None:
        raise ConfigError(file, sorted(problems, key=lambda p: p.line))
    return _compile(entries, version=digest8("configuration", text), secrets=secrets)


def _validate(
    tree: Any, lines: dict[Path_, int], problems: list[Problem]
) -> tuple[File | None, list[Path_]]:
    """Return the entries, and the places that had to be left out so that the rest can be checked.

    What is wrong in shape is noted and taken out, and the rest is tried again: so a user meets
    every problem in one round, not one layer of them after the other.
    """
    repaired: list[Path_] = []
    tree = {key: value for key, value in tree.items() if value is not None}
    for _ in range(MAX_REPAIRS):
        try:
            return File.model_validate(tree), repaired
        except ValidationError as error:
            details = error.errors()
        for detail in details:
            problem = _explain(detail, lines)
            where = _place(detail, lines)
            if not any(where[: len(r)] == r for r in repaired if r):
                problems.append(problem)
            missing = detail["type"] == "missing"
            repaired.append((*where, detail["loc"][-1]) if missing else where)
            if not where or not _take_out(tree, where, detail):
                return None, repaired
    return None, repaired


def _take_out(tree: Any, where: Path_, detail: Any) -> bool:
    """Take a wrong value out of the tree, or put a name in where one is missing."""
    *parents, last = where
    node = tree
    for part in parents:
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            return True  # its parent is out already
    if detail["type"] == "missing":
        try:
            entry = node[last]
        except (KeyError, IndexError, TypeError):
            return True
        if detail["loc"][-1] in ("id", "model") and isinstance(entry, dict):
            entry[detail["loc"][-1]] = f"missing-{len(parents)}-{last}"
            return True
    if isinstance(node, list) and len(parents) > 1:
        return _take_out(tree, tuple(parents), {"type": "list"})
    if isinstance(node, dict):
        node.pop(last, None)
        return True
    return False


def _compile(entries: File, *, version: int, secrets: bool) -> Configuration:
    catalog = compile_catalog(
        {name: entry or ModelEntry() for name, entry in entries.models.items()},
        entries.providers,
        entries.endpoints,
        secrets=secrets,
    )
    written = {kind.value: StrategyEntry(objective=kind) for kind in Kind} | entries.strategies
    first = catalog.endpoints[0]
    strategies = {
        name: Strategy(
            name,
            digest8("strategy", name),
            compile_objective(entry),
            None
            if entry.incumbent == NO_INCUMBENT
            else catalog.by_id.get(entry.incumbent or "", first),
            compile_release_every_s(entry),
        )
        for name, entry in written.items()
    }
    app_entries = entries.apps or {DEFAULT_APP: AppEntry()}
    apps = {
        name: App(
            name,
            entry,
            digest8("app", name),
            NO_INCUMBENT
            if entry.incumbent == NO_INCUMBENT
            else catalog.by_id.get(entry.incumbent or ""),
        )
        for name, entry in app_entries.items()
    }
    tasks = {name: entry or TaskEntry() for name, entry in entries.tasks.items()}
    tasks.setdefault(GENERAL, TaskEntry())
    admin = entries.server.admin_key
    return Configuration(
        server=entries.server,
        store=entries.store,
        archive=entries.archive,
        catalog=catalog,
        tasks=tasks,
        task_index={name: i for i, name in enumerate(tasks)},
        strategies=strategies,
        apps=apps,
        app_keys={
            key.secret(): name for name, e in app_entries.items() for key in e.keys if secrets
        },
        admin_key=admin.secret() if admin and secrets else None,
        task_digests=tuple(digest8("task", name) for name in tasks),
        version=version,
    )


def _cross_check(entries: File) -> Iterator[tuple[Path_, str, str]]:
    """Yield what one entry says of another, and is not so: place, value, hint."""
    ids = [e.id for e in entries.endpoints]
    strategies = {kind.value for kind in Kind} | set(entries.strategies)
    tasks = set(entries.tasks) | {GENERAL}
    for i, endpoint in enumerate(entries.endpoints):
        yield from _check_endpoint(i, endpoint, entries, ids)
    for name, provider in entries.providers.items():
        if provider.passthrough and not provider.base_url:
            yield ("providers", name, "passthrough"), "true", "give the provider a base_url"
        yield from _check_auth(("providers", name, "auth"), provider.auth)
    marked = [name for name, p in entries.providers.items() if p.passthrough]
    for name in marked[1:]:
        yield (
            ("providers", name, "passthrough"),
            "true",
            f"only one provider may take what is not listed; {marked[0]!r} already does",
        )
    for name, strategy in entries.strategies.items():
        yield from _check_name(
            ("strategies", name, "incumbent"), strategy.incumbent, [*ids, NO_INCUMBENT], "endpoint"
        )
    for name, app in entries.apps.items():
        where: Path_ = ("apps", name)
        yield from _check_name((*where, "strategy"), app.strategy, strategies, "strategy")
        yield from _check_name((*where, "task"), app.task, tasks, "task")
        yield from _check_name(
            (*where, "incumbent"), app.incumbent, [*ids, NO_INCUMBENT], "endpoint"
        )
        yield from _check_name((*where, "endpoint"), app.endpoint, ids, "endpoint")
        if app.mode is Mode.PINNED and app.endpoint is None:
            yield (*where, "mode"), "pinned", "name the endpoint: endpoint: <id>"
        for i, key in enumerate(app.keys):
            yield from _check_auth((*where, "keys", i), key)
    yield from _check_keys(entries)
    yield from _check_server(entries)


def _check_keys(entries: File) -> Iterator[tuple[Path_, str, str]]:
    """Yield keys that stand for two callers: whose call would it be?"""
    places: list[tuple[Path_, AuthEntry]] = []
    if entries.server.admin_key:
        places.append((("server", "admin_key"), entries.server.admin_key))
    for name, app in entries.apps.items():
        places += [(("apps", name, "keys", i), key) for i, key in enumerate(app.keys)]
    seen: dict[str, Path_] = {}
    for where, key in places:
        try:
            secret = key.secret()
        except LookupError:
            continue
        if secret in seen:
            hint = f"the same key as {_shown(seen[secret])}; give each caller its own"
            yield (*where, "env" if key.env else "file"), str(key.env or key.file), hint
        seen.setdefault(secret, where)


def _check_endpoint(
    i: int, endpoint: EndpointEntry, entries: File, ids: list[str]
) -> Iterator[tuple[Path_, str, str]]:
    where: Path_ = ("endpoints", i)
    if endpoint.id in ids[:i]:
        yield (*where, "id"), endpoint.id, "another endpoint has this id; ids are unique"
    if endpoint.id in (AUTO, NO_INCUMBENT) or endpoint.id.startswith(f"{AUTO}/"):
        yield (*where, "id"), endpoint.id, "this name has a meaning of its own; choose another"
    yield from _check_name((*where, "provider"), endpoint.provider, entries.providers, "provider")
    if entries.models:
        yield from _check_name((*where, "model"), endpoint.model, entries.models, "model")
    provider = entries.providers.get(endpoint.provider or "")
    if not endpoint.base_url and not (provider and provider.base_url):
        yield (*where, "base_url"), "missing", "give it, or name a provider that has one"
    yield from _check_auth((*where, "auth"), endpoint.auth)


def _check_server(entries: File) -> Iterator[tuple[Path_, str, str]]:
    server = entries.server
    yield from _check_auth(("server", "admin_key"), server.admin_key)
    keyed = any(app.keys for app in entries.apps.values())
    if not server.is_loopback and not keyed:
        yield (
            ("server", "host"),
            server.host,
            "bound beyond this machine every app needs a key: apps.<name>.keys: [{env: NAME}]",
        )
    if not keyed and entries.apps and DEFAULT_APP not in entries.apps:
        yield (
            ("apps",),
            ", ".join(entries.apps),
            f"without keys every call belongs to app {DEFAULT_APP!r}: add it, or give keys",
        )
    if entries.store.url_env and not os.environ.get(entries.store.url_env):
        name = entries.store.url_env
        yield ("store", "url_env"), name, f"environment variable {name} is not set; export it"


def _check_auth(where: Path_, auth: object) -> Iterator[tuple[Path_, str, str]]:
    if isinstance(auth, AuthEntry):
        try:
            auth.secret()
        except LookupError as error:
            part = "env" if auth.env else "file"
            yield (*where, part), str(auth.env or auth.file), str(error)


def _check_name(
    where: Path_, value: str | None, known: Any, what: str
) -> Iterator[tuple[Path_, str, str]]:
    if value is not None and value not in known:
        yield where, value, f"no such {what}{_did_you_mean(value, list(known))}"


def _did_you_mean(value: str, known: list[str]) -> str:
    close = difflib.get_close_matches(value, known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(sorted(set(known))[:12])}" if known else ""


# -- reading YAML with its lines ------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML without dates: an API version such as 2024-10-21 is a name."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the base class declares it so
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _parse(text: str, file: str) -> tuple[Any, dict[Path_, int], list[Problem]]:
    if len(text) > MAX_FILE_BYTES:
        raise ConfigError(file, [Problem(0, "file", f"{len(text)} bytes", "4 MiB at most")])
    try:
        node = yaml.compose(text, Loader=_Loader)
        tree = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader that knows no dates
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 0
        reason = getattr(error, "problem", None) or str(error)
        hint = "is the indentation right, and is every value that holds a colon quoted?"
        raise ConfigError(file, [Problem(line, "yaml", str(reason), hint)]) from None
    except RecursionError:
        problem = Problem(0, "yaml", "an alias", "a node refers to itself; write it out")
        raise ConfigError(file, [problem]) from None
    if tree is None:
        hint = "the file is empty; docs/examples/minimal.yaml is a start"
        raise ConfigError(file, [Problem(1, "file", "empty", hint)])
    if not isinstance(tree, dict):
        hint = "the file holds a mapping that begins with endpoints:"
        raise ConfigError(file, [Problem(1, "file", type(tree).__name__, hint)])
    lines: dict[Path_, int] = {}
    problems: list[Problem] = []
    try:
        _note_lines(node, (), lines, problems)
    except RecursionError:
        problem = Problem(0, "yaml", "an alias", "a node refers to itself; write it out")
        raise ConfigError(file, [problem]) from None
    return tree, lines, problems


def _note_lines(node: Any, where: Path_, lines: dict[Path_, int], problems: list[Problem]) -> None:
    lines.setdefault(where, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            name = str(key.value)
            here = (*where, name)
            lines[here] = key.start_mark.line + 1
            if name in seen:
                hint = "the same key stands twice; the later one would win silently"
                problems.append(Problem(lines[here], _shown(here), name, hint))
            seen.add(name)
            _note_lines(value, here, lines, problems)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            _note_lines(value, (*where, i), lines, problems)


def _explain(detail: Any, lines: dict[Path_, int]) -> Problem:
    """Return a validation error as a problem; parts of a path that pydantic made up go."""
    where = _place(detail, lines)
    if detail["type"] == "missing":
        where = (*where, detail["loc"][-1])
        return Problem(_line(lines, where), _shown(where), "missing", "this field is required")
    if detail["type"] == "extra_forbidden":
        known = _known_fields(where[:-1])
        hint = f"unknown key{_did_you_mean(str(where[-1]), known)}"
        return Problem(_line(lines, where), _shown(where), str(where[-1]), hint)
    hint = str(detail["msg"]).removeprefix("Value error, ")
    return Problem(_line(lines, where), _shown(where), _brief(detail["input"]), hint)


def _place(detail: Any, lines: dict[Path_, int]) -> Path_:
    """Return where an error stands in the file; parts that pydantic made up are left out."""
    where: Path_ = ()
    for part in detail["loc"]:
        if (*where, part) in lines:
            where = (*where, part)
    return where


def _known_fields(where: Path_) -> list[str]:
    """Return the names that the entry at `where` may hold."""
    model: Any = File
    for part in where:
        field = model.model_fields.get(part) if hasattr(model, "model_fields") else None
        annotation = field.annotation if field else model
        model = _entry_of(annotation) or model
    return [f.alias or name for name, f in model.model_fields.items()]


def _entry_of(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, Entry):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        found = _entry_of(part)
        if found:
            return found
    return None


def _brief(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "…"


def _line(lines: dict[Path_, int], where: Path_) -> int:
    while where not in lines and where:
        where = where[:-1]
    return lines.get(where, 0)


def _shown(where: Path_) -> str:
    out = ""
    for part in where:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else part
    return out or "file"
