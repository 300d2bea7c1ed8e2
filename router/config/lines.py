"""YAML with the line of everything in it."""

from __future__ import annotations

from typing import Any

import yaml

from router.config.masking import Place, masked_reason
from router.errors import ConfigError, Problem

MAX_FILE_BYTES = 4 << 20


class Loader(yaml.SafeLoader):
    """YAML without dates: an API version such as 2024-10-21 is a name."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the base class declares it so
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def parse_yaml(text: str, file: str) -> tuple[Any, dict[Place, int], list[Problem]]:
    """Return the tree in `text`, the line of each place in it, and keys that stand twice.

    Raises:
        ConfigError: there is no tree in it.
    """
    if len(text) > MAX_FILE_BYTES:
        raise ConfigError(file, [Problem(0, "file", f"{len(text)} bytes", "4 MiB at most")])
    try:
        node = yaml.compose(text, Loader=Loader)
        tree = yaml.load(text, Loader=Loader)  # noqa: S506 - a SafeLoader that knows no dates
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 0
        reason = getattr(error, "problem", None) or str(error)
        hint = "is the indentation right, and is every value that holds a colon quoted?"
        raise ConfigError(file, [Problem(line, "yaml", masked_reason(str(reason)), hint)]) from None
    except RecursionError:
        problem = Problem(0, "yaml", "an alias", "a node refers to itself; write it out")
        raise ConfigError(file, [problem]) from None
    if tree is None:
        hint = "the file is empty; docs/examples/minimal.yaml is a start"
        raise ConfigError(file, [Problem(1, "file", "empty", hint)])
    if not isinstance(tree, dict):
        hint = "the file holds a mapping that begins with endpoints:"
        raise ConfigError(file, [Problem(1, "file", type(tree).__name__, hint)])
    lines: dict[Place, int] = {}
    problems: list[Problem] = []
    try:
        _note_lines(node, (), lines, problems)
    except RecursionError:
        problem = Problem(0, "yaml", "an alias", "a node refers to itself; write it out")
        raise ConfigError(file, [problem]) from None
    return tree, lines, problems


def _note_lines(node: Any, where: Place, lines: dict[Place, int], problems: list[Problem]) -> None:
    lines.setdefault(where, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            name = str(key.value)
            here = (*where, name)
            lines[here] = key.start_mark.line + 1
            if name in seen:
                hint = "the same key stands twice; the later one would win silently"
                problems.append(Problem(lines[here], shown(here), name, hint))
            seen.add(name)
            _note_lines(value, here, lines, problems)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            _note_lines(value, (*where, i), lines, problems)


def line_of(lines: dict[Place, int], where: Place) -> int:
    """Return the line of a place, else of the nearest entry around it; 0 where none is known."""
    while where not in lines and where:
        where = where[:-1]
    return lines.get(where, 0)


def shown(where: Place) -> str:
    """Return a place as a user writes it: `apps.default.keys[0]`."""
    out = ""
    for part in where:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else part
    return out or "file"
