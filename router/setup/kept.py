"""What a file that is there already says for whoever calls, and a new one keeps: their keys."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from pydantic import TypeAdapter

from router.config.keys import CallersKey
from router.config.tree import parse_yaml
from router.errors import ConfigError

_KEYS = TypeAdapter(list[CallersKey])


def kept_keys(before: str | None, app: str) -> list[Any]:
    """Return an app's keys as a file names them; none where it has none, or they are not sound.

    Roles and tasks that a key says go with the sections that name them, as the difference shows.

    Args:
        before: the file's text; None: there is no file.
    """
    if before is None:
        return []
    with suppress(ConfigError, LookupError, TypeError, ValueError, AttributeError):
        tree = parse_yaml(before, "")
        found = tree.root["apps"][app]["keys"]
        _KEYS.validate_python(found)
        return [_without_sections(key) for key in found]
    return []


def _without_sections(key: Any) -> Any:
    if not isinstance(key, dict) or "key" not in key:
        return key
    said = {name: value for name, value in key.items() if name not in ("role", "task")}
    return said if said.keys() > {"key"} else said["key"]


def with_kept(keys: Sequence[Any], kept: Sequence[Any]) -> list[Any]:
    """Return the keys that there were, and after them those that are new."""
    return [*kept, *(key for key in keys if key not in kept)]


def variable_of(keys: Sequence[Any]) -> str:
    """Return the variable that has one of these keys; "" where none is said to."""
    for key in keys:
        source = key.get("key", key) if isinstance(key, dict) else None
        if isinstance(source, dict) and isinstance(source.get("env"), str):
            return str(source["env"])
    return ""
