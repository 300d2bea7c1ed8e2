"""Names of sections and fields that are misspelt, put right in the tree.

Each is told once, with what was meant; the rest is then looked at as if it stood there as it was
meant, so that nothing seems to be missing, and what is wrong inside is found in the same round.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from router.config.lines import Findings
from router.config.masking import (
    HIDDEN,
    SAID_BY_KEYS,
    Place,
    is_secret_place,
    no_key_at,
    shown_part,
)
from router.config.tree import Tree
from router.endpoints.entry import Entry

LIKENESS = 0.65
"""From which on one name is likely another's slip: `evn` is .67 like `env`, `value` .6 `azure`."""


def fields_at(where: Place, model: type[Entry]) -> list[str]:
    """Return the names of the fields that the entry at a place may hold.

    Args:
        model: of the whole file.
    """
    shapes: list[Any] = [model]
    for part in where:
        inner = [annotation for shape in shapes for annotation in _inside(shape, part)]
        shapes = [shape for annotation in inner for shape in _shapes(annotation)]
    return [name for shape in shapes if _is_entry(shape) for name in _fields(shape)]


def meant_field(name: str, known: list[str]) -> str | None:
    """Return the field that was likely meant, whatever its case and dashes; None for none."""
    for written in (name, name.lower().replace("-", "_")):
        for close in difflib.get_close_matches(written, known, n=1, cutoff=LIKENESS):
            return close
    return None


def respell(tree: Tree, model: type[Entry]) -> set[Place]:
    """Put right what is misspelt, note it, and return the places that have their names from here.

    Args:
        model: of the whole file.
    """
    renamed: dict[Place, str] = {}
    for old, name in _misspelt(tree.root, model, ()):
        _tell(old, name, tree.findings)
        renamed[old] = name
    if not renamed:
        return set()
    moved: dict[Place, Place] = {(): ()}
    for old in tree.findings.spots:  # an entry comes before those in it
        if old:
            moved[old] = (*moved[old[:-1]], renamed.get(old, old[-1]))
    spots = {moved[old]: spot for old, spot in tree.findings.spots.items()}
    tree.findings.spots.clear()
    tree.findings.spots.update(spots)
    tree.refused[:] = [moved.get(place, place) for place in tree.refused]
    return {moved[old] for old in renamed}


def _misspelt(node: Any, annotation: Any, where: Place) -> Iterator[tuple[Place, str]]:
    """Yield places as they are written with the right name, which they have in the tree then."""
    for shape in _shapes(annotation):
        if isinstance(node, dict) and _is_entry(shape):
            yield from _misspelt_in(node, shape, where)
            continue
        parts: list[Any] = []
        if isinstance(node, list) and get_origin(shape) is list:
            parts = list(enumerate(node))
        elif isinstance(node, dict) and get_origin(shape) is dict:
            parts = list(node.items())
        for name, value in parts:
            yield from _misspelt(value, get_args(shape)[-1], (*where, name))


def _misspelt_in(
    node: dict[str, Any], model: type[Entry], where: Place
) -> Iterator[tuple[Place, str]]:
    fields = _fields(model)
    for written in list(node):
        name = written
        if written.lower() in model.foreign:
            continue
        if written not in fields:
            left = [field for field in fields if field not in node]
            meant = meant_field(written, left)
            if meant is None:
                continue
            name = meant
            node[name] = node.pop(written)
            yield (*where, written), name
        yield from _misspelt(node[name], fields[name], (*where, written))


def _is_entry(shape: Any) -> bool:
    return isinstance(shape, type) and issubclass(shape, Entry)


def _fields(model: type[Entry]) -> dict[str, Any]:
    """Return what an entry's fields hold, by their names as they are written."""
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _inside(shape: Any, part: str | int) -> Iterator[Any]:
    """Yield what may stand at a part of what has this shape."""
    if _is_entry(shape):
        if part in _fields(shape):
            yield _fields(shape)[str(part)]
    elif get_origin(shape) in (list, dict):
        yield get_args(shape)[-1]


def _shapes(annotation: Any) -> Iterator[Any]:
    """Yield the plain types of which a field holds one."""
    if get_origin(annotation) is Annotated:
        yield from _shapes(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            yield from _shapes(part)
    else:
        yield annotation


def _tell(where: Place, name: str, findings: Findings) -> None:
    value, hint = str(where[-1]), f"unknown key; did you mean {name!r}?"
    if is_secret_place(where[:-1]) and name not in SAID_BY_KEYS:
        value, hint = HIDDEN, f"{hint} {no_key_at(where)}"
    findings.add(where, value, hint, told=shown_part(where))
