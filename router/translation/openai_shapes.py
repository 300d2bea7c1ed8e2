"""What OpenAI's two dialects say in the same shape."""

from __future__ import annotations

from typing import Any

from router.translation.fields import StrictFields
from router.translation.prompt import Choosing, Schema, Sound, ToolChoice, TurnRole

ROLES = {"system": TurnRole.SYSTEM, "developer": TurnRole.SYSTEM, "user": TurnRole.USER}
FORMATS = ("text", "json_schema", "json_object")
CHOICES = {"auto": Choosing.AUTO, "none": Choosing.NONE, "required": Choosing.ANY}


def sound_said(fields: StrictFields) -> Sound:
    """Return a recording."""
    found = Sound(fields.some_text("data"), fields.some_text("format"))
    fields.close("sound")
    return found


def grammar_of(format_: StrictFields, inner: str | None) -> dict[str, Any] | None:
    """Return the grammar of what a tool takes; None where it takes any text.

    Args:
        inner: the field that holds the grammar, where it is not the format itself.
    """
    grammar = None
    if format_.kind(("text", "grammar")) == "grammar":
        holder = format_.must(inner) if inner else format_
        words = {key: holder.some_text(key) for key in ("syntax", "definition")}
        grammar = {"type": "grammar", **words}
        holder.close("format")
    format_.close("format")
    return grammar


def word_chosen(fields: StrictFields) -> ToolChoice | None:
    """Return how a tool is to be chosen, if a word says it; an object is not taken."""
    word = fields.alone("tool_choice")
    if word is None:
        return None
    if word not in CHOICES:
        raise fields.refusal("tool_choice", f"is none of {', '.join(CHOICES)} and a tool")
    return ToolChoice(CHOICES[word])


def schema_said(fields: StrictFields) -> Schema:
    """Return the shape that an answer must have."""
    schema = fields.mapping("schema")
    if schema is None:
        raise fields.refusal("schema", "is missing")
    found = Schema(
        schema=schema,
        name=fields.some_text("name"),
        strict=fields.flag("strict"),
        description=fields.text("description") or None,
    )
    fields.close("schema")
    return found
