"""YAML 1.2 as nodes: its core schema, and why a text is no YAML."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import yaml

from router.config.masking import masked_reason
from router.endpoints.scalars import FRACTION, INTEGER, NO_NUMBER
from router.errors import ConfigError, Problem

MAX_FILE_BYTES = 4 << 20
MAX_DEPTH = 64
"""Entries have ten levels at most; the rest is left to `params`."""
CORE = "tag:yaml.org,2002:"
MERGE = f"{CORE}merge"
NOT_FILLED_IN = "nothing is filled in in this file: write the value itself"


class Loader(yaml.SafeLoader):
    """Composes nodes with the tags of YAML 1.2, and merges, which people know from 1.1.

    Only what it composes is used: the values that it would make are those of YAML 1.1, where 010
    is eight and `no` is false.
    """

    yaml_implicit_resolvers = {}  # noqa: RUF012 - the base class declares it so


for _tag, _pattern, _first in (
    ("null", r"null|Null|NULL|~|", ["n", "N", "~", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", INTEGER.pattern, list("-+0123456789")),
    ("float", f"{FRACTION.pattern}|{NO_NUMBER.pattern}", list("-+.0123456789")),
    ("merge", "<<", ["<"]),
):
    Loader.add_implicit_resolver(f"{CORE}{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first)

_NO_DOCUMENTS, _COMMENT = r"(?!.*^(?:---|\.\.\.))", r"^[ ]*\#[ -\[\]-~]*$"
_WORDS, _WITHIN = r"[\w \n./:,'\"#()+=@$~;^-]", r"(?<=[\w'\"-])[*%<>|!&`]"
PLAIN = re.compile(
    rf"{_NO_DOCUMENTS}(?:(?>{_COMMENT}|{_WORDS}|[\[\]{{}}]|{_WITHIN})*+"
    rf"|(?>{_COMMENT}|{_WORDS}|{_WITHIN}|\[\]|{{}}|(?<=\w)\?)*+)\Z",
    re.M | re.S,
)
"""Texts of which libyaml, where it takes them, makes the same nodes as PyYAML: without tabs,
escapes, anchors, tags, block scalars and documents, where the two differ here and there, and
without a question mark where brackets hold something."""
_InC: Any = getattr(yaml, "CSafeLoader", None)  # not in every build of PyYAML


def _composed(text: str) -> Any:
    """Return the root node; ten times as fast where libyaml may be asked."""
    if _InC is not None and PLAIN.match(text):
        try:
            return yaml.compose(text, Loader=_quick())
        except yaml.YAMLError:
            pass  # PyYAML says why, or takes it
    return yaml.compose(text, Loader=Loader)


@cache
def _quick() -> Any:
    """Return the loader that composes in C, with the tags of `Loader`."""
    own = {"yaml_implicit_resolvers": Loader.yaml_implicit_resolvers}
    return type("QuickLoader", (_InC,), own)


def compose(text: str, file: str) -> Any:
    """Return the root node of `text`; None where it holds nothing.

    Raises:
        ConfigError: it is no YAML.
    """
    if len(text) > MAX_FILE_BYTES:
        raise ConfigError(file, [Problem(0, "file", f"{len(text)} bytes", "4 MiB at most")])
    try:
        return _composed(text)
    except RecursionError:
        raise too_deep(file) from None
    except yaml.YAMLError as error:
        raise ConfigError(file, [_no_yaml(error, text)]) from None


def too_deep(file: str) -> ConfigError:
    """Return the error for what is nested without end."""
    hint = f"{MAX_DEPTH} levels at most; is a bracket left open?"
    return ConfigError(file, [Problem(0, "yaml", "entries within entries", hint)])


def _no_yaml(error: yaml.YAMLError, text: str) -> Problem:
    """Return why a text is no YAML, without the words of the file that the reason repeats."""
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        # Of a text, it is a code point; the type stubs know only of bytes.
        return Problem(line, "yaml", f"character {error.character!r}", "leave it out")
    mark = getattr(error, "problem_mark", None)
    reason = masked_reason(str(getattr(error, "problem", None) or error))
    hint = "is the indentation right, and is every value that holds a colon quoted?"
    if "undefined alias" in reason:
        hint = "an alias needs its anchor (&name) above it; quote a text that begins with *"
    elif r"'\t'" in reason:
        reason = "a tab"
        hint = "indent with spaces, and write a space after a colon and before a comment"
    elif "duplicate anchor" in str(error):
        reason = "the same anchor (&name) stands twice"
        hint = "give each its own name, or nobody knows which one an alias means"
    elif "another document" in reason:
        reason = "a second document"
        hint = "leave out --- and what follows, or make it a file of its own"
    elif mark and re.search(r"\$\{|\{\{|\{%", _line(text, mark.index)):
        hint = NOT_FILLED_IN
    return Problem(mark.line + 1 if mark else 0, "yaml", reason, hint)


def _line(text: str, at: int) -> str:
    """Return the line of a text that a character stands in."""
    start = text.rfind("\n", 0, at) + 1
    return text[start:].split("\n", 1)[0]
