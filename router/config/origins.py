"""Every field of the file that is in force, with its value and where that comes from; no secrets.

What is unset, and means something all the same, is told as what it means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

from msgspec import Struct
from pydantic import BaseModel

from router.config.compiled import compile_objective, compile_release_every_s
from router.config.entries import File
from router.config.keys import HASHED, HeldKeyEntry, short_id
from router.config.lines import NOWHERE, Spots, shown
from router.config.masking import (
    HIDDEN,
    KEYS_OF_SERVER,
    Place,
    is_name_of_variable,
    masked,
    shown_value,
)
from router.endpoints.auth import AuthEntry
from router.net.admission import QUEUED_SHARE

DEFAULT = "default"
SECTIONS_BY_NAME = ("tasks", "roles", "strategies", "users", "apps", "models", "providers")


class FieldOrigin(Struct, frozen=True):
    """A field, what holds there, and which line says so."""

    entry: str  # as a user writes it: `apps.web`
    name: str
    value: Any  # fit for JSON; None: nothing
    line: int  # 0: no line says it, so it is what it is by default

    @property
    def origin(self) -> str:
        """Where the value comes from: `default`, or `line N`."""
        return f"line {self.line}" if self.line else DEFAULT


def field_origins(entries: File, spots: Spots) -> Iterator[FieldOrigin]:
    """Yield all fields of a file that was found sound, in the order in which they are documented.

    Args:
        spots: where everything in it stands.
    """
    named: dict[str, Any] = {
        "tasks": entries.all_tasks,
        "strategies": entries.all_strategies,
        "apps": entries.all_apps,
    }
    for section in type(entries).model_fields:
        value = named.get(section, getattr(entries, section))
        if isinstance(value, BaseModel):
            yield from _fields(value, (section,), spots)
        elif section == "endpoints":
            for i, endpoint in enumerate(value):
                yield from _fields(endpoint, (section, i), spots)
        elif section in SECTIONS_BY_NAME:
            for name, entry in value.items():
                if entry is not None:
                    yield from _fields(entry, (section, name), spots)
        else:
            yield FieldOrigin("", section, _plain(value), _line(spots, (section,)))


def _fields(entry: BaseModel, where: Place, spots: Spots) -> Iterator[FieldOrigin]:
    for name, field in type(entry).model_fields.items():
        key = field.alias or name
        at: Place = (*where, key)
        value = getattr(entry, name)
        if key == "auth" or key == "keys" or key in KEYS_OF_SERVER:
            yield FieldOrigin(shown(where), key, _sources(value), _line(spots, at))
        elif isinstance(value, BaseModel):
            yield from _fields(value, at, spots)
        else:
            line = _line(spots, at)
            means = MEANT.get((where[0], key)) if value is None else None
            found = means(entry) if means is not None else _told(key, value)
            yield FieldOrigin(shown(where), key, found, line)


def _told(key: str, value: Any) -> Any:
    if key in ("url_env", "secret_env") and value is not None and not is_name_of_variable(value):
        return HIDDEN
    if key == "base_url" and value is not None:
        return masked(shown_value((key,), value))
    if key in ("like", "exemplars") and value:
        return f"{len(value)} texts"
    return _plain(value)


def _line(spots: Spots, where: Place) -> int:
    """Return the line of a field; 0 where it is not written."""
    return spots.get(where, NOWHERE).line


def _plain(value: Any) -> Any:
    """Return a value as JSON has it, without what looks like a key."""
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(by_alias=True, exclude_unset=True))
    if isinstance(value, dict):
        return {masked(str(name)): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(part) for part in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, date | Path):
        return masked(str(value))
    return masked(value) if isinstance(value, str) else value


def _sources(value: Any) -> Any:
    """Return where keys are found, never one of them."""
    if isinstance(value, list):
        return [_sources(one) for one in value]
    if isinstance(value, HeldKeyEntry):
        said = value.model_dump(exclude={"key"}, exclude_unset=True)
        return {"key": _sources(value.key), **said}
    if isinstance(value, AuthEntry):
        part, source = value.source
        is_fit = is_name_of_variable(source) if part == "env" else masked(source) == source
        return f"{part}:{source if is_fit else HIDDEN}"
    if isinstance(value, str) and value.startswith(HASHED):
        return short_id(value)
    return value  # a word, or nothing


def _latency(entry: Any) -> float:
    return compile_objective(entry).latency_usd_per_s


MEANT: dict[tuple[str | int, str], Callable[[Any], Any]] = {
    ("server", "deadline_s"): lambda _: "what the client says that it waits, else 600",
    ("server", "max_queued"): lambda server: server.max_in_flight // QUEUED_SHARE,
    ("server", "state_dir"): lambda server: str(server.state_directory()),
    ("store", "url_env"): lambda _: "REDIS_URL where it is set, else a private server",
    ("store", "max_mb"): lambda _: "256 for a private server, else what its maxmemory says",
    ("strategies", "incumbent"): lambda _: "the first endpoint listed that is permitted",
    ("strategies", "release_every_s"): compile_release_every_s,
    ("strategies", "latency_usd_per_s"): _latency,
    ("apps", "incumbent"): lambda _: "as the strategy has it",
    ("apps", "releases"): lambda _: "as the organisation has it, else auto",
    ("apps", "fallback"): lambda _: (
        "any for auto (group where locked), group for a model's name, none where pinned"
    ),
}
"""By section and field: what holds where nothing is written."""
