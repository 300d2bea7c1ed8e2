"""A call in the dialect of an endpoint that does not speak its own, and the way back."""

from __future__ import annotations

import json
from typing import Any

from router.dialects.request import CallRequest
from router.dialects.stream import AnswerStream
from router.endpoints.catalog import Endpoint
from router.endpoints.entries import Dialect
from router.translation.errors import translated_refusal
from router.translation.prompt import Prompt, Written
from telemetry.wire.usage import WholeAnswer


class TranslatedCall:
    """What goes out of a call, and how its answer comes back in the caller's dialect."""

    is_translated = True

    def __init__(
        self,
        came: CallRequest,
        asked: Prompt,
        written: Written,
        into: Dialect,
        *,
        begun_at_s: float,
    ) -> None:
        """Make it.

        Args:
            came: the call as its client sent it.
            into: the dialect of `written`.
            begun_at_s: epoch seconds, for answers that must say when they were made.
        """
        self.dialect = into
        self.left_out = tuple(sorted(written.left_out))
        self.streamed = came.streamed
        self.repeatable = True  # what would be kept is not sent, or left out
        self._came = came
        self._asked = asked
        self._body = written.body
        self._created = int(begun_at_s)

    def fields(self, endpoint: Endpoint) -> dict[str, bytes]:
        """Return the top-level fields that an endpoint gets, as JSON, without what we add."""
        top = {name: _encoded(value) for name, value in self._body.items()}
        return top | endpoint.params

    def rewritten(self, endpoint: Endpoint, *, ask_usage: bool = True) -> tuple[bytes, bool]:
        """Return the body for an endpoint; its usage chunk is read here, and never hidden."""
        body = {"model": endpoint.upstream_model} | self._body
        if not (ask_usage and endpoint.stream_usage):
            body.pop("stream_options", None)
        params = {name: json.loads(value) for name, value in endpoint.params.items()}
        return _encoded(body | params), "stream_options" in body

    def open_stream(self, *, hide_usage: bool) -> AnswerStream:
        """Return a reader of the streamed answer, which passes on what the caller reads."""
        return self._back.open_stream()

    def read_answer(self, body: bytes) -> WholeAnswer | None:
        """Return what is read of an unstreamed answer; None where there is no answer in it."""
        return self._back.read(body)

    def as_callers(self, answer: bytes) -> bytes:
        """Return an unstreamed answer as its caller reads it."""
        return self._back.whole(answer)

    def refusal_as_callers(self, status: int, body: bytes) -> bytes:
        """Return a provider's refusal as its caller reads it."""
        return translated_refusal(status, body, self.dialect, self._came.dialect)


def _encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
