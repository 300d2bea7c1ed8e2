"""JSON Schemas of everything that is told, made from the types that read it.

`python -m telemetry.schemas` writes them anew; a test fails where they have drifted.
"""

from __future__ import annotations

import json
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from telemetry.events import RECORD_VERSION, FeedbackKind, Flag, Kind, Match, Result, Source
from telemetry.ingest import FeedbackEvent, OutcomeEvent
from telemetry.layouts import RECORD

DIRECTORY = Path(__file__).parent
DIALECT = "https://json-schema.org/draft/2020-12/schema"
_NAMED: dict[str, type[IntEnum] | type[IntFlag]] = {
    "kind": Kind,
    "result": Result,
    "feedback_kind": FeedbackKind,
    "match": Match,
    "source": Source,
    "flags": Flag,
    "token_flags": Flag,
}


def build() -> dict[str, dict[str, Any]]:
    """Return every schema by its file's name."""
    events: dict[str, type[BaseModel]] = {
        "outcome_event.json": OutcomeEvent,
        "feedback_event.json": FeedbackEvent,
    }
    out = {
        name: {"$schema": DIALECT, **model.model_json_schema()} for name, model in events.items()
    }
    return {**out, "record.json": {"$schema": DIALECT, **_record()}}


def shown(schema: dict[str, Any]) -> str:
    """Return a schema as its file holds it."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _record() -> dict[str, Any]:
    """Return what a decoded record holds; `x-offset` and `x-bytes` say where it lies."""
    return {
        "title": "Record",
        "description": f"A record of {RECORD.itemsize} bytes, little-endian; no field holds text",
        "x-version": RECORD_VERSION,
        "x-bytes": RECORD.itemsize,
        **_struct(RECORD, 0),
    }


def _struct(dtype: Any, base: int) -> dict[str, Any]:
    properties = {}
    for name in dtype.names:
        field, offset = dtype.fields[name][:2]
        entry = _struct(field, base + offset) if field.names else _scalar(name, field)
        properties[name] = {**entry, "x-offset": base + offset, "x-bytes": field.itemsize}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _scalar(name: str, field: Any) -> dict[str, Any]:
    """Return a field's schema: bytes as hexadecimal text, numbers within their width."""
    if field.kind == "V":
        return {"type": "string", "pattern": f"^[0-9a-f]{{{2 * field.itemsize}}}$"}
    if field.kind == "f":
        return {"type": "number"}
    bits = 8 * field.itemsize
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if field.kind == "i" else (0, 2**bits - 1)
    out: dict[str, Any] = {"type": "integer", "minimum": low, "maximum": high}
    if name in _NAMED:
        out["x-names"] = {member.name: int(member) for member in _NAMED[name]}
    return out
