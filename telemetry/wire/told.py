"""What an answer tells of itself that is of no kind that we read, or none at all: what it used.

Whoever says that it failed may bill for it nevertheless; paths of no dialect bill as others do.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
from msgspec import Struct

from telemetry.wire.reading import read_object
from telemetry.wire.usage import Usage, id_of, prompt_usage_of


class _Told(Struct):
    """The top of an answer."""

    model: Any = None
    usage: Any = None
    service_tier: Any = None


_USAGE = re.compile(rb'(?<!\\)"usage"\s*:\s*(?=\{)')
"""Within a text it could only stand with backslashes."""
_VALUE = json.JSONDecoder()
_TOLD = msgspec.json.Decoder(_Told)


class ToldUsage(Struct, frozen=True):
    """What an answer tells that is none."""

    usage: Usage | None = None
    model: str | None = None  # who answered


NOTHING_TOLD = ToldUsage()


def read_told(body: bytes) -> ToldUsage:
    """Return what an unstreamed answer of whatever kind tells of its usage, and of its model."""
    found = read_object(_TOLD, body)
    if found is None:
        return NOTHING_TOLD
    return ToldUsage(prompt_usage_of(found.usage, found.service_tier), id_of(found.model))


def read_tail(tail: bytes) -> ToldUsage:
    """Return the usage that stands at the end of an answer that is too long to be read."""
    places = list(_USAGE.finditer(tail))
    if not places:
        return NOTHING_TOLD
    try:
        found, _ = _VALUE.raw_decode(tail[places[-1].end() :].decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return NOTHING_TOLD
    return ToldUsage(prompt_usage_of(found))
