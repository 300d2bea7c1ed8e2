"""One field of the configuration as a row of a table: what may be written, and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from router.endpoints.entry import Entry
from scripts.schemas.configuration import entries
from scripts.schemas.shapes import Schema

KINDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "`true`, `false`",
    "array": "list",
    "object": "map",
}


@dataclass(frozen=True, slots=True)
class FieldSection:
    """A section of a page: the fields of one entry."""

    file: str
    heading: str
    model: type[Entry]
    place: str

    def link_from(self, other: FieldSection) -> str:
        """Return how a section of the same page or another one refers to this."""
        anchor = "#" + self.heading.lower().replace(" ", "-")
        return anchor if other.file == self.file else self.file + anchor


@dataclass(frozen=True, slots=True)
class FieldListing:
    """A schema of a configuration, and the section that lists each of its entries.

    Raises:
        ValueError: an entry is listed nowhere.
    """

    whole: type[Entry]
    schema: Schema
    parts: Mapping[type[Entry], FieldSection]

    def __post_init__(self) -> None:
        missing = [entry.__name__ for entry in entries(self.whole) if entry not in self.parts]
        if missing:
            raise ValueError(f"no page of the reference lists {', '.join(missing)}")

    def row(self, part: FieldSection, name: str, schema: Schema, *, is_needed: bool) -> str:
        """Return a row: name, what may be written, what holds unset, and what it means."""
        unset = "needed" if is_needed else _unset(schema.get("default"))
        cells = (f"`{name}`", self.written(schema, part), unset, schema["description"])
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    def written(self, schema: Schema, part: FieldSection) -> str:
        """Return in words what a schema takes; null is what is unset."""
        choices = schema.get("anyOf") or schema.get("oneOf")
        if choices:
            said = [self.written(each, part) for each in choices if each.get("type") != "null"]
            return " or ".join(dict.fromkeys(said))
        if "$ref" in schema:
            return self._named(schema["$ref"].rpartition("/")[2], part)
        if "const" in schema or "enum" in schema:
            words = schema.get("enum", [schema.get("const")])
            return ", ".join(f"`{word}`" for word in words)
        if schema.get("type") == "array" and "items" in schema:
            return f"list: {self.written(schema['items'], part)}"
        if isinstance(schema.get("additionalProperties"), dict):
            return f"by name: {self.written(schema['additionalProperties'], part)}"
        return KINDS.get(schema.get("type", ""), "anything") + _range(schema)

    def _named(self, name: str, part: FieldSection) -> str:
        for entry, other in self.parts.items():
            if entry.__name__ == name:
                return f"[{other.heading.lower()}]({other.link_from(part)})"
        return self.written(self.schema["$defs"][name], part)


def _unset(default: object) -> str:
    if default is None or default in ([], {}) or isinstance(default, dict):
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def _range(schema: Schema) -> str:
    above = "exclusiveMinimum" in schema
    least = schema.get("minimum", schema.get("exclusiveMinimum"))
    most = schema.get("maximum", schema.get("exclusiveMaximum"))
    if least is None:
        return ""
    first = f"{'above ' if above else ''}{least:,.10g}"
    if most is not None:
        return f", {first} to {most:,.16g}"
    return f", {first}" if above else f", {first} or more"
