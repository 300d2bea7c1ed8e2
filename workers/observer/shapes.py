"""What is read of a call: one shape, whatever dialect it came in. Pure.

Each dialect has a reader that makes it; whatever judges or compares knows this shape alone.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

MAX_CHOICES = 128
MAX_CALLS = 128
"""Per choice; more than this is no answer that anybody acts on."""
SORTED = msgspec.json.Encoder(order="deterministic")  # not msgpack: integers may be of any size


class ToolCall(Struct, frozen=True):
    """A tool call of a model, in a request's history or in an answer."""

    id: str
    name: str
    arguments: str
    is_custom: bool = False  # its arguments are free text

    def canonical(self) -> bytes:
        """Return name and arguments, the same for any way to write them."""
        try:
            arguments = SORTED.encode(msgspec.json.decode(self.arguments or "{}"))
        except (msgspec.DecodeError, RecursionError):
            arguments = self.arguments.encode()
        return self.name.encode() + b"\0" + arguments


class Message(Struct):
    """One turn of a request; what a tool returned is one of its own."""

    role: str  # system, user, assistant, tool, or what a client calls it
    text: str
    others: list[Any] = []  # parts that are no text, without what clients add and drop at will
    calls: list[ToolCall] = []  # of an assistant
    call_id: str = ""  # of the call that this is the result of
    name: str = ""
    refusal: str = ""
    is_error: bool | None = None  # whether the call failed, where the dialect has a field for it


class ReadRequest(Struct):
    """What is read of a request."""

    messages: list[Message]
    tools: dict[str, bytes | None]
    """Schema of the parameters by name, empty where any object will do; None for free text."""
    n_tools: int = 0  # as they were listed
    has_own_tools: bool = False  # of the provider: what those are called is its own affair
    choice: Any = None  # of tools, as it was written
    demanded: frozenset[str] | None = None
    """Which tools the answer had to call; empty if any would do, None if it need not."""
    forbids_tools: bool = False
    form: str = ""  # json_schema, json_object, or any other
    schema: bytes = b""  # empty where there is none
    limit: Any = None  # of the output, in tokens
    has_stops: bool = False  # sequences at which the answer was to end
    model: Any = None
    temperature: Any = None
    top_p: Any = None
    varies: bool = False  # a repetition is meant to be another answer
    goes_on_from: str = ""  # names turns that lie at the provider, always the same ones
    adds_to: str = ""  # names a conversation at the provider that each call makes longer
    is_partial: bool = False  # some of its turns lie at the provider


class Choice(Struct, frozen=True):
    """One of the alternatives in an answer."""

    text: str
    refusal: str
    calls: tuple[ToolCall, ...]
    finish: str  # stop, length, content_filter, refusal, error, or what a provider calls it
    reasoned: bool  # reasoning was sent along
    has_media: bool  # sound, images, what a provider's tool did: no text is needed


class ReadAnswer(Struct, frozen=True):
    """What is read of an answer."""

    choices: tuple[Choice, ...]
    reasoning_tokens: int


def text_of(content: Any) -> tuple[str, list[Any]]:
    """Return the text of a message's content, and the parts that are no text."""
    if isinstance(content, str):
        return content, []
    texts, others = [], []
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict) and isinstance(text := part.get("text"), str):
            texts.append(text)
        elif isinstance(part, str):
            texts.append(part)
        elif part is not None:
            others.append(bare(part))
    return "".join(texts), others


def bare(value: Any) -> Any:
    """Return a part without nulls and cache marks, which clients add and drop at will."""
    if isinstance(value, dict):
        return {k: bare(v) for k, v in value.items() if v is not None and k != "cache_control"}
    return [bare(v) for v in value] if isinstance(value, list) else value


def arguments_of(value: Any) -> str:
    """Return a call's arguments as text; some send an object, and one dialect always does."""
    return SORTED.encode(value).decode() if isinstance(value, dict) else as_text(value)


def as_text(value: Any) -> str:
    """Return what is text; nothing for anything else."""
    return value if isinstance(value, str) else ""
