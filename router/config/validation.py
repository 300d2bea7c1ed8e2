"""Whether the tree in a file has the shape of a configuration; every error is told at once."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from router.config.checks import did_you_mean
from router.config.entries import (
    File,
)
from router.config.lines import line_of, shown
from router.config.masking import HIDDEN, NO_KEY_HERE, Place, is_secret_place, shown_part
from router.endpoints.base_url import without_user
from router.endpoints.entries import (
    Entry,
)
from router.errors import Problem

MAX_REPAIRS = 8
"""Rounds of taking wrong values out; each round finds all errors of one depth."""


def validate(
    tree: Any, lines: dict[Place, int], problems: list[Problem]
) -> tuple[File | None, list[Place]]:
    """Return the entries, and the places that had to be left out so that the rest can be checked.

    What is wrong in shape is noted and taken out, and the rest is tried again: so a user meets
    every problem in one round, not one layer of them after the other.
    """
    repaired: list[Place] = []
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


def _take_out(tree: Any, where: Place, detail: Any) -> bool:
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


def _explain(detail: Any, lines: dict[Place, int]) -> Problem:
    """Return a validation error as a problem; parts of a path that pydantic made up go."""
    where = _place(detail, lines)
    if is_secret_place(where):
        return _explain_secret(detail, where, lines)
    if detail["type"] == "missing":
        where = (*where, detail["loc"][-1])
        return Problem(line_of(lines, where), shown(where), "missing", "this field is required")
    if detail["type"] == "extra_forbidden":
        known = _known_fields(where[:-1])
        hint = f"unknown key{did_you_mean(str(where[-1]), known)}"
        return Problem(line_of(lines, where), shown(where), str(where[-1]), hint)
    hint = str(detail["msg"]).removeprefix("Value error, ")
    return Problem(line_of(lines, where), shown(where), _brief(detail["input"]), hint)


def _explain_secret(detail: Any, where: Place, lines: dict[Place, int]) -> Problem:
    """Return an error where a key may stand by mistake: field and fix, and no value."""
    told = shown_part(where)
    hint = NO_KEY_HERE
    if detail["type"] == "extra_forbidden":
        hint = f"unknown key; {hint}"
    elif detail["type"] in ("value_error", "string_pattern_mismatch"):  # they hold no value
        hint = f"{str(detail['msg']).removeprefix('Value error, ')}; {hint}"
    if where[-1] == "auth":
        hint += ", or write client or none"
    return Problem(line_of(lines, where), shown(told), HIDDEN, hint)


def _place(detail: Any, lines: dict[Place, int]) -> Place:
    """Return where an error stands in the file; parts that pydantic made up are left out."""
    where: Place = ()
    for part in detail["loc"]:
        if (*where, part) in lines:
            where = (*where, part)
    return where


def _known_fields(where: Place) -> list[str]:
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
    brief = without_user(repr(value))
    return brief if len(brief) <= 60 else brief[:57] + "…"
