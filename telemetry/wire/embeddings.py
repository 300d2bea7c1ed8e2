"""Embeddings as they are answered: always whole."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from telemetry.wire.reading import read_object
from telemetry.wire.usage import WholeAnswer, id_of, prompt_usage_of


class EmbeddingsAnswer(Struct):
    """The top of an answer; its vectors stay undecoded."""

    data: msgspec.Raw = msgspec.Raw(b"")
    model: Any = None
    usage: Any = None
    error: Any = None


_ANSWER = msgspec.json.Decoder(EmbeddingsAnswer)


def read_embeddings(body: bytes) -> WholeAnswer | None:
    """Return what is read of an answer, or None where there are no vectors in it."""
    found = read_object(_ANSWER, body)
    if found is None or found.error or not bytes(found.data).startswith(b"["):
        return None
    return WholeAnswer(None, prompt_usage_of(found.usage), id_of(found.model))
