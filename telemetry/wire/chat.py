"""OpenAI Chat Completions as they are answered: whole, in pieces, and what they report of usage.

What is nested deeper than anybody looks stays undecoded, so that a proxy can afford to read.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

MAX_TOKENS = 1 << 31
"""What a provider may claim to have counted; more is a mistake of its own."""


class Usage(Struct, frozen=True):
    """Token counts of an answer."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int  # of the prompt, from the provider's cache
    reasoning_tokens: int  # of the completion, that nobody sees


def usage_of(value: Any) -> Usage | None:
    """Return what a provider reports, as far as it makes sense; None where it does not."""
    if not isinstance(value, dict) or _count(value.get("prompt_tokens")) is None:
        return None
    prompt = value.get("prompt_tokens_details")
    completion = value.get("completion_tokens_details")
    return Usage(
        _count(value.get("prompt_tokens")) or 0,
        _count(value.get("completion_tokens")) or 0,
        _count(prompt.get("cached_tokens")) or 0 if isinstance(prompt, dict) else 0,
        _count(completion.get("reasoning_tokens")) or 0 if isinstance(completion, dict) else 0,
    )


def id_of(value: Any) -> str | None:
    """Return an answer's id where it is one."""
    return value if isinstance(value, str) and value else None


def _count(value: Any) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value <= MAX_TOKENS else None


class _WholeChoice(Struct):
    message: Raw = Raw(b"")
    finish_reason: Any = None
    error: Any = None


class WholeAnswer(Struct):
    """The top of an unstreamed answer."""

    id: Any = None
    choices: list[_WholeChoice] | None = None
    usage: Any = None
    error: Any = None


class ChoicePart(Struct):
    """One of the alternatives in an answer, whole (`message`) or a piece (`delta`)."""

    index: Any = 0
    message: dict[str, Any] | None = None
    delta: dict[str, Any] | None = None
    finish_reason: Any = None
    error: Any = None


class AnswerPart(Struct):
    """An answer, or one event of a stream."""

    id: Any = None
    choices: list[ChoicePart] | None = None
    usage: Any = None
    error: Any = None


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
    return choice.error is not None or choice.finish_reason in FAILED_FINISHES


_WHOLE = msgspec.json.Decoder(WholeAnswer)
_PART = msgspec.json.Decoder(AnswerPart)


def parse_answer(body: bytes) -> WholeAnswer | None:
    """Return the top of an answer, or None where there is no answer in it."""
    try:
        answer = _WHOLE.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if not answer.choices or answer.error is not None:
        return None
    if any(has_failed(choice) or bytes(choice.message) == b"null" for choice in answer.choices):
        return None
    return answer


def parse_part(data: bytes) -> AnswerPart | None:
    """Return an answer, or one event's data, with all of its choices; None where it is neither."""
    try:
        return _PART.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
