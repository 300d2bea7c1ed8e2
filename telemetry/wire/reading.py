"""JSON of answers, read as far as anybody looks, and as leniently as clients do."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

import msgspec

from telemetry.wire.lenient import read_leniently, softened
from telemetry.wire.sse import BOM

T = TypeVar("T")
LEADING_BYTES = 64 << 10
"""Of an answer, in which its id is looked for."""
WHITE = (" ", "\t", "\n", "\r")
_VALUE = json.JSONDecoder()


def decode(decoder: msgspec.json.Decoder[T], data: bytes) -> T | None:
    """Return what is read, or None where it is no JSON, or has another shape."""
    if data.startswith(BOM):
        data = data[len(BOM) :]
    try:
        return decoder.decode(data)
    except msgspec.ValidationError:
        return None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        pass
    try:
        return decoder.decode(softened(data))
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None


def leading_id(head: bytes) -> str | None:
    """Return the id of an object, where that stands whole in its first bytes, at its top.

    Of a long answer that is read no further: nearly all begin with it.
    """
    text = head.removeprefix(BOM)[:LEADING_BYTES].decode("utf-8", "ignore")
    at = _skip(text, 0)
    if text[at : at + 1] != "{":
        return None
    try:
        while text[at : at + 1] in ("{", ","):
            name, at = _VALUE.raw_decode(text, _skip(text, at + 1))
            at = _skip(text, at)
            value, at = _VALUE.raw_decode(text, _skip(text, at + 1))
            if name == "id":
                return value if isinstance(value, str) and value else None
            at = _skip(text, at)
    except (ValueError, RecursionError):
        pass  # what is there ends inside a value
    return None


def _skip(text: str, at: int) -> int:
    while text[at : at + 1] in WHITE:
        at += 1
    return at


def is_object(data: bytes) -> bool:
    """Return whether it is JSON of another shape than ours: whoever reads it may know it."""
    try:
        return isinstance(read_leniently(data), dict)
    except ValueError:
        return False


def is_text(data: bytes) -> bool:
    """Return whether it is UTF-8, also in what stays undecoded."""
    try:
        return data.isascii() or bool(data.decode())
    except UnicodeDecodeError:
        return False


def read_object(
    decoder: msgspec.json.Decoder[T], data: bytes, *, otherwise: Callable[[], T] | None = None
) -> T | None:
    """Return an object as far as it is read; None where it is none that a client could read.

    Args:
        otherwise: makes what stands for an object of another shape than ours.
    """
    if not is_text(data):
        return None
    found = decode(decoder, data)
    if found is None and otherwise is not None and is_object(data):
        return otherwise()
    return found
