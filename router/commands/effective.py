"""`pointsman check --effective`: what holds for every app, and where each value comes from."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from router.commands.console import BAD_INPUT, fail
from router.config.compiled import App, Configuration, compile_text
from router.config.file import parse, read
from router.config.named import did_you_mean
from router.config.origins import DEFAULT, FieldOrigin, field_origins
from router.config.rules import Level
from router.config.tree import parse_yaml
from router.policy.effective import (
    EffectivePolicy,
    effective_policies,
    effective_policy,
)


class Wanted(NamedTuple):
    """What is asked about; None: everything."""

    app: str | None
    role: str | None
    task: str | None


class Effective:
    """What holds under a sound file, as rows and as lines."""

    def __init__(self, file: Path, wanted: Wanted) -> None:
        """Work it out; no key is asked for."""
        text = read(file)
        entries = parse(text, file=str(file), secrets=False)
        configuration = compile_text(text, file=str(file), secrets=False)
        _require_known(configuration, wanted)
        self._policies = list(_policies(configuration, wanted, time.time()))
        origins = field_origins(entries, parse_yaml(text, str(file)).findings.spots)
        self._fields = [one for one in origins if _is_wanted(one, self._policies, wanted)]

    def as_json(self) -> dict[str, Any]:
        """Return each policy whole, and each field of the file."""
        return {
            "policies": [_policy_row(one) for _, one in self._policies],
            "fields": [_field_row(one) for one in self._fields],
        }

    def lines(self) -> Iterator[str]:
        """Yield a line for each field; of tasks and roles those that differ from the app's own."""
        for usual, one in self._policies:
            yield _head(one, differs=usual is not None)
            for field in one.fields if usual is None else one.beside(usual):
                yield f"  {field.name}: {_text(field.value)} ({_levels(field.by)})"
        yield "the file"
        for line in _field_lines(self._fields):
            yield f"  {line}"


def _policies(
    configuration: Configuration, wanted: Wanted, at_s: float
) -> Iterator[tuple[EffectivePolicy | None, EffectivePolicy]]:
    """Yield each policy that is asked about, after the one beside which it is told."""
    for app in _apps(configuration, wanted):
        if wanted.role is not None or wanted.task is not None:
            role = configuration.roles[wanted.role] if wanted.role is not None else None
            yield None, effective_policy(configuration, app, role, wanted.task, at_s)
            continue
        usual, others = effective_policies(configuration, app, at_s)
        yield None, usual
        for other in others:
            yield usual, other


def _apps(configuration: Configuration, wanted: Wanted) -> list[App]:
    if wanted.app is not None:
        return [configuration.apps[wanted.app]]
    return list(configuration.apps.values())


def _require_known(configuration: Configuration, wanted: Wanted) -> None:
    known: dict[str, Sequence[str]] = {
        "app": list(configuration.apps),
        "role": [n for n, role in configuration.roles.items() if role.entry.active],
        "task": list(configuration.tasks),
    }
    for what, name in wanted._asdict().items():
        if name is not None and name not in known[what]:
            hint = did_you_mean(name, list(known[what]))
            fail(f"--{what} {name}: no such {what}{hint}", BAD_INPUT)


def _is_wanted(
    field: FieldOrigin,
    policies: Sequence[tuple[EffectivePolicy | None, EffectivePolicy]],
    wanted: Wanted,
) -> bool:
    """Return whether a field is one of what is asked about."""
    if wanted == Wanted(None, None, None):
        return True
    entries = [f"{section}.{name}" for section, name in _named(policies)]
    return any(field.entry == entry or field.entry.startswith(f"{entry}.") for entry in entries)


def _named(
    policies: Sequence[tuple[EffectivePolicy | None, EffectivePolicy]],
) -> Iterator[tuple[str, str]]:
    for _, one in policies:
        yield "apps", one.app
        yield "tasks", one.task
        yield "strategies", str(one.fields[0].value)
        if one.role is not None:
            yield "roles", one.role


def _policy_row(one: EffectivePolicy) -> dict[str, Any]:
    fields = {f.name: {"value": f.value, "by": [level.value for level in f.by]} for f in one.fields}
    return {
        "app": one.app,
        "task": one.task,
        "role": one.role,
        "is_usual": one.is_usual,
        "fields": fields,
    }


def _field_row(one: FieldOrigin) -> dict[str, Any]:
    place = f"{one.entry}.{one.name}" if one.entry else one.name
    return {"field": place, "value": one.value, "origin": one.origin}


def _head(one: EffectivePolicy, *, differs: bool) -> str:
    role = f", role {one.role}" if one.role is not None else ""
    more = ", where it differs" if differs else ", of calls that say nothing"
    return f"app {one.app}{role}, task {one.task}{more if differs or one.is_usual else ''}"


def _field_lines(fields: Sequence[FieldOrigin]) -> Iterator[str]:
    """Yield a line for each field that says something, and one for all of an entry that do not."""
    by_entry: dict[str, list[FieldOrigin]] = {}
    for field in fields:
        by_entry.setdefault(field.entry, []).append(field)
    for entry, own in by_entry.items():
        empty = [field.name for field in own if _says_nothing(field)]
        for field in own:
            if not _says_nothing(field):
                place = f"{entry}.{field.name}" if entry else field.name
                yield f"{place}: {_text(field.value)} ({field.origin})"
        if empty:
            yield f"{entry}: nothing is said of {', '.join(empty)} ({DEFAULT})"


def _says_nothing(field: FieldOrigin) -> bool:
    return not field.line and (field.value is None or field.value in ([], {}))


def _levels(levels: Sequence[Level]) -> str:
    return ", ".join(level.value.replace("_", "-") for level in levels)


def _text(value: Any) -> str:
    """Return a value as one line."""
    if value is None:
        return "not set"
    if value == []:
        return "none"
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return ", ".join(value)
    if isinstance(value, list) and all(isinstance(part, list) for part in value):
        return " and in ".join(_text(part) for part in value)  # each list must name a tool
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
