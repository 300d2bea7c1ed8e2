"""Embeddings: what of a request is read. There is no stream, and no conversation.

Vectors of two models do not mix, so a call is never served by another model than the last one was.
"""

from __future__ import annotations

from typing import Any

from msgspec import Raw, Struct

from router.dialects.body import NONE, BodyReader, LoneRequest, named
from router.dialects.request import BodyHints, Declared
from router.dialects.stream import AnswerStream
from router.endpoints.capabilities import Needs
from router.endpoints.entries import Dialect
from telemetry.wire.embeddings import read_embeddings
from telemetry.wire.usage import WholeAnswer


class EmbeddingsBody(Struct):
    """What is read of a request body; everything else passes unread."""

    model: str = ""
    stream: Any = None
    user: Any = None
    metadata: Raw = NONE
    router: Raw = NONE


_READER = BodyReader(EmbeddingsBody)


class EmbeddingsRequest(LoneRequest):
    """One request, read as far as anybody looks."""

    __slots__ = ("_read",)

    dialect = Dialect.EMBEDDINGS
    output_limit = None

    def __init__(self, body: bytes, read: EmbeddingsBody, hints: BodyHints | None) -> None:
        super().__init__(body, read, hints, Needs.EMBEDDINGS)
        self.streamed = False  # whatever is asked: nobody streams vectors
        self._read = read

    @property
    def declared(self) -> Declared:
        """What it says of who asks."""
        return self._declared(named(self._read.user), None)

    @property
    def text_bytes(self) -> int:
        """The size of its text. What it holds are many texts, each as long as may be."""
        return 0

    def read_answer(self, body: bytes) -> WholeAnswer | None:
        """Return what is read of an answer; None where there is no answer in it."""
        return read_embeddings(body)

    def open_stream(self, *, hide_usage: bool) -> AnswerStream:
        """Never called: vectors do not come in pieces."""
        raise TypeError("embeddings are not streamed")

    def as_stream(self, answer: bytes) -> bytes:
        """Never called, as above."""
        raise TypeError("embeddings are not streamed")


def parse(body: bytes) -> EmbeddingsRequest:
    """Return what is read of a request.

    Raises:
        RequestRejected: not JSON, or a field that we read is of the wrong type.
    """
    read, hints = _READER.read(body)
    return EmbeddingsRequest(body, read, hints)
