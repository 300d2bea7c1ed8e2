"""JSON of answers, read as far as anybody looks, and as leniently as clients do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from telemetry.wire.lenient import read_leniently, softened
from telemetry.wire.sse import BOM

T = TypeVar("T")


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
