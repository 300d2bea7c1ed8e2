"""OpenAI Chat Completions as they are answered: whole, in pieces, and what they report of usage.

What is nested deeper than anybody looks stays undecoded, so that a proxy can afford to read.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct

from telemetry.wire.lenient import read_leniently, softened
from telemetry.wire.sse import BOM

T = TypeVar("T")

MAX_TOKENS = 1 << 31
"""What a provider may claim to have counted; more is a mistake of its own."""


class Usage(Struct, frozen=True):
    """Token counts of an answer."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int  # of the prompt, from the provider's cache
    reasoning_tokens: int  # of the completion, that nobody sees


def usage_of(value: Any) -> Usage | None:
    """Return what a provider reports, as far as it makes sense; None where it does not.

    | form | who |
    |---|---|
    | `prompt_tokens`, `completion_tokens`, details below each | OpenAI, and most others |
    | `input_tokens`, `output_tokens`, details below each | the Responses dialect |
    | `prompt_cache_hit_tokens` | DeepSeek: of the prompt, from its cache |
    | `cached_tokens` at the top | Moonshot, and others |
    | reasoning beside the completion, so that only all three make the total | xAI, and others |
    | more reasoning than completion | the same, without a total |
    | `cache_read_input_tokens` | Anthropic: beside `input_tokens`, or of `prompt_tokens` |
    | in a choice, or under `x_groq` | Moonshot; Groq: see `AnswerPart.reported` |
    """
    if not isinstance(value, dict):
        return None
    prompt = _first(value, "prompt_tokens", "input_tokens")
    if prompt is None:
        return None
    completion = _first(value, "completion_tokens", "output_tokens") or 0
    details = value.get("prompt_tokens_details") or value.get("input_tokens_details")
    cached = _first(details, "cached_tokens")
    if cached is None:
        names = ("prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens")
        cached = _first(value, *names) or 0
    if "prompt_tokens" not in value and _first(value, "cache_read_input_tokens") is not None:
        prompt += cached + (_first(value, "cache_creation_input_tokens") or 0)
    reasoning = reasoning_of(value)
    total = _first(value, "total_tokens")
    if reasoning and (total == prompt + completion + reasoning or reasoning > completion):
        completion += reasoning
    return Usage(prompt, completion, min(cached, prompt), reasoning)


def reasoning_of(value: Any) -> int:
    """Return how many tokens of an answer nobody sees, also where no other count makes sense."""
    if not isinstance(value, dict):
        return 0
    details = value.get("completion_tokens_details") or value.get("output_tokens_details")
    found = _first(details, "reasoning_tokens")
    return found if found is not None else _first(value, "reasoning_tokens") or 0


def id_of(value: Any) -> str | None:
    """Return an answer's id where it is one."""
    return value if isinstance(value, str) and value else None


def _first(value: Any, *names: str) -> int | None:
    """Return the first of these counts that is one."""
    if not isinstance(value, dict):
        return None
    for name in names:
        found = value.get(name)
        if found is not None and (count := _count(found)) is not None:
            return count
    return None


def _count(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value <= MAX_TOKENS else None


class _WholeChoice(Struct):
    message: Raw = Raw(b"")
    finish_reason: Any = None
    error: Any = None


class WholeAnswer(Struct):
    """The top of an unstreamed answer."""

    id: Any = None
    object: Any = None
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
    usage: Any = None


class AnswerPart(Struct):
    """An answer, or one event of a stream."""

    id: Any = None
    object: Any = None
    choices: list[ChoicePart] | None = None
    usage: Any = None
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


_WHOLE = msgspec.json.Decoder(WholeAnswer)
_PART = msgspec.json.Decoder(AnswerPart)


def parse_answer(body: bytes) -> WholeAnswer | None:
    """Return the top of an answer, or None where there is no answer in it."""
    answer = _decode(_WHOLE, body)
    if answer is None or not answer.choices or answer.error or answer.object == "error":
        return None
    if any(has_failed(choice) or bytes(choice.message) == b"null" for choice in answer.choices):
        return None
    return answer


def parse_part(data: bytes) -> AnswerPart | None:
    """Return an answer, or one event's data, with all of its choices; None where it is neither."""
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            return None
    part = _decode(_PART, data)
    return part if part is not None or not _is_object(data) else AnswerPart(is_odd=True)


def _is_object(data: bytes) -> bool:
    """Return whether it is JSON of another shape than ours: whoever reads it may know it."""
    try:
        return isinstance(read_leniently(data), dict)
    except ValueError:
        return False


def _decode(decoder: msgspec.json.Decoder[T], data: bytes) -> T | None:
    if data.startswith(BOM):
        data = data[len(BOM) :]
    try:
        return decoder.decode(data)
    except msgspec.ValidationError:
        return None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        pass
    try:
        return decoder.decode(softened(data))
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None
