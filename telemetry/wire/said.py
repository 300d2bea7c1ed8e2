"""How much text an answer holds, whole or in pieces, in whichever dialect: for what nobody counted.

What is no text (sounds, pictures, signatures, ids) is left out.
"""

from __future__ import annotations

from typing import Any

import msgspec

from telemetry.wire.reading import decode

TEXTS = frozenset(
    {
        *("content", "text", "refusal", "transcript", "delta", "output_text"),
        *("reasoning_content", "reasoning", "thinking", "summary_text"),
        *("arguments", "partial_json", "name", "citation"),
    }
)
"""Names of what is written; `input` of a tool's call is written as JSON."""
TWICE = frozenset({"reasoning_details", "annotations", "logprobs"})
"""Names of what is said beside the text as well."""
_ANY = msgspec.json.Decoder(Any)


def bytes_said(value: Any) -> int:
    """Return the bytes of text in a piece of an answer, or in part of one."""
    if type(value) is str:
        return len(value) if value.isascii() else len(value.encode(errors="replace"))
    if type(value) is dict:
        size = 0
        for name, part in value.items():
            if name == "input" and type(part) is dict:
                size += len(msgspec.json.encode(part))
            elif name in TEXTS if type(part) is str else name not in TWICE:
                size += bytes_said(part)
        return size
    return sum(map(bytes_said, value)) if type(value) is list else 0


def bytes_answered(body: bytes) -> int:
    """Return the bytes of text in a whole answer; of one that cannot be read, all of it."""
    try:
        answer = decode(_ANY, body)
        if not isinstance(answer, dict):
            return len(body)
        return sum(bytes_said(answer.get(name)) for name in ("choices", "content", "output"))
    except RecursionError:
        return len(body)
