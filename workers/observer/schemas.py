"""Whether a text is JSON that fits a schema which the request brought along.

The schema is a stranger's: nothing is fetched or read for it (references go into itself only),
patterns run in linear time, and its size times the text's is bounded. In doubt there is no answer
instead of a wrong one: where a schema does not compile, uses OpenAPI's `nullable`, or is too much
work. `format` is not checked, as the newer drafts have it.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NoReturn

import msgspec

MAX_SCHEMA_BYTES = 1 << 17
MAX_COMPILED = 512
"""Schemas that stay compiled, a few ten kB each; least recently used go."""
MAX_WORK = 1 << 25
"""Subschemas, once every reference is written out, × characters of the text: about 0.3 s.
References to references can double the subschemas at each step."""
MAX_PATTERN_BYTES = 1 << 20
"""Of a compiled pattern, and of what matching it may keep."""
_ELSEWHERE = {"$dynamicRef", "$recursiveRef", "$anchor", "$dynamicAnchor", "$id", "nullable"}
"""What makes a schema more than it seems here; the root may have an `$id`."""


@dataclass(frozen=True, slots=True)
class _Compiled:
    validator: Any
    n_paths: int


_compiled: OrderedDict[bytes, _Compiled | None] = OrderedDict()


class _NotSimple(ValueError):
    """A schema that is not judged by."""


def fits(schema: bytes, text: str) -> bool | None:
    """Return whether `text` is JSON valid against `schema` (JSON too); None where in doubt."""
    is_json, value = read_json(text)
    if not is_json:
        return is_json
    compiled = _compile(schema)
    if compiled is None or compiled.n_paths * len(text) > MAX_WORK:
        return None
    try:
        return bool(compiled.validator.is_valid(value))
    except ValueError:
        return None


def read_json(text: str) -> tuple[bool | None, Any]:
    """Return whether `text` is JSON, and its value.

    None where it is, but with numbers or characters beyond what is compared here.
    """
    try:
        return True, msgspec.json.decode(text)
    except RecursionError:
        return None, None
    except msgspec.DecodeError:
        pass
    try:
        json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError:
        return False, None
    except (ValueError, RecursionError):
        return None, None
    return None, None


def _compile(schema: bytes) -> _Compiled | None:
    if len(schema) > MAX_SCHEMA_BYTES:
        return None
    key = blake2b(schema, digest_size=16).digest()
    if key in _compiled:
        _compiled.move_to_end(key)
        return _compiled[key]
    try:
        parsed = msgspec.json.decode(schema)
        n_paths = _n_paths(parsed, parsed, {}) if isinstance(parsed, dict) else 1
        compiled = _Compiled(_validator_of(parsed), n_paths)
    except (ValueError, RecursionError):  # msgspec's and jsonschema_rs's errors are ValueErrors
        compiled = None
    _compiled[key] = compiled
    if len(_compiled) > MAX_COMPILED:
        _compiled.popitem(last=False)
    return compiled


def _validator_of(parsed: Any) -> Any:
    """Return what validates by a schema.

    Raises:
        ValueError: it does not compile.
    """
    # Imported once there is a schema: where no app sends one, there is a megabyte less.
    from jsonschema_rs import RegexOptions, validator_for

    patterns = RegexOptions(size_limit=MAX_PATTERN_BYTES, dfa_size_limit=MAX_PATTERN_BYTES)
    return validator_for(parsed, offline=True, validate_formats=False, pattern_options=patterns)


def _n_paths(node: Any, root: dict[str, Any], known: dict[int, int]) -> int:
    """Return how many subschemas `node` has once references are written out, loops once.

    Raises:
        _NotSimple: something whose work is not seen from here.
    """
    if not isinstance(node, (dict, list)):
        return 0
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = 1
    n = 1
    if isinstance(node, dict):
        if _ELSEWHERE & node.keys() - ({"$id"} if node is root else set()) and not _are_names(node):
            raise _NotSimple("references of other kinds")
        if isinstance(ref := node.get("$ref"), str):
            n += _n_paths(_target(ref, root), root, known)
    for child in node.values() if isinstance(node, dict) else node:
        n += _n_paths(child, root, known)
    known[id(node)] = n
    return n


def _are_names(node: dict[str, Any]) -> bool:
    """Return whether these keys name properties: then the values are schemas, not words."""
    return all(isinstance(node[key], dict) for key in _ELSEWHERE & node.keys())


def _target(ref: str, root: dict[str, Any]) -> Any:
    """Return what a reference within the schema points at."""
    if ref != "#" and not ref.startswith("#/"):
        raise _NotSimple("a reference to elsewhere")
    node: Any = root
    for step in ref.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict) and name in node:
            node = node[name]
        elif isinstance(node, list) and name.isdecimal() and int(name) < len(node):
            node = node[int(name)]
        else:
            raise _NotSimple("a reference to nothing")
    return node


def _refuse(constant: str) -> NoReturn:
    raise json.JSONDecodeError("not JSON", constant, 0)
