"""OpenAI's legacy completions: a prompt, or several, and text that goes on from each.

There are no tools, no turns and no schemas. Nothing is read off what is said.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
from msgspec import Raw, Struct

from router.dialects.body import NONE, BodyReader, LoneRequest, named, whole
from router.dialects.chat_stream import ChatStream
from router.dialects.request import BodyHints, Declared
from router.dialects.stream_options import asking_for_usage, leaves_usage_out
from router.endpoints.catalog import Endpoint
from router.endpoints.entries import Dialect
from telemetry.wire.completions import read_completion
from telemetry.wire.lenient import read_leniently
from telemetry.wire.sse import DONE
from telemetry.wire.usage import WholeAnswer


class CompletionsBody(Struct):
    """What is read of a request body; everything else passes unread."""

    model: str = ""
    prompt: Raw = NONE
    stream: Any = None
    stream_options: Any = None
    max_tokens: Any = None
    n: Any = None
    best_of: Any = None
    user: Any = None
    metadata: Raw = NONE
    router: Raw = NONE


_READER = BodyReader(CompletionsBody)
_PROMPTS = msgspec.json.Decoder(list[Raw])


class CompletionsRequest(LoneRequest):
    """One request, read as far as anybody looks."""

    __slots__ = ("_n_prompts", "_read")

    dialect = Dialect.COMPLETIONS

    def __init__(self, body: bytes, read: CompletionsBody, hints: BodyHints | None) -> None:
        super().__init__(body, read, hints, 0)
        self._read = read
        self._n_prompts = _count(read.prompt)

    @property
    def n_answers(self) -> int:
        """How many answers are made, each of up to `output_limit` tokens, for each prompt."""
        each = max(whole(self._read.n) or 1, whole(self._read.best_of) or 1)
        return each * self.n_prompts

    @property
    def n_prompts(self) -> int:
        """How many prompts it has, each of which is answered."""
        return max(self._n_prompts, 1)

    @property
    def output_limit(self) -> int | None:
        """The most tokens that the caller wants, of each choice."""
        return whole(self._read.max_tokens)

    @property
    def declared(self) -> Declared:
        """What it says of who asks."""
        return self._declared(named(self._read.user), None)

    @property
    def text_bytes(self) -> int:
        """The size of its text; of several prompts each may be as long as the model takes."""
        return len(self.body) if self._n_prompts == 1 else 0

    def open_stream(self, *, hide_usage: bool) -> ChatStream:
        """Return a reader of the streamed answer; its choices end as those of chats do."""
        n_choices = self._n_prompts * max(whole(self._read.n) or 1, 1)
        return ChatStream(hide_usage=hide_usage, n_choices=n_choices)

    def read_answer(self, body: bytes) -> WholeAnswer | None:
        """Return what is read of an unstreamed answer; None where there is no answer in it."""
        return read_completion(body)

    def as_stream(self, answer: bytes) -> bytes:
        """Return a whole answer as a stream, for a client whose stream has begun."""
        said = json.dumps(read_leniently(answer)).encode()
        return b"data: " + said + b"\n\ndata: " + DONE + b"\n\n"

    def _must_ask_usage(self, endpoint: Endpoint) -> bool:
        asks = self.streamed and endpoint.stream_usage
        return asks and leaves_usage_out(self._read.stream_options)

    def _ask_usage(self, top: dict[str, Raw]) -> None:
        top["stream_options"] = asking_for_usage(top.get("stream_options"))


def parse(body: bytes) -> CompletionsRequest:
    """Return what is read of a request.

    Raises:
        RequestRejected: not JSON, or a field that we read is of the wrong type.
    """
    read, hints = _READER.read(body)
    return CompletionsRequest(body, read, hints)


def _count(prompt: Raw) -> int:
    """Return how many prompts there are: a list of numbers is one, of tokens."""
    if bytes(prompt)[:1] != b"[":
        return 1
    prompts = _PROMPTS.decode(prompt)
    return len(prompts) if prompts and bytes(prompts[0])[:1] in (b'"', b"[") else 1
