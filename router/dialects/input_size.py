"""How large what is embedded or completed is: one text, many, or tokens that were counted."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from router.dialects.prompt_size import DATA
from router.endpoints.entries import Dialect
from telemetry.wire.reading import decode

INPUTS = {Dialect.EMBEDDINGS: "input", Dialect.COMPLETIONS: "prompt"}
"""Under which name it stands, in dialects that may have many in one call."""
_ANY = msgspec.json.Decoder(Any)


class InputSize(Struct, frozen=True):
    """What all inputs of a call take together."""

    text_bytes: int = 0
    n_tokens: int = 0  # that are given as such


def input_size(body: bytes, dialect: Dialect) -> InputSize | None:
    """Return the size of a call's inputs; None where its dialect has one prompt alone."""
    name = INPUTS.get(dialect)
    if name is None:
        return None
    try:
        value = decode(_ANY, body)
        found = _size(value.get(name)) if isinstance(value, dict) else (0, 0)
    except RecursionError:
        found = len(body), 0
    return InputSize(*found)


def _size(value: Any, name: str = "") -> tuple[int, int]:
    """Return bytes of text and tokens in a value; what pictures and sounds hold is no text."""
    if isinstance(value, str):
        is_data = name in DATA or value.startswith("data:")
        return (0 if is_data else len(value.encode(errors="replace"))), 0
    if isinstance(value, int):
        return 0, 1
    if isinstance(value, dict):
        parts = [_size(part, key) for key, part in value.items()]
    elif isinstance(value, list):
        if all(type(each) is int for each in value):
            return 0, len(value)
        parts = [_size(each, name) for each in value]
    else:
        return 0, 0
    return sum(n for n, _ in parts), sum(n for _, n in parts)
