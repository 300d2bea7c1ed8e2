"""What is read of an answer that is passed on: usage and id, in whatever dialect it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from router.dialects.chat_stream import ChatStream
from router.dialects.errors import dialect_of
from router.dialects.messages_stream import MessagesStream
from router.dialects.responses_stream import ResponsesStream
from router.dialects.stream import AnswerStream
from router.dispatch.ending import Ending
from router.endpoints.catalog import CALL_PATHS
from router.endpoints.entries import Dialect
from router.net.codings import (
    MAX_ANSWER_BYTES,
    CodingDamaged,
    DecodedTooLarge,
    Decoder,
    are_known,
    codings_of,
)
from router.net.exchange import Header
from telemetry.wire.chat import read_chat_answer
from telemetry.wire.completions import read_completion
from telemetry.wire.embeddings import read_embeddings
from telemetry.wire.messages import read_messages_answer
from telemetry.wire.reading import LEADING_BYTES, leading_id
from telemetry.wire.responses import read_item_ids, read_response
from telemetry.wire.told import read_tail, read_told
from telemetry.wire.usage import WholeAnswer

MAX_READ_BYTES = 8 << 20
"""Of longer answers nothing is read but the id at their begin and the usage at their end."""
TAIL_BYTES = 4096


STREAMS: dict[Dialect, Callable[[], AnswerStream]] = {
    Dialect.CHAT: partial(ChatStream, hide_usage=False),
    Dialect.MESSAGES: MessagesStream,
    Dialect.RESPONSES: ResponsesStream,
    Dialect.EMBEDDINGS: partial(ChatStream, hide_usage=False),
    Dialect.COMPLETIONS: partial(ChatStream, hide_usage=False),
}
READERS: dict[Dialect, Callable[[bytes], WholeAnswer | None]] = {
    Dialect.CHAT: read_chat_answer,
    Dialect.MESSAGES: read_messages_answer,
    Dialect.RESPONSES: read_response,
    Dialect.EMBEDDINGS: read_embeddings,
    Dialect.COMPLETIONS: read_completion,
}


@dataclass(slots=True)
class AnswerCopy(Ending):
    """What is read of an answer on its way."""

    dialect: Dialect = Dialect.CHAT
    stream: AnswerStream | None = None
    body: bytearray = field(default_factory=bytearray)
    tail: bytes = b""  # of one that is longer than is read
    decoder: Decoder | None = None
    readable: bool = True
    is_begun: bool = False  # so much is here that its id would be

    def begin(self, headers: Sequence[Header]) -> None:
        """Read the head: what kind of answer it is, in which codings, and what it cost."""
        self.read_head(headers)
        if any(k == b"content-type" and b"event-stream" in v for k, v in headers):
            self.stream = STREAMS[self.dialect]()
        codings = codings_of(headers)
        self.readable = are_known(codings)
        if codings and self.readable:
            self.decoder = Decoder(codings, limit=MAX_ANSWER_BYTES, lenient=True)

    def read(self, chunk: bytes) -> None:
        """Take a copy of what is needed of a chunk."""
        if not self.readable:
            return
        try:
            if self.decoder is not None:
                chunk = self.decoder.feed(chunk)
        except (CodingDamaged, DecodedTooLarge):
            self.readable = False
            return
        if self.stream is not None:
            self.stream.feed(chunk)
        elif len(self.body) <= MAX_READ_BYTES:
            self.body += chunk
            self.tail = bytes(self.body[-TAIL_BYTES:]) if self._is_long else b""
        else:
            self.tail = (self.tail + chunk)[-TAIL_BYTES:]
        if self.ttft_s is None and self.stream is not None and self.stream.spoke:
            self.ttft_s = time.monotonic() - self.began_at

    @property
    def _is_long(self) -> bool:
        return len(self.body) > MAX_READ_BYTES

    def early_id(self) -> str | None:
        """Return the id of an unstreamed answer from its first bytes: it may break off later."""
        if self.is_begun:
            return None
        self.is_begun = len(self.body) >= LEADING_BYTES
        return leading_id(bytes(self.body[:LEADING_BYTES]))

    def whole_ids(self) -> tuple[str | None, str | None]:
        """Return the ids of an unstreamed answer that is here, and of its container.

        It may be of whatever kind; of a long one its own id is read. One that says that it failed
        has none.
        """
        if self._is_long:
            return leading_id(bytes(self.body[:LEADING_BYTES])), None
        read = read_messages_answer if self.dialect is Dialect.MESSAGES else read_response
        found = read(bytes(self.body)) if self.readable else None
        return (found.id, found.container) if found is not None else (None, None)

    def item_ids_here(self) -> tuple[str, ...]:
        """Return the ids of items in what has passed: of a response, or of a list of them."""
        if self.stream is not None:
            return self.stream.item_ids
        is_read = self.readable and not self._is_long
        return read_item_ids(bytes(self.body)) if is_read else ()

    def close(self) -> None:
        """Work out what the answer reports of itself."""
        self.latency_s = time.monotonic() - self.began_at
        if self.stream is not None:
            self.usage, self.answer_id = self.stream.usage, self.stream.id
            self.model = self.stream.model
            return
        is_read = self.readable and not self._is_long
        answer = READERS[self.dialect](bytes(self.body)) if is_read else None
        if answer is not None:
            self.usage, self.answer_id, self.model = answer.usage, answer.id, answer.model
        elif self.readable:  # of no dialect, or none
            told = read_tail(self.tail) if self._is_long else read_told(bytes(self.body))
            self.usage, self.model = told.usage, told.model


def answered_in(method: str, path: str) -> Dialect:
    """Return how an answer is to be read; what answers no call of a dialect is read as chat's.

    A response that is only looked up was counted when it was made.
    """
    dialect = dialect_of(path)
    is_call = method == "POST" and path == f"/v1/{CALL_PATHS[dialect]}"
    return dialect if is_call else Dialect.CHAT
