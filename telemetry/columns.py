"""Names of columns and fields: stripped, each once, and asked about where they look misspelt."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from json import JSONDecodeError
from typing import Any

from telemetry.numbers import brief

SHORT = 3
"""Names up to here differ from many words by one letter; only case and signs are looked at."""


class BadColumns(Exception):
    """Columns or fields cannot be taken as meant; the message names one and says what to do."""

    def __init__(self, message: str, name: str) -> None:
        self.name = name
        super().__init__(message)


def stripped(names: Sequence[str]) -> list[str]:
    """Return names without the blanks around them; a second one without a name goes by its place.

    Raises:
        BadColumns: a name is there twice.
    """
    out: dict[str, None] = {}
    for place, name in enumerate(names, 1):
        plain = name.strip()
        if plain in out:
            if plain:
                raise BadColumns(f"column {brief(plain)} is there twice; rename or drop one", name)
            plain = f"column {place}"
        out[plain] = None
    return list(out)


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object out of its fields; what `json.loads` takes as `object_pairs_hook`.

    Raises:
        BadColumns: a field is there twice; readers of JSON would take the last one.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadColumns(f"field {brief(twice)} is there twice; drop one", twice)
    return found


def fault_of(error: ValueError) -> str:
    """Return what is wrong with a line of JSON, and in which column of it.

    Whoever tells that names the line of the file; a reader of one line knows it as its first.
    """
    if not isinstance(error, JSONDecodeError):
        return str(error)
    return f"{error.msg[:1].lower()}{error.msg[1:]} at column {error.colno}"


def check(
    names: Collection[str],
    known: Collection[str],
    *,
    same: Mapping[str, str] | None = None,
    what: str = "column",
    fix: str = "rename it",
) -> None:
    """Refuse names that look like known ones which are not there.

    Args:
        same: other names of known ones; what is there by one of its names is not missed.
        what, fix: what they are, and what can be done.

    Raises:
        BadColumns: asks about the first of them.
    """
    same = same or {}
    there = {same.get(name, name) for name in names if name in known}
    for name in names:
        near = meant(name, known)
        if near and same.get(near, near) not in there:
            raise BadColumns(f"{what} {brief(name)}: did you mean {near!r}? {fix}", name)


def meant(name: str, known: Collection[str]) -> str:
    """Return the known name that an unknown one looks like; "" where it looks like none."""
    if name in known:
        return ""
    plain = re.sub(r"[\s\-_]+", "_", name.strip().lower())
    if plain in known:
        return plain
    if len(plain) <= SHORT:
        return ""
    return next((k for k in sorted(known) if len(k) > SHORT and is_one_edit(plain, k)), "")


def is_one_edit(a: str, b: str) -> bool:
    """Return whether one letter more, less, other or swapped with its neighbour makes a of b."""
    if abs(len(a) - len(b)) > 1 or a == b:
        return False
    short, long = sorted((a, b), key=len)
    i = next((i for i, (x, y) in enumerate(zip(short, long, strict=False)) if x != y), len(short))
    if len(short) < len(long):
        return short[i:] == long[i + 1 :]
    swapped = short[i : i + 2] == long[i : i + 2][::-1] and short[i + 2 :] == long[i + 2 :]
    return swapped or short[i + 1 :] == long[i + 1 :]
