"""The tree in the file, made of its nodes: every key and value with its line and its text.

Merges keep the lines of what they bring in, and aliases may not grow without bound.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from router.config.lines import Findings, Spot
from router.config.masking import Place
from router.config.nodes import CORE, MAX_DEPTH, MERGE, NOT_FILLED_IN, compose, too_deep
from router.endpoints.scalars import number_of
from router.errors import ConfigError, Problem

MOST_BROUGHT_IN = 100_000
"""Keys and values that aliases and merges may add to those that are written: ten thousand usual
endpoints. Without a bound, ten lines of aliases to aliases are more than any memory holds."""
NO_TEXT = re.compile(r"[\0\ud800-\udfff]")
"""What escapes can write, and no path, header, variable or UTF-8 can hold."""


class Unbounded(Exception):
    """Aliases make more of a file than can be read."""


class Tree:
    """The values in a file, and what is wrong with them as YAML.

    `refused` are places whose value is not to be looked at any further.
    """

    def __init__(self, node: Any, n_characters: int) -> None:
        self.findings = Findings()
        self.refused: list[Place] = []
        self._left = n_characters + MOST_BROUGHT_IN  # each key and each value has one at least
        self._open: set[int] = set()
        self.root = self._value(node, (), node)

    def _value(self, node: Any, where: Place, key: Any) -> Any:
        """Return what a node holds; `key` is the node by which its place is told."""
        self._count()
        spot = Spot(*_mark(key), kind=_kind(node))
        if isinstance(node, yaml.ScalarNode):
            spot = Spot(*_mark(key), text=node.value, quote=node.style or None)
        self.findings.spots[where] = spot
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, where)
        if node.tag not in (f"{CORE}seq", f"{CORE}map"):
            self._refuse(where, node.tag, f"tags are not known here; {NOT_FILLED_IN}")
        self._enter(node, where)
        if isinstance(node, yaml.SequenceNode):
            found: Any = [self._value(v, (*where, i), v) for i, v in enumerate(node.value)]
        else:
            pairs = self._pairs(node, where)
            found = {name: self._value(v, (*where, name), k) for name, (k, v) in pairs.items()}
        self._open.discard(id(node))
        return found

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Unbounded(f"aliases and merges bring in more than {MOST_BROUGHT_IN} entries")

    def _enter(self, node: Any, where: Place) -> None:
        if id(node) in self._open:
            raise Unbounded(f"line {_mark(node)[0]}: a node refers to itself; write it out")
        if len(where) > MAX_DEPTH:
            raise RecursionError
        self._open.add(id(node))

    def _scalar(self, node: Any, where: Place) -> Any:
        self._check_text(node.value, where)
        text, tag = NO_TEXT.sub("", node.value), node.tag.removeprefix(CORE)
        if tag in ("str", "merge"):
            return text
        if tag == "null" and text.lower() in ("", "~", "null"):
            return None
        if tag == "bool" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        number = number_of(text) if tag in ("int", "float") else None
        if number is not None:
            return number
        known = tag in ("null", "bool", "int", "float")
        hint = f"this is no {tag}; leave the tag out" if known else "tags are not known here"
        self._refuse(where, node.tag, f"{hint}; {NOT_FILLED_IN}")
        return text

    def _pairs(self, node: Any, where: Place) -> dict[str, tuple[Any, Any]]:
        """Return what a mapping holds by name, merges included: each key's node and value's."""
        own: dict[str, tuple[Any, Any]] = {}
        merged: dict[str, tuple[Any, Any]] = {}
        n_merges = 0
        for key, value in node.value:
            self._count()
            if not isinstance(key, yaml.ScalarNode):
                hint = f"a name belongs before a colon; for {{{{ … }}}}: {NOT_FILLED_IN}"
                self._refuse(where, _kind(key), hint, key)
            elif key.tag == MERGE:
                n_merges += 1
                if n_merges > 1:
                    self._tell((*where, "<<"), "<<", "write them as one: <<: [*a, *b]", key)
                for source in self._sources(value, where, key):
                    self._enter(source, where)
                    for name, pair in self._pairs(source, where).items():
                        merged.setdefault(name, pair)
                    self._open.discard(id(source))
            else:
                self._check_text(key.value, where)
                if key.value in own:
                    hint = "the same key stands twice; the later one would win silently"
                    self._tell((*where, key.value), key.value, hint, key)
                    value = _joined(own[key.value][1], value)
                own[key.value] = (key, value)
        return {**merged, **own}

    def _sources(self, value: Any, where: Place, key: Any) -> Iterator[Any]:
        """Yield the mappings that `<<` brings in."""
        for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            if isinstance(source, yaml.MappingNode):
                yield source
                continue
            text = source.value if isinstance(source, yaml.ScalarNode) else _kind(source)
            self._tell((*where, "<<"), text, "<< takes a mapping (*name), or a list of them", key)

    def _check_text(self, text: str, where: Place) -> None:
        """Refuse what is no text; the rest of it is what is looked at any further."""
        if NO_TEXT.search(text):
            self._refuse(where, repr(text), "an escape stands for what is no text; leave it out")

    def _refuse(self, where: Place, value: str, hint: str, node: Any = None) -> None:
        self._tell(where, value, hint, node)
        self.refused.append(where)

    def _tell(self, where: Place, value: str, hint: str, node: Any) -> None:
        spot = None if node is None else Spot(*_mark(node))
        self.findings.add(where, value, hint, spot=spot)


def parse_yaml(text: str, file: str) -> Tree:
    """Return the tree in `text`, whose root is a mapping.

    Raises:
        ConfigError: there is no tree in it, or one without bounds.
    """
    node = compose(text, file)
    if node is None:
        hint = "the file is empty; docs/examples/minimal.yaml is a start"
        raise ConfigError(file, [Problem(1, "file", "empty", hint)])
    try:
        tree = Tree(node, len(text))
    except Unbounded as error:
        raise ConfigError(file, [Problem(0, "yaml", "an alias", str(error))]) from None
    except RecursionError:
        raise too_deep(file) from None
    if not isinstance(tree.root, dict):
        hint = "the file holds a mapping that begins with endpoints:"
        kind = _kind(node) or "a single value"  # such as ~
        raise ConfigError(file, [Problem(1, "file", kind, hint)])
    return tree


def _joined(first: Any, later: Any) -> Any:
    """Return both values of a repeated key as one, so that what is wrong in either is found."""
    for kind in (yaml.MappingNode, yaml.SequenceNode):
        if isinstance(first, kind) and isinstance(later, kind):
            both = first.value + later.value
            return kind(later.tag, both, later.start_mark, later.end_mark)
    return later


def _kind(node: Any) -> str:
    kinds = {yaml.MappingNode: "a mapping", yaml.SequenceNode: "a list"}
    return kinds.get(type(node), "")


def _mark(node: Any) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.index
