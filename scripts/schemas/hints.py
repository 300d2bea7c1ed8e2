"""What a caller says beside the request itself: the body object `router`, and headers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import inspect

from router.config.levels import Complexity
from router.dialects.request import BodyHints
from router.policy.hints import AGENT_SESSION_HEADERS, TRUTHS
from scripts.schemas.shapes import TEXT, TRUTH, Schema, maybe, words

SAID = {
    "task": "Category of the call; one that is not known is served as `general`, with a warning.",
    "complexity": "Second level of a task that has none of its own.",
    "strategy": "One that is not known is refused.",
    "role": "One that is not known or not active is refused.",
    "user": "For whom the call is; it only tightens.",
    "session_id": "What keeps its endpoint.",
    "episode_id": "A session over several roles; it goes before `session_id`.",
    "prompt": "Version of the prompt; a new one makes what is believed of the task less sure.",
    "ref": "Your own reference for feedback: text or a whole number.",
    "data_class": "At least this class; one that is not known is refused.",
    "explore": "False holds the call to the choice.",
    "max_cost_usd": "What the call may cost at most, in USD.",
    "max_latency_ms": "Within how many milliseconds it is to be answered.",
    "dry_run": "True answers with what would be decided, and calls nobody.",
    "profile": "True says that it is a call of a profile; `model` is then an endpoint's id.",
    "tags": "Values by key; of the one that the app declares its spend is booked.",
}
POSITIVE: Schema = {"type": "number", "exclusiveMinimum": 0}
OF_BODY: dict[str, Schema] = {
    "complexity": words(Complexity),
    "ref": {"type": ["string", "integer"]},
    "max_cost_usd": POSITIVE,
    "max_latency_ms": POSITIVE,
    "tags": {"type": "object", "additionalProperties": {"type": ["string", "integer"]}},
}
KEY_HEADER = "x-router-key"


def hints() -> Schema:
    """Return the schema of the body object `router`."""
    fields: tuple[Any, ...] = inspect.type_info(BodyHints).fields  # type: ignore[attr-defined]
    properties = {}
    for field in fields:
        kinds = field.type.types
        usual = TRUTH if any(isinstance(one, inspect.BoolType) for one in kinds) else TEXT
        schema = maybe(OF_BODY.get(field.name, usual))
        properties[field.name] = {"description": SAID[field.name], **schema}
    return {
        "title": "Hints",
        "description": "The object `router` in the body of a call; headers go before it",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }


def hint_headers() -> Schema:
    """Return the schema of a call's headers, by their names in lower case."""
    fields: tuple[Any, ...] = inspect.type_info(BodyHints).fields  # type: ignore[attr-defined]
    number = {**TEXT, "pattern": r"^[0-9]*\.?[0-9]+([eE][+-]?[0-9]+)?$"}
    truth = {**TEXT, "pattern": _in_any_case(TRUTHS)}
    other: dict[str, Schema] = {
        "max_cost_usd": number,
        "max_latency_ms": number,
        "complexity": words(Complexity),
        "data_class": {**TEXT, "minLength": 1},
        "explore": truth,
        "dry_run": truth,
        "profile": truth,
    }
    properties = {
        f"x-router-{field.name.replace('_', '-')}": {
            "description": SAID[field.name],
            **other.get(field.name, TEXT),
        }
        for field in fields
    }
    for name in AGENT_SESSION_HEADERS:
        properties[name.decode()] = {"description": "Of coding agents: a session.", **TEXT}
    key = "The app's key, where the bearer token is the provider's."
    properties[KEY_HEADER] = {"description": key, **TEXT}
    return {
        "title": "Hint headers",
        "description": "Headers of a call that mean something here, by their names in lower case",
        "type": "object",
        "properties": properties,
    }


def _in_any_case(names: Iterable[str]) -> str:
    """Return the pattern of any of these; a JSON Schema's has no word for that."""
    return f"^({'|'.join(''.join(map(_letter, name)) for name in names)})$"


def _letter(one: str) -> str:
    return f"[{one.upper()}{one}]" if one.isalpha() else one
