"""Legacy completions as they are answered: choices that carry text, whole and in pieces alike."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from telemetry.wire.chat import FAILED_FINISHES
from telemetry.wire.reading import read_object
from telemetry.wire.usage import WholeAnswer, id_of, usage_of


class _TextChoice(Struct):
    text: Raw = Raw(b"null")
    finish_reason: Any = None
    error: Any = None

    @property
    def has_failed(self) -> bool:
        finish = self.finish_reason
        is_failure = isinstance(finish, str) and finish in FAILED_FINISHES
        return is_failure or bool(self.error) or bytes(self.text) == b"null"


class _TextAnswer(Struct):
    id: Any = None
    model: Any = None
    object: Any = None
    choices: list[_TextChoice] | None = None
    usage: Any = None
    service_tier: Any = None
    error: Any = None


_ANSWER = msgspec.json.Decoder(_TextAnswer)


def read_completion(body: bytes) -> WholeAnswer | None:
    """Return what is read of an unstreamed answer, or None where there is no answer in it."""
    found = read_object(_ANSWER, body)
    if found is None or not found.choices or found.error or found.object == "error":
        return None
    if any(choice.has_failed for choice in found.choices):
        return None
    usage = usage_of(found.usage, found.service_tier)
    return WholeAnswer(id_of(found.id), usage, id_of(found.model))
