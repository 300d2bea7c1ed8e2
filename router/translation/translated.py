"""A call in the dialect of an endpoint that does not speak its own, and the way back."""

from __future__ import annotations

import json
from typing import Any

from msgspec import structs

from router.dialects.keeping import FIELDS, Keeping, keeping_in
from router.dialects.request import CallRequest
from router.endpoints.catalog import Endpoint
from router.endpoints.entries import Dialect
from router.translation import exact
from router.translation.answers import translated_answer, translated_stream
from router.translation.errors import error_instead, translated_refusal
from router.translation.prompt import Prompt, Written
from router.translation.stream import TranslatedStream
from telemetry.wire.chat import read_chat_answer
from telemetry.wire.messages import read_messages_answer
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
        self.repeatable = True  # nothing is kept by whom it is sent to
        self._came = came
        self._asked = asked
        self._body = written.body
        self._created = int(begun_at_s)

    def fields(self, endpoint: Endpoint) -> dict[str, bytes]:
        """Return the top-level fields that an endpoint gets, as JSON, without what we add."""
        top = {name: exact.encoded(value).encode() for name, value in self._body.items()}
        return top | endpoint.params

    def keeping_at(self, endpoint: Endpoint) -> tuple[Keeping, ...]:
        """Return what it keeps at an endpoint: no more than the endpoint's `params` ask for."""
        body = {name: value for name, value in self._body.items() if name in FIELDS}
        top = {name: exact.encoded(value).encode() for name, value in body.items()}
        return keeping_in(self.dialect, top | endpoint.params)

    def rewritten(self, endpoint: Endpoint, *, ask_usage: bool = True) -> tuple[bytes, bool]:
        """Return the body for an endpoint, and whether its usage was asked for by us alone."""
        body = {"model": endpoint.upstream_model} | self._body
        if not (ask_usage and endpoint.stream_usage):
            body.pop("stream_options", None)
        params = {name: json.loads(value) for name, value in endpoint.params.items()}
        return exact.encoded(body | params).encode(), "stream_options" in body

    def open_stream(self, *, hide_usage: bool) -> TranslatedStream:
        """Return a reader of the streamed answer, which passes on what the caller reads."""
        echo = self._echo()
        options = echo.get("stream_options")
        return translated_stream(
            speaks=self.dialect,
            to=self._came.dialect,
            asked=self._asked,
            echo=echo,
            created=self._created,
            told=self._came.open_stream(hide_usage=False) if self._tells_thoughts else None,
            shows_usage=isinstance(options, dict) and bool(options.get("include_usage")),
        )

    def read_answer(self, body: bytes) -> WholeAnswer | None:
        """Return what is read of an unstreamed answer; None where there is no answer in it."""
        reads = read_messages_answer if self.dialect is Dialect.MESSAGES else read_chat_answer
        found = reads(body)
        if found is None:
            return None
        told = self.as_callers(body) if self._tells_thoughts else None
        as_told = self._came.read_answer(told) if told is not None else None
        return structs.replace(found, thoughts=as_told.thoughts if as_told else ())

    def as_callers(self, answer: bytes) -> bytes | None:
        """Return an unstreamed answer as its caller reads it; None where it cannot be said."""
        return translated_answer(
            answer,
            speaks=self.dialect,
            to=self._came.dialect,
            asked=self._asked,
            echo=self._echo(),
            created=self._created,
        )

    def refusal_as_callers(self, status: int, body: bytes) -> bytes:
        """Return a provider's refusal as its caller reads it."""
        return translated_refusal(status, body, self.dialect, self._came.dialect)

    def instead_as_callers(self, status: int, body: bytes) -> tuple[int, bytes] | None:
        """Return status and body that tell of what came for an answer; None: it says nothing."""
        return error_instead(body, self.dialect, self._came.dialect)

    @property
    def _tells_thoughts(self) -> bool:
        """Whether the caller may send back what it is told of thoughts."""
        return self._asked.shows_thinking and self._came.dialect is not Dialect.CHAT

    def _echo(self) -> dict[str, Any]:
        """Return the request as it came, of which some answers say fields again."""
        found = exact.decoded(self._came.body.decode("utf-8-sig"))
        assert isinstance(found, dict)  # it was read before
        return found
