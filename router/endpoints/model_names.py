"""When two names of models mean one model: hosts and aggregators write the same one in many ways.

A name is a stem with a version (a date, a number of four digits), maybe with owners before it and
a variant behind it: `models/x`, `org/x`, `us.vendor.x`, `x-2026-01-15`, `x@20260115`, `x:free`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

_OWNERS = re.compile(r"(?:[a-z]+\.)+(?=[a-z])")
_VERSION = re.compile(
    r"[-@_](?P<version>"
    r"\d{4}-\d{2}-\d{2}|\d{4}-\d{2}|\d{2}-\d{4}|\d{8}-v\d+|\d{8}|\d{6}|\d{3,4}|latest)$"
)
LATEST = "latest"


class NameParts(NamedTuple):
    """A name of a model, taken apart."""

    stem: str
    version: str  # "": none, or whatever is the latest
    variant: str


@lru_cache(maxsize=1024)
def parts_of(name: str) -> NameParts:
    """Return a name without its owners, and apart from it its version and its variant."""
    head, _, variant = name.lower().rpartition("/")[2].partition(":")
    head = _OWNERS.sub("", head, count=1) if _OWNERS.match(head) else head
    found = _VERSION.search(head)
    if found is None:
        return NameParts(head, "", variant)
    version = found["version"].replace("-", "")
    return NameParts(head[: found.start()], "" if version == LATEST else version, variant)


def is_same_model(one: str, other: str) -> bool:
    """Return whether two names may mean the same: what only one of them says, both may mean."""
    if one == other:
        return True
    a, b = parts_of(one), parts_of(other)
    return (
        a.stem == b.stem
        and _agree(a.version, b.version)
        and (LATEST in (a.variant, b.variant) or _agree(a.variant, b.variant))
    )


def is_any_of(name: str, names: Iterable[str]) -> bool:
    """Return whether a name means one of these models."""
    return any(is_same_model(name, one) for one in names)


def _agree(one: str, other: str) -> bool:
    """Return whether two texts are equal as far as both go."""
    return one.startswith(other) or other.startswith(one)
