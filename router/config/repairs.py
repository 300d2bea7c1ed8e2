"""Wrong values taken out of the tree, so that what else is wrong is found in the same round."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from router.config.masking import Place, is_secret_place

URL = "http://127.0.0.1:9/v1"
"""Stands in for a base URL; nothing is ever sent there, since the file is refused."""
VARIABLE = "TAKEN_OUT"
NAMED = frozenset({"models", "providers", "tasks", "roles", "strategies", "users", "apps"})
NAMED_BY = {
    "endpoints": {"incumbent", "endpoint"},
    "providers": {"provider", "base_url"},
    "strategies": {"strategy", "extends"},
    "tasks": {"task"},
    "roles": {"role"},
    "users": {"user"},
}
"""Fields that name an entry of a section."""


def is_below(where: Place, places: Set[Place]) -> bool:
    """Return whether a place is one of `places` or inside it."""
    return any(where[:n] in places for n in range(len(where) + 1))


class Followers:
    """Problems that may only be there because something else was taken out."""

    def __init__(self, repaired: Set[Place]) -> None:
        self._repaired = repaired
        self._fields: set[str | int] = set()  # that name an entry which nobody knows now
        self._is_keyless = False
        for section, *rest in filter(None, repaired):
            if not rest or (section == "endpoints" and rest[1:] == ["id"]):
                self._fields |= NAMED_BY.get(str(section), set())
            if section == "apps" and (len(rest) < 2 or rest[1] == "keys"):
                self._is_keyless = True

    def __contains__(self, where: Place) -> bool:
        if is_below(where, self._repaired) or where[-1] in self._fields:
            return True
        if where[-1] == "match" and any(place[: len(where)] == where for place in self._repaired):
            return True  # it says nothing as what it said was taken out
        return self._is_keyless and where in (("server", "host"), ("apps",))


def take_out(root: Any, where: Place, *, is_name: bool = False) -> bool:
    """Take a wrong value out of the tree, or put in one that is sound where one must be.

    Args:
        is_name: the name itself is wrong, not what it stands for.

    Returns:
        Whether the rest can be looked at.
    """
    if not where:
        return False
    *parents, last = where
    node: Any = root
    for part in parents:
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            return True  # its parent is out already
    held: Any = node
    stand_in = None if is_name else _stand_in(where)
    if stand_in is not None and isinstance(node, list | dict):
        if len(where) == 2 and isinstance(node, list) and isinstance(held[last], str):
            stand_in["id"] = held[last]  # `- foo` among endpoints is meant to be one of that name
        held[last] = stand_in
    elif isinstance(node, list):
        return take_out(root, tuple(parents))
    elif isinstance(node, dict):
        node.pop(last, None)
    return True


def _stand_in(where: Place) -> Any:
    """Return what stands in for a value that others need, or name; None where nobody does."""
    last = where[-1]
    if where[0] == "endpoints" and len(where) == 2:
        return _endpoint(where)
    if where == ("endpoints",):
        return [_endpoint((*where, 0))]
    if where[0] == "endpoints" and len(where) == 3 and last in ("id", "model", "base_url"):
        return _endpoint(where)[last]
    if where[0] in NAMED and len(where) == 2:
        return {"base_url": URL} if where[0] == "providers" else {}
    if len(where) > 3 and where[-2] == "keys":
        return {"env": VARIABLE}
    if is_secret_place(where) and last in ("env", "file"):
        return VARIABLE
    return URL if last == "base_url" else None


def _endpoint(where: Place) -> dict[str, Any]:
    name = f"taken-out-{where[1]}"
    return {"id": name, "model": name, "base_url": URL}
