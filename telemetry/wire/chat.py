"""OpenAI Chat Completions as they are answered: whole, in pieces, and what they report of usage.

What is nested deeper than anybody looks stays undecoded, so that a proxy can afford to read.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from telemetry.wire.reading import decode, read_object
from telemetry.wire.thoughts import IN_CHAT, marks_in, message_marks
from telemetry.wire.usage import PlainUsage, WholeAnswer, id_of, usage_of


class _WholeChoice(Struct):
    message: Raw = Raw(b"")
    finish_reason: Any = None
    stop_reason: Any = None  # vLLM: the stop sequence that came
    error: Any = None


class ChatAnswer(Struct):
    """The top of an unstreamed answer."""

    id: Any = None
    model: Any = None
    system_fingerprint: Any = None
    object: Any = None
    choices: list[_WholeChoice] | None = None
    usage: Any = None
    service_tier: Any = None
    error: Any = None


class _PlainChoice(Struct):
    message: Raw
    finish_reason: str | None = None
    error: None = None


class _PlainAnswer(Struct):
    """An unstreamed answer as nearly all are: whatever is otherwise is read as leniently as ever.

    All that could be read in two ways has one type here.
    """

    choices: list[_PlainChoice]
    usage: PlainUsage
    id: str | None = None
    model: str | None = None
    system_fingerprint: str | None = None
    object: str | None = None
    service_tier: str | None = None
    error: None = None


class ChoicePart(Struct):
    """One of the alternatives in an answer, whole (`message`) or a piece (`delta`)."""

    index: Any = 0
    message: dict[str, Any] | None = None
    delta: dict[str, Any] | None = None
    text: Any = None  # of legacy completions, whole or a piece
    finish_reason: Any = None
    stop_reason: Any = None  # vLLM: the stop sequence that came
    error: Any = None
    usage: Any = None


class AnswerPart(Struct):
    """An answer, or one event of a stream."""

    id: Any = None
    model: Any = None
    system_fingerprint: Any = None
    object: Any = None
    choices: list[ChoicePart] | None = None
    usage: Any = None
    service_tier: Any = None
    error: Any = None
    x_groq: Any = None
    is_odd: bool = False  # of a shape that we do not know, and so content

    @property
    def reported(self) -> Any:
        """The usage, wherever it is reported: at the top, in a choice, under `x_groq`."""
        if self.usage or not (self.choices or self.x_groq):
            return self.usage
        in_choices = next((c.usage for c in self.choices or () if c.usage), None)
        if in_choices is None and isinstance(self.x_groq, dict):
            return self.x_groq.get("usage")
        return in_choices

    @property
    def is_error(self) -> bool:
        """Whether it is an error, in a form that clients may take for one, or not."""
        return bool(self.error) or self.object == "error"


NO_CONTENT = frozenset({"role"})
"""What a piece may say without saying anything; whatever else is not empty is content: text,
reasoning, a refusal, a tool call, sound, an image, and what providers come up with next."""
FAILED_FINISHES = frozenset({"error", "network_error", "insufficient_system_resource"})
"""Finish reasons that say that there is no answer (OpenRouter; Zhipu; DeepSeek)."""


def says_something(said: dict[str, Any]) -> bool:
    """Return whether there is content in a message, or in a piece of one."""
    return any(value and name not in NO_CONTENT for name, value in said.items())


def has_failed(choice: ChoicePart | _WholeChoice) -> bool:
    """Return whether a choice says that it is none."""
    finish = choice.finish_reason
    return bool(choice.error) or (isinstance(finish, str) and finish in FAILED_FINISHES)


_WHOLE = msgspec.json.Decoder(ChatAnswer)
_PLAIN = msgspec.json.Decoder(_PlainAnswer)
_PART = msgspec.json.Decoder(AnswerPart)


def parse_answer(body: bytes) -> ChatAnswer | None:
    """Return the top of an answer, or None where there is no answer in it."""
    answer = decode(_WHOLE, body)
    if answer is None or not answer.choices or answer.error or answer.object == "error":
        return None
    for choice in answer.choices:
        if has_failed(choice) or bytes(choice.message) == b"null":
            return None
    return answer


def read_chat_answer(body: bytes) -> WholeAnswer | None:
    """Return what is read of an unstreamed answer, or None where there is no answer in it."""
    try:
        return _read_plain(_PLAIN.decode(body)) or _read_leniently(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return _read_leniently(body)


def _read_plain(found: _PlainAnswer) -> WholeAnswer | None:
    """Return the same of a plain answer; None where it has to be looked at again."""
    if not found.choices or found.object == "error":
        return None
    thoughts: tuple[str, ...] = ()
    for choice in found.choices:
        said = bytes(choice.message)
        if said == b"null" or choice.finish_reason in FAILED_FINISHES:
            return None
        if IN_CHAT.search(said) is not None:
            thoughts += marks_in((said,), IN_CHAT, message_marks)
    return WholeAnswer(
        found.id or None,
        found.usage.read(found.service_tier),
        found.model or None,
        found.system_fingerprint or None,
        thoughts,
    )


def _read_leniently(body: bytes) -> WholeAnswer | None:
    found = parse_answer(body)
    if found is None:
        return None
    said = [bytes(choice.message) for choice in found.choices or ()]
    return WholeAnswer(
        id_of(found.id),
        usage_of(found.usage, found.service_tier),
        id_of(found.model),
        id_of(found.system_fingerprint),
        marks_in(said, IN_CHAT, message_marks),
    )


def parse_part(data: bytes) -> AnswerPart | None:
    """Return an answer, or one event's data, with all of its choices; None where it is neither."""
    return read_object(_PART, data, otherwise=lambda: AnswerPart(is_odd=True))
