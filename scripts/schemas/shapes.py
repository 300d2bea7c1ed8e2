"""Parts that several schemas have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import inspect

from router.config.exclusions import Exclusion
from router.config.rules import Level, PolicyRules
from router.endpoints.capabilities import Capability
from router.policy.telling import BITS

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
TRUTH: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
PROBABILITY: Schema = {"type": "number", "minimum": 0, "maximum": 1}
TEXTS: Schema = {"type": "array", "items": TEXT}


def words(kind: Iterable[str]) -> Schema:
    """Return a schema of one of these words."""
    return {"enum": [str(word) for word in kind]}


def many(item: Schema) -> Schema:
    """Return a schema of a list."""
    return {"type": "array", "items": item}


def maybe(schema: Schema) -> Schema:
    """Return a schema that takes null as well."""
    if "enum" in schema:
        return {**schema, "enum": [*schema["enum"], None]}
    if isinstance(schema.get("type"), str):
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def closed(properties: Mapping[str, Schema], *, optional: Iterable[str] = ()) -> Schema:
    """Return a schema of an object that has these fields and no others."""
    left_out = set(optional)
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in left_out],
        "additionalProperties": False,
    }


def by_name(schema: Schema) -> Schema:
    """Return a schema of an object whose fields are names, each with the same kind of value."""
    return {"type": "object", "additionalProperties": schema}


def exclusions() -> Schema:
    """Return a schema of reasons by endpoint: a code, and what it is about after a colon."""
    codes = "|".join(code.value for code in Exclusion)
    return by_name({"type": "string", "pattern": f"^({codes})(: .+)?$"})


def policy() -> Schema:
    """Return a schema of a merged policy, made from the rules' own fields."""
    fields = {}
    for field in inspect.type_info(PolicyRules).fields:  # type: ignore[attr-defined]
        value = _value(field.name, field.type)
        step = closed({"by": words(Level), "value": value})
        fields[field.name] = closed({"value": value, "said": many(step)})
    return closed(fields, optional=fields)


def _value(name: str, kind: Any) -> Schema:
    if name in BITS:
        return many(words(Capability))
    if name == "tools":
        return many(TEXTS)
    kinds = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    (one,) = [each for each in kinds if not isinstance(each, inspect.NoneType)]
    match one:
        case inspect.StructType() | inspect.StrType():
            return TEXT
        case inspect.FrozenSetType():
            return TEXTS
        case inspect.BoolType():
            return TRUTH
        case inspect.IntType():
            return COUNT
        case _:
            return NUMBER
